package main

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) conntrack() *cobra.Command {
	var f api.ConnectionFilter
	list := a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		if err := ofNetwork(&f, args); err != nil {
			return err
		}
		connections := []api.Connection{}
		for row, err := range c.Connections(ctx, f) {
			if err != nil {
				return err
			}
			connections = append(connections, row)
		}
		slices.SortFunc(connections, compareConnections)
		return a.print(connections, func() {
			var rows [][]string
			for i := range connections {
				rows = append(rows, connectionRow(&connections[i]))
			}
			a.table([]string{"NETWORK", "PORT", "PEER", "PROTO", "STATE", "TIMEOUT", "SOURCE", "DESTINATION", "TRANSLATED"}, rows)
		})
	})
	flush := a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		if err := ofNetwork(&f, args); err != nil {
			return err
		}
		n, err := c.FlushConnections(ctx, f)
		return a.flushed(n, err)
	})
	cmd := a.tableNoun("conntrack", "[NETWORK]", "Connections that are translated, or whose answers would be", networkNames, list, flush)
	cmd.GroupID = groupRouting
	cmd.Long = `Lists the connections that a network's gateway translates, or whose answers it would: all, or those that a network opened, narrowed further by
options, all of which must hold. PORT is where a connection was opened, PEER the port of the other side. TIMEOUT is in seconds: then it ends,
when nothing comes. The identifier of an ICMP echo stands as source port. What is flushed is decided anew at its next frame, and may get another
external port.`
	cmd.Example = `  vsctl conntrack
  vsctl conntrack net1 --proto tcp --state established
  vsctl conntrack --port web --dst 10.2.0.0/24 --dport 5432 -o json
  vsctl conntrack flush net1 --src 10.0.0.2`
	for _, c := range append(cmd.Commands(), cmd) {
		a.connectionFlags(c, &f)
		if c.Name() == "flush" {
			c.Short = "End connections: all, or those that a network opened and all options name"
			c.Example = "  vsctl conntrack flush net1 --proto udp --dport 53\n  vsctl conntrack flush --port web"
		}
	}
	return cmd
}

// compareConnections is the order of lists: by router, network, port, protocol and endpoints.
func compareConnections(a, b api.Connection) int {
	return cmp.Or(cmp.Compare(a.Router, b.Router), cmp.Compare(a.Network, b.Network), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto),
		compareTuples(&a.Original, &b.Original))
}

func compareTuples(a, b *api.Tuple) int {
	ends := func(t *api.Tuple) [2]netip.AddrPort {
		return [2]netip.AddrPort{netip.AddrPortFrom(t.Src, t.SrcPort), netip.AddrPortFrom(t.Dst, t.DstPort)}
	}
	x, y := ends(a), ends(b)
	return cmp.Or(x[0].Compare(y[0]), x[1].Compare(y[1]))
}

// ofNetwork takes the network from the arguments, if there is one. An empty one is a mistake: it must not flush all.
func ofNetwork(f *api.ConnectionFilter, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return f.Set("network", args[0])
}

// connectionFlags are the keys of a filter but for the network, which is an argument.
func (a *app) connectionFlags(cmd *cobra.Command, f *api.ConnectionFilter) {
	for key, text := range map[string]string{
		"port":   "only with `PORT` on either side",
		"router": "only those of the router of that `NAME`",
		"proto":  "only of the protocol, as `NAME` or number",
		"state":  "only in this `STATE`: new, opening, established, closing or aborted",
		"src":    "only those opened from this address, or a subnet, as `CIDR`",
		"dst":    "only those to this address, or a subnet, as `CIDR`; also as translated",
		"sport":  "only those opened from this port, as `N`",
		"dport":  "only those to this port, as `N`; also as translated",
	} {
		cmd.Flags().Func(key, text, func(s string) error { return usage(f.Set(key, s)) })
	}
	cmd.Flags().BoolVar(&f.Translated, "translated", false, "only those whose addresses or ports are translated")
	for key, names := range map[string]lister{"port": portNames, "router": routerNames} {
		must(cmd.RegisterFlagCompletionFunc(key, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return a.list(cmd.Context(), names, nil), cobra.ShellCompDirectiveNoFileComp
		}))
	}
	must(cmd.RegisterFlagCompletionFunc("proto", fixed(api.Protocols)))
	must(cmd.RegisterFlagCompletionFunc("state", fixed(api.ConnectionStates)))
}

func connectionRow(c *api.Connection) []string {
	as := ""
	if t := c.Translated; t != nil {
		as = t.Source() + " > " + t.Destination()
	}
	return []string{c.Network, c.Port, c.Peer, c.Proto, c.State, strconv.Itoa(c.Timeout), c.Original.Source(), c.Original.Destination(), as}
}
