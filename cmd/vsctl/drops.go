package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
)

func (a *app) drops() *cobra.Command {
	return &cobra.Command{
		Use:     "drops",
		GroupID: groupLook,
		Short:   "Packets that were dropped, and why",
		Example: `  vsctl drops
  vsctl drops -o yaml`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			list, err := c.Drops(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func() {
				var rows [][]string
				for _, d := range list {
					rows = append(rows, []string{d.Port, strconv.FormatUint(d.Packets, 10), d.Reason, d.Sentence})
				}
				a.table([]string{"PORT", "PACKETS", "REASON", "MEANING"}, rows)
			})
		}),
	}
}
