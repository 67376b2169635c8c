package main

import (
	"errors"

	"github.com/spf13/cobra"

	"vswitch/internal/api"
)

func (a *app) setPort() *cobra.Command {
	var v portChange
	cmd := &cobra.Command{
		Use:     "set-port PORT",
		GroupID: groupPorts,
		Short:   "Change a port at work",
		Long: `Changes a port, and its interface where that shows, while its traffic flows. What no flag names stays as it is; 0 and ""
ask for the default again. Prints what add-port does.

VALUE- removes an address, alias, route or label. Type and namespace are for life; disconnect and connect change the network.`,
		Example: `  vsctl set-port web --mtu 1400 --mac-limit 16
  vsctl set-port web --ip 10.0.0.9 --ip 10.0.0.2- --alias www
  vsctl set-port fw --trunk 10,20-30 --native none`,
		Args:              arguments("PORT"),
		ValidArgsFunction: a.complete(portNames),
	}
	v.register(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error { return v.check(cmd) }
	cmd.RunE = a.change(func(args []string) any {
		v.change.Name = &args[0]
		return &v.change
	}, func(done api.OperationResult) { a.portLine(*done.Port) })
	return cmd
}

// portChange are the flags of set-port. Those in Port count when they are given.
type portChange struct {
	api.Port
	change api.PortChange
	netns  string
}

func (v *portChange) register(cmd *cobra.Command) {
	f, r := cmd.Flags(), &v.change
	f.StringVar(&v.IfName, "ifname", "", "`NAME` of the interface in the namespace")
	f.StringVar(&v.MAC, "mac", "", "`MAC` address, or random, or from-ip")
	f.Func("ip", "another `IP` address in one of the network's subnets; IP- removes one; repeatable", addOrRemove(&r.AddIPs, &r.RemoveIPs, address, address))
	f.IntVar(&v.MTU, "mtu", 0, "MTU in `BYTES`, of the interface too")
	f.Func("vlan", "make it an access port of VLAN `ID`; 0 is the untagged one", func(s string) error {
		id, err := parseVLANOrUntagged(s)
		r.VLAN = &id
		return err
	})
	f.Func("trunk", "make it a trunk of these tagged VLANs, as `LIST`: 10,20-30 or all", vlanList(&r.Trunk))
	f.Func("native", "VLAN of a trunk's untagged frames, as `ID`; none refuses such frames", func(s string) (err error) {
		if s == "none" {
			r.NoNative = true
			return nil
		}
		id, err := parseVLANOrUntagged(s)
		r.Native = &id
		return err
	})
	f.BoolVar(&v.Isolated, "isolated", false, "reach no other isolated port")
	f.IntVar(&v.MACLimit, "mac-limit", 0, "learn at most `N` MACs from it")
	f.BoolVar(&v.SourceGuard, "source-guard", false, "drop what it sends from others' addresses, or as a router or DHCP server")
	f.Func("storm", "floods that it may send, as `KIND=PPS`: broadcast, multicast or unknown, packets per second or off; repeatable", stormMeter(&r.Storm))
	f.Func("route", "a route in the namespace, as `PREFIX=IP`; PREFIX- removes one; repeatable", addOrRemove(&r.AddRoutes, &r.RemoveRoutes, route, prefix))
	f.StringVar(&v.DefaultRoute, "default-route", "", "default route through the gateway: auto or no, as `MODE`")
	f.IntVar(&v.Metric, "metric", 0, "metric of its routes, as `N`")
	name := func(s string) (string, error) { return s, nil }
	f.Func("alias", "another `NAME` in its network; NAME- removes one; repeatable", addOrRemove(&r.AddAliases, &r.RemoveAliases, name, name))
	f.Func("publish", "publish more ports, as `SPEC`; SPEC- takes them back; repeatable", addOrRemove(&r.AddPublish, &r.RemovePublish, publishSpec, publishSpec))
	f.Func("label", "a label, as `KEY=VALUE`; KEY- removes one; repeatable", labelChanges(&r.Labels))
	f.StringVar(&v.Type, "type", "", "`KIND` of interface, for life")
	f.StringVar(&v.netns, "netns", "", "network `NAMESPACE`, for life")
	must(f.MarkHidden("type")) // of these two the daemon says what to do instead
	must(f.MarkHidden("netns"))
	must(cmd.RegisterFlagCompletionFunc("mac", fixed([]string{"random", "from-ip"})))
	must(cmd.RegisterFlagCompletionFunc("storm", completeStorm))
	must(cmd.RegisterFlagCompletionFunc("default-route", fixed(defaultRoutes)))
}

// check refuses what no daemon could make sense of, and completes the change.
func (v *portChange) check(cmd *cobra.Command) error {
	f, r := cmd.Flags(), &v.change
	r.IfName, r.MAC, r.MTU = given(f, "ifname", &v.IfName), given(f, "mac", &v.MAC), given(f, "mtu", &v.MTU)
	r.Isolated, r.MACLimit = given(f, "isolated", &v.Isolated), given(f, "mac-limit", &v.MACLimit)
	r.SourceGuard = given(f, "source-guard", &v.SourceGuard)
	r.DefaultRoute, r.Metric = given(f, "default-route", &v.DefaultRoute), given(f, "metric", &v.Metric)
	r.Type, r.Netns = given(f, "type", &v.Type), given(f, "netns", &v.netns)
	return errors.Join(
		exclusive(cmd, [][]string{{"vlan", "trunk"}, {"vlan", "native"}}), oneOf("--default-route", v.DefaultRoute, defaultRoutes), anyGiven(cmd))
}

func (a *app) connect() *cobra.Command {
	var r api.NamedConnect
	cmd := &cobra.Command{
		Use:     "connect PORT NETWORK",
		GroupID: groupPorts,
		Short:   "Put a disconnected port on a network",
		Long: `Puts a port that is on no network on one, the one that it was on or another. Its interface keeps its name, and its MAC unless
that is another port's there; it gets new addresses and its carrier back. Prints what add-port does.`,
		Example: `  vsctl connect web net2
  vsctl connect web net1 --ip 10.0.0.2 --may-exist`,
		Args:              arguments("PORT", "NETWORK"),
		ValidArgsFunction: a.complete(portNames, networkNames),
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return exclusive(cmd, [][]string{{"ip", "no-ip"}}) },
		RunE: a.change(func(args []string) any {
			r.Name, r.Network = args[0], args[1]
			return &r
		}, func(done api.OperationResult) { a.portLine(*done.Port) }),
	}
	f := cmd.Flags()
	f.Func("ip", "`IP` address in one of the network's subnets, else the first free one; repeatable", each(&r.IPs, address))
	f.BoolVar(&r.NoIP, "no-ip", false, "no address, although the network has subnets")
	f.BoolVar(&r.MayExist, "may-exist", false, "do nothing if it is on that network already")
	return cmd
}

func (a *app) disconnect() *cobra.Command {
	var r api.NamedDisconnect
	cmd := &cobra.Command{
		Use:     "disconnect PORT [NETWORK]",
		GroupID: groupPorts,
		Short:   "Take a port off its network",
		Long: `Takes a port off its network, if that is NETWORK. Its interface stays in its namespace, with its name and MAC, without a carrier and
addresses; these are free again.`,
		Example: `  vsctl disconnect web
  vsctl disconnect web net1 --if-exists`,
		Args:              arguments("PORT", "[NETWORK]"),
		ValidArgsFunction: a.complete(portNames, networkNames),
		RunE: a.change(func(args []string) any {
			r.Name, r.Network = args[0], first(args[1:])
			return &r
		}, silent),
	}
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if there is no such port, or it is on no network")
	return cmd
}
