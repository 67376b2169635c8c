package main

import (
	"context"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) trace() *cobra.Command {
	return &cobra.Command{
		Use:     "trace FLOW",
		GroupID: groupLook,
		Short:   "Tell what would happen to a frame, step by step",
		Long: `Walks a frame through the switch as the first frame of a flow walks, and prints each decision and the verdict.
Nothing is sent, learned or counted. FLOW is written as for "ovs-appctl ofproto/trace": in_port=PORT and what else is known of the
frame, separated by commas.`,
		Example: `  vsctl trace in_port=web,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80
  vsctl trace in_port=web,arp,arp_tpa=10.0.0.1`,
		Args:              arguments("FLOW"),
		ValidArgsFunction: a.complete(inPorts),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
			t, err := c.Trace(ctx, api.TraceRequest{Flow: args[0]})
			if err != nil {
				return err
			}
			return a.print(t, func() {
				a.line("Flow: %s", t.Flow)
				for _, step := range t.Steps {
					a.line("  %s", step)
				}
				a.line("Verdict: %s", t.Verdict)
			})
		}),
	}
}
