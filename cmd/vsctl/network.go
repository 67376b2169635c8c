package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

var masquerades = []string{"auto", "on", "off"}

func (a *app) addNetwork() *cobra.Command {
	var r api.NetworkRequest
	icc := true
	cmd := &cobra.Command{
		Use:     "add-network NAME",
		GroupID: groupNetworks,
		Short:   "Add a network",
		Long: `Adds a network: an L2 segment with its subnets. Without --subnet it gets an IPv4 subnet that clashes with no route of the host.
Prints its name and subnets.`,
		Example: `  vsctl add-network net1
  vsctl add-network net2 --subnet 10.0.0.0/24 --subnet fd00:1::/64 --gateway 10.0.0.254
  vsctl add-network lab --no-subnet --mtu 9000 --label team=lab`,
		Args:              arguments("NAME"),
		ValidArgsFunction: a.complete(),
	}
	f := cmd.Flags()
	f.Func("subnet", "`CIDR` of a subnet, IPv4 or IPv6; 0.0.0.0/24 or ::/64 asks for any of that length; repeatable", each(&r.Subnets, prefix))
	f.Func("gateway", "`IP` of the gateway in one of the subnets, else its first address; repeatable", each(&r.Gateways, address))
	f.Func("ip-range", "`CIDR` in one of the subnets, from which addresses are handed out; repeatable", each(&r.Ranges, prefix))
	f.BoolVar(&r.NoSubnet, "no-subnet", false, "no subnet at all: pure L2")
	f.BoolVar(&r.NoGateway, "no-gateway", false, "reserve no gateway address and set no default route")
	f.IntVar(&r.MTU, "mtu", 0, "MTU of its ports, in `BYTES`")
	f.BoolVar(&r.Internal, "internal", false, "no way out of the network")
	f.BoolVar(&icc, "icc", true, "its ports reach each other")
	f.StringVar(&r.Router, "router", "", "`NAME` of the router that it joins (default main)")
	f.StringVar(&r.Masquerade, "masquerade", "", "hide its addresses from uplinks (auto), from other networks too (on), or not (off), as `MODE` (default auto)")
	f.BoolVar(&r.RA, "ra", false, "its gateway sends router advertisements, of IPv6")
	f.Func("ra-dns", "`IP` of a resolver that these name, IPv6; repeatable", each(&r.RADNS, address))
	f.StringVar(&r.Driver, "driver", "", "`KIND` of network (default bridge)")
	f.IntVar(&r.Age, "age", 0, "forget a MAC that was not seen for so many `SECONDS` (default 300)")
	f.IntVar(&r.MACLimit, "mac-limit", 0, "learn at most `N` MACs (default 16384)")
	f.Func("label", "a label, as `KEY=VALUE`; repeatable", labels(&r.Labels))
	f.BoolVar(&r.MayExist, "may-exist", false, "do nothing if there is the same network already")
	must(cmd.RegisterFlagCompletionFunc("masquerade", fixed(masquerades)))
	must(cmd.RegisterFlagCompletionFunc("driver", fixed([]string{api.DriverBridge})))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if err := oneOf("--masquerade", r.Masquerade, masquerades); err != nil {
			return err
		}
		return exclusive(cmd, [][]string{{"subnet", "no-subnet"}, {"gateway", "no-gateway"}})
	}
	cmd.RunE = a.change(func(args []string) any {
		r.Name = args[0]
		if f.Changed("icc") {
			r.ICC = &icc
		}
		return &r
	}, func(done api.OperationResult) { a.networkLine(*done.Network) })
	return cmd
}

// networkLine prints what a verb made of a network.
func (a *app) networkLine(n api.Network) { a.line("%s %s", n.Name, dash(subnets(n))) }

func (a *app) delNetwork() *cobra.Command {
	var r api.DeleteRequest
	cmd := &cobra.Command{
		Use:     "del-network NAME",
		GroupID: groupNetworks,
		Short:   "Delete a network",
		Long:    "Deletes a network. One that has ports is refused, unless --force deletes them too.",
		Example: `  vsctl del-network net1
  vsctl del-network net1 --force --if-exists`,
		ValidArgsFunction: a.complete(networkNames),
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "delete its ports too")
	return a.deletes("network", &r, cmd)
}

func (a *app) listNetworks() *cobra.Command {
	return &cobra.Command{
		Use:     "list-networks",
		GroupID: groupNetworks,
		Short:   "List the networks",
		Example: `  vsctl list-networks
  vsctl list-networks -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: listing(a, whole((*ctl.Client).Networks),
			[]string{"NAME", "DRIVER", "SUBNETS", "GATEWAYS", "MTU", "ROUTER", "PORTS"}, func(n *api.Network) []string {
				return []string{n.Name, n.Driver, subnets(*n), gateways(*n), strconv.Itoa(n.MTU), n.Router, strconv.Itoa(n.Ports)}
			}),
	}
}

func subnets(n api.Network) string {
	var list []string
	for _, s := range n.Subnets {
		list = append(list, s.Prefix.String())
	}
	return strings.Join(list, ",")
}

func gateways(n api.Network) string {
	var list []string
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			list = append(list, s.Gateway.String())
		}
	}
	return strings.Join(list, ",")
}

// each makes a flag that may be given several times: parse reads one value, which is added to list.
func each[T any](list *[]T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		*list = append(*list, v)
		return nil
	}
}

// labels makes a flag that adds KEY=VALUE to m.
func labels(m *map[string]string) func(string) error {
	return func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return fmt.Errorf("use KEY=VALUE")
		}
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[k] = v
		return nil
	}
}
