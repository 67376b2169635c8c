package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

var uplinkModes = []string{api.UplinkShared, api.UplinkDedicated}

func (a *app) addUplink() *cobra.Command {
	var r api.UplinkRequest
	cmd := &cobra.Command{
		Use:     "add-uplink INTERFACE|auto",
		GroupID: groupRouting,
		Short:   "Let a router reach the outside by an interface of the host",
		Long: `Lets a router reach the outside by an interface of the host, beside the host and by the host's own addresses. No firewall rule, route or
address of the host is made or changed, and its kernel tracks none of the switch's connections. auto is the interface of the host's
default route, IPv4's where there is one, and follows it. With --mode dedicated the uplink has a MAC and addresses of its own on the
interface's segment instead.
Networks are masqueraded towards it unless they have --masquerade=off.
Of several uplinks the one with the lowest metric counts that has a carrier.`,
		Example: `  vsctl add-uplink auto
  vsctl add-uplink eth1 --name backup --metric 200
  vsctl add-uplink eth0 --nat-ports 50000-60999 --router lab
  vsctl add-uplink eth2 --mode dedicated --ip 192.0.2.9/24 --gateway 192.0.2.1 --ip 2001:db8::9/64 --gateway fe80::1`,
		Args:              arguments("INTERFACE"),
		ValidArgsFunction: a.complete(func(context.Context, *ctl.Client, []string) []string { return []string{api.AutoUplink} }),
	}
	cmd.PreRunE = func(*cobra.Command, []string) error { return oneOf("--mode", r.Mode, uplinkModes) }
	cmd.RunE = a.change(func(args []string) any {
		r.Interface = args[0]
		return &r
	}, func(done api.OperationResult) { a.uplinkLine(done.Uplink) })
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&r.Name, "name", "", "`NAME` of the uplink (default the interface's)")
	f.StringVar(&r.Mode, "mode", "", "how the interface is used, as `MODE`: shared or dedicated (default shared)")
	f.Func("ip", "address of a dedicated uplink, as `CIDR`; repeatable", each(&r.IPs, addressInSubnet))
	f.Func("gateway", "`IP` of the next hop of its default route; one of each family", each(&r.Gateways, address))
	f.StringVar(&r.Router, "router", "", "`NAME` of the router (default main)")
	f.Func("metric", "of several uplinks the one with the lowest `N` counts (default 100)", counted(&r.Metric, maxMetric))
	f.Func("nat-ports", "ports that masqueraded connections get, as `LOW-HIGH` (default 61000-65535; dedicated: 1024-65535)", func(s string) (err error) {
		r.NATPorts, err = api.ParsePortRange(s)
		return usage(err)
	})
	f.BoolVar(&r.MayExist, "may-exist", false, "do nothing if there is the same uplink already")
	must(cmd.RegisterFlagCompletionFunc("mode", fixed(uplinkModes)))
	must(cmd.RegisterFlagCompletionFunc("router", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.list(cmd.Context(), routerNames, nil), cobra.ShellCompDirectiveNoFileComp
	}))
	return cmd
}

// uplinkLine prints what became of an uplink.
func (a *app) uplinkLine(u *api.Uplink) {
	switch {
	case a.dryRun:
		a.line("%s", u.Name)
	case u.Status.Problem != "":
		a.line("%s %s: %s", u.Name, u.Status.State, u.Status.Problem)
	default:
		a.line("%s %s %s", u.Name, u.Status.State, dash(uplinkAddresses(u)))
	}
}

func uplinkAddresses(u *api.Uplink) string {
	var list []string
	for _, p := range u.Status.Addresses {
		list = append(list, p.Addr().String())
	}
	return strings.Join(list, ",")
}

func (a *app) delUplink() *cobra.Command {
	var r api.DeleteRequest
	cmd := &cobra.Command{
		Use:     "del-uplink NAME",
		GroupID: groupRouting,
		Short:   "Delete an uplink",
		Long:    "Deletes an uplink. Connections by it end, and the host has its interface to itself again, as it was before.",
		Example: `  vsctl del-uplink auto
  vsctl del-uplink backup --if-exists`,
		ValidArgsFunction: a.complete(uplinkNames),
	}
	return a.deletes("uplink", &r, cmd)
}

func (a *app) listUplinks() *cobra.Command {
	return &cobra.Command{
		Use:     "list-uplinks",
		GroupID: groupRouting,
		Short:   "List the uplinks",
		Example: `  vsctl list-uplinks
  vsctl list-uplinks -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: listing(a, whole((*ctl.Client).Uplinks),
			[]string{"NAME", "INTERFACE", "MODE", "ROUTER", "METRIC", "ADDRESSES", "STATE"}, func(u *api.Uplink) []string {
				return []string{u.Name, uplinkInterface(u), u.Mode, u.Router, strconv.Itoa(int(u.Metric)), uplinkAddresses(u), u.Status.State}
			}),
	}
}

// uplinkInterface is the name that the interface has now, or else as it was asked for.
func uplinkInterface(u *api.Uplink) string {
	if u.Status.Interface != "" {
		return u.Status.Interface
	}
	return u.Interface
}

func (a *app) showUplink(u api.Uplink) {
	a.line("Uplink %s", u.Name)
	a.field("    ", "Interface", uplinkInterface(&u))
	a.field("    ", "Mode", u.Mode)
	state := u.Status.State
	if u.Status.Problem != "" {
		state += ": " + u.Status.Problem
	}
	a.field("    ", "State", state)
	a.field("    ", "Router", u.Router)
	a.field("    ", "Metric", strconv.Itoa(int(u.Metric)))
	a.field("    ", "Addresses", joined(u.Status.Addresses, ", "))
	a.field("    ", "MAC", u.Status.MAC)
	a.field("    ", "Gateways", joined(u.Gateways, ", "))
	a.field("    ", "MTU", number(u.Status.MTU))
	a.field("    ", "NAT ports", u.NATPorts.String())
	a.field("    ", "Follows", map[bool]string{true: "the host's default route"}[u.Interface == api.AutoUplink])
	a.field("    ", "Attached", u.Status.Attached)
	a.field("    ", "Device", u.Status.Device)
}

func uplinkNames(ctx context.Context, c *ctl.Client, _ []string) (names []string) {
	list, _ := c.Uplinks(ctx)
	for _, u := range list {
		names = append(names, u.Name)
	}
	return names
}
