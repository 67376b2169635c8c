package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
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
		RunE: listing(a, whole((*ctl.Client).Drops),
			[]string{"PORT", "PACKETS", "REASON", "MEANING"}, func(d *api.Drop) []string {
				return []string{d.Port, strconv.FormatUint(d.Packets, 10), d.Reason, d.Sentence}
			}),
	}
}
