package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) addRoute() *cobra.Command {
	var r api.RouteRequest
	cmd := &cobra.Command{
		Use:     "add-route PREFIX via NEXTHOP[,NEXTHOP...]",
		GroupID: groupRouting,
		Short:   "Give a router a static route",
		Long: `Gives a router a static route: datagrams to PREFIX go to a station in one of its networks. Flows are spread over several next hops;
while one does not answer, its flows take the others. A route is inactive while no network of the router has a next hop of it.
PREFIX may be default: all of IPv4 or IPv6, as the next hops are.`,
		Example: `  vsctl add-route 10.9.0.0/16 via 10.1.0.9
  vsctl add-route default via fd01::9
  vsctl add-route 10.8.0.0/16 via 10.1.0.9,10.1.0.10 --metric 5 --router lab`,
		ValidArgsFunction: a.complete(nil, func(context.Context, *ctl.Client, []string) []string { return []string{"via"} }, nil),
	}
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		switch {
		case len(args) > 1 && args[1] != "via":
			return fmt.Errorf("%q stands where via is wanted: add-route PREFIX via NEXTHOP", args[1])
		case len(args) > 4 && args[3] == "metric": // as ip has it
			return fmt.Errorf("the metric is a flag: --metric %s", args[4])
		}
		if err := arguments("PREFIX", "via", "NEXTHOP")(cmd, args); err != nil {
			return err
		}
		if r.NextHops, err = api.ParseNextHops(args[2]); err != nil {
			return usage(err)
		}
		r.Prefix, err = api.ParseRoutePrefix(args[0], r.NextHops[0])
		return usage(err)
	}
	cmd.RunE = a.change(func([]string) any { return &r }, func(done api.OperationResult) { a.routeLine(done.Route) })
	a.routeFlags(cmd, &r, "of routes to the same prefix the one with the lowest `N` counts (default 1)")
	cmd.Flags().BoolVar(&r.MayExist, "may-exist", false, "do nothing if there is the same route already")
	return cmd
}

func (a *app) delRoute() *cobra.Command {
	var r api.RouteRequest
	cmd := &cobra.Command{
		Use:     "del-route PREFIX",
		GroupID: groupRouting,
		Short:   "Take a static route away",
		Long:    "Takes a static route away. PREFIX may be default for 0.0.0.0/0; that of IPv6 is ::/0.",
		Example: `  vsctl del-route 10.9.0.0/16
  vsctl del-route ::/0 --router lab --if-exists`,
		ValidArgsFunction: a.complete(staticPrefixes),
	}
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		if len(args) > 1 && args[1] == "via" {
			return errors.New("a route goes by its prefix, and --metric where there are several: leave out via and what is behind it")
		}
		if err := arguments("PREFIX")(cmd, args); err != nil {
			return err
		}
		r.Prefix, err = api.ParseRoutePrefix(args[0], netip.Addr{})
		return usage(err)
	}
	cmd.RunE = a.change(func([]string) any { return &r }, silent)
	a.routeFlags(cmd, &r, "metric of the route, as `N`, where there are several to the prefix")
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if there is no such route")
	return cmd
}

// usage makes an error of the command line of one that has the form of the daemon's.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s", err.Error())
}

func (a *app) routeFlags(cmd *cobra.Command, r *api.RouteRequest, metric string) {
	cmd.Flags().StringVar(&r.Router, "router", "", "`NAME` of the router (default main)")
	cmd.Flags().Func("metric", metric, counted(&r.Metric, maxMetric))
	must(cmd.RegisterFlagCompletionFunc("router", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.list(cmd.Context(), routerNames, nil), cobra.ShellCompDirectiveNoFileComp
	}))
}

// routeLine prints what became of a route, and why no datagram takes it, if so.
func (a *app) routeLine(r *api.RouteEntry) {
	why := ""
	switch {
	case a.dryRun || r.Active:
	case len(r.Networks) == 0:
		why = fmt.Sprintf(" (inactive: its next hop is no station in a network of router %s)", r.Router)
	default:
		why = " (inactive: another route to the prefix counts)"
	}
	a.line("%s%s", r.RouteConfig, why)
}

func (a *app) listRoutes() *cobra.Command {
	return &cobra.Command{
		Use:     "list-routes [ROUTER]",
		GroupID: groupRouting,
		Short:   "List routes",
		Long: `Lists the routes of all routers, or of one: the subnets of their networks (connected), and static ones. One that is not active
has no next hop in a network of the router, or another route to the prefix counts.`,
		Example: `  vsctl list-routes
  vsctl list-routes main -o json`,
		Args:              arguments("[ROUTER]"),
		ValidArgsFunction: a.complete(routerNames),
		RunE: listing(a, (*ctl.Client).Routes,
			[]string{"ROUTER", "PREFIX", "VIA", "NETWORK", "METRIC", "ORIGIN", "STATE"}, func(r *api.RouteEntry) []string {
				state := "active"
				if !r.Active {
					state = "inactive"
				}
				return []string{r.Router, r.Prefix.String(), joined(r.NextHops, ","), strings.Join(r.Networks, ","), strconv.Itoa(int(r.Metric)),
					r.Origin, state}
			}),
	}
}

func (a *app) neigh() *cobra.Command {
	entries := listing(a, (*ctl.Client).Neighbors,
		[]string{"NETWORK", "ADDRESS", "MAC", "STATE", "IDLE", "WAITING"}, func(n *api.Neighbor) []string {
			return []string{n.Network, n.Address.String(), n.MAC, n.State, strconv.Itoa(n.Idle), strconv.Itoa(n.Waiting)}
		})
	flush := a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		n, err := c.FlushNeighbors(ctx, first(args))
		return a.flushed(n, err)
	})
	cmd := a.tableNoun("neigh", "[NETWORK]", "Neighbors of the routers: ARP and Neighbor Discovery", networkNames, entries, flush)
	cmd.GroupID = groupRouting
	cmd.Long = `Lists which MAC addresses the routers found out by ARP and Neighbor Discovery, in all networks or in one. IDLE is in seconds since a
neighbor was used or changed its state; WAITING are frames that wait for its answer.`
	cmd.Example = `  vsctl neigh
  vsctl neigh net1
  vsctl neigh flush net1`
	return cmd
}

func routerNames(ctx context.Context, c *ctl.Client, _ []string) (names []string) {
	list, _ := c.Routes(ctx, "")
	for _, r := range list {
		names = append(names, r.Router)
	}
	return slices.Compact(names)
}

func staticPrefixes(ctx context.Context, c *ctl.Client, _ []string) (names []string) {
	list, _ := c.Routes(ctx, "")
	for _, r := range list {
		if r.Origin == api.RouteStatic {
			names = append(names, r.Prefix.String())
		}
	}
	return names
}
