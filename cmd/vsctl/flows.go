package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) flows() *cobra.Command {
	entries := listing(a, (*ctl.Client).Flows,
		[]string{"WORKER", "IN_PORT", "PACKETS", "BYTES", "IDLE", "MATCH", "ACTIONS"}, func(f *api.Flow) []string {
			return []string{strconv.Itoa(f.Worker), f.InPort, strconv.FormatUint(f.Packets, 10), strconv.FormatUint(f.Bytes, 10), strconv.Itoa(f.Idle),
				f.Match, f.Actions}
		})
	cmd := a.tableNoun("flows", "[PORT]", "Decisions that the workers have cached", portNames, entries, nil)
	cmd.Long = "Lists the flows that the workers have cached: of frames that came in by any port, or by one. Idle is in seconds."
	cmd.Example = `  vsctl flows
  vsctl flows web
  vsctl flows flush`
	cmd.AddCommand(&cobra.Command{
		Use:               "flush",
		Short:             "Forget all cached flows; each is decided again at its next frame",
		Example:           "  vsctl flows flush",
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			n, err := c.FlushFlows(ctx)
			return a.flushed(n, err)
		}),
	})
	return cmd
}
