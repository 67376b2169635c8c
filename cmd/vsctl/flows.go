package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
)

func (a *app) flows() *cobra.Command {
	list := a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		flows, err := c.Flows(ctx, first(args))
		if err != nil {
			return err
		}
		return a.print(flows, func() {
			var rows [][]string
			for _, f := range flows {
				rows = append(rows, []string{strconv.Itoa(f.Worker), f.InPort, strconv.FormatUint(f.Packets, 10),
					strconv.FormatUint(f.Bytes, 10), strconv.Itoa(f.Idle), f.Match, f.Actions})
			}
			a.table([]string{"WORKER", "IN_PORT", "PACKETS", "BYTES", "IDLE", "MATCH", "ACTIONS"}, rows)
		})
	})
	cmd := a.tableNoun("flows", "[PORT]", "Decisions that the workers have cached", portNames, list, nil)
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
