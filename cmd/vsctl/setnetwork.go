package main

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vswitch/internal/api"
)

func (a *app) setNetwork() *cobra.Command {
	var r api.NetworkChange
	var v api.Network // values of flags, which count when they are given
	var icc bool
	cmd := &cobra.Command{
		Use:     "set-network NAME",
		GroupID: groupNetworks,
		Short:   "Change a network at work",
		Long: `Changes a network while its traffic flows. What no flag names stays as it is; 0 and "" ask for the default again.
Prints its name and subnets.

A subnet goes when no port has an address in it. The MTU is that of ports to come. Driver and name are for life.`,
		Example: `  vsctl set-network net1 --age 60 --mac-limit 4096
  vsctl set-network net1 --subnet fd00:1::/64 --subnet 10.0.0.0/24-
  vsctl set-network net1 --icc=false --label team=lab --label old-`,
		Args:              arguments("NAME"),
		ValidArgsFunction: a.complete(networkNames),
	}
	f := cmd.Flags()
	f.Func("subnet", "another subnet, as `CIDR`; CIDR- removes one; repeatable", addOrRemove(&r.AddSubnets, &r.RemoveSubnets, prefix, prefix))
	f.Func("gateway", "`IP` of the gateway in one of the subnets; repeatable", each(&r.Gateways, address))
	f.Func("ip-range", "`CIDR` in one of the subnets, from which addresses are handed out; the whole subnet for no such range; repeatable", each(&r.Ranges, prefix))
	f.BoolVar(&v.NoGateway, "no-gateway", false, "reserve no gateway address and set no default route")
	f.IntVar(&v.MTU, "mtu", 0, "largest and default MTU of its ports, in `BYTES`; ports that it has keep theirs")
	f.BoolVar(&v.Internal, "internal", false, "no way out of the network")
	f.BoolVar(&icc, "icc", false, "its ports reach each other")
	f.StringVar(&v.Router, "router", "", "`NAME` of the router that it joins")
	f.StringVar(&v.Masquerade, "masquerade", "", "hide its addresses from uplinks (auto), from other networks too (on), or not (off), as `MODE`")
	f.BoolVar(&v.RA, "ra", false, "its gateway sends router advertisements, of IPv6")
	f.Func("ra-dns", "`IP` of a resolver that these name, in place of those that it has; \"\" for none; repeatable", func(s string) error {
		if s == "" {
			v.RADNS = []netip.Addr{}
			return nil
		}
		return each(&v.RADNS, address)(s)
	})
	f.IntVar(&v.Age, "age", 0, "forget a MAC that was not seen for so many `SECONDS`")
	f.IntVar(&v.MACLimit, "mac-limit", 0, "learn at most `N` MACs")
	f.Func("label", "a label, as `KEY=VALUE`; KEY- removes one; repeatable", labelChanges(&r.Labels))
	f.StringVar(&v.Driver, "driver", "", "`KIND` of network, for life")
	must(f.MarkHidden("driver")) // the daemon says what to do instead
	must(cmd.RegisterFlagCompletionFunc("masquerade", fixed(masquerades)))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		r.NoGateway, r.MTU, r.Internal = given(f, "no-gateway", &v.NoGateway), given(f, "mtu", &v.MTU), given(f, "internal", &v.Internal)
		r.ICC, r.Router, r.Masquerade = given(f, "icc", &icc), given(f, "router", &v.Router), given(f, "masquerade", &v.Masquerade)
		r.RA, r.RADNS = given(f, "ra", &v.RA), given(f, "ra-dns", &v.RADNS)
		r.Age, r.MACLimit, r.Driver = given(f, "age", &v.Age), given(f, "mac-limit", &v.MACLimit), given(f, "driver", &v.Driver)
		return errors.Join(oneOf("--masquerade", v.Masquerade, masquerades), anyGiven(cmd))
	}
	cmd.RunE = a.change(func(args []string) any {
		r.Name = &args[0]
		return &r
	}, func(done api.OperationResult) { a.networkLine(*done.Network) })
	return cmd
}

// given returns the flag's value if it was given.
func given[T any](f *pflag.FlagSet, name string, value *T) *T {
	if f.Changed(name) {
		return value
	}
	return nil
}

// anyGiven refuses a change of nothing.
func anyGiven(cmd *cobra.Command) error {
	err := errors.New("nothing to change is given")
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			err = nil
		}
	})
	return err
}

// addOrRemove makes a flag that may be given several times: VALUE is added to one list; VALUE- to the other, as what to remove.
func addOrRemove[A, R any](add *[]A, remove *[]R, parse func(string) (A, error), parseRemoved func(string) (R, error)) func(string) error {
	return func(s string) error {
		if gone, ok := strings.CutSuffix(s, "-"); ok {
			return each(remove, parseRemoved)(gone)
		}
		return each(add, parse)(s)
	}
}

// labelChanges makes a flag that sets KEY=VALUE in m, or removes KEY-.
func labelChanges(m *map[string]*string) func(string) error {
	return func(s string) error {
		if *m == nil {
			*m = map[string]*string{}
		}
		k, v, ok := strings.Cut(s, "=")
		if ok && k != "" {
			(*m)[k] = &v
			return nil
		}
		if k, ok = strings.CutSuffix(s, "-"); ok && k != "" {
			(*m)[k] = nil
			return nil
		}
		return errors.New("use KEY=VALUE to set it, KEY- to remove it")
	}
}
