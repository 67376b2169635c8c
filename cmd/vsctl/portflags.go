package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/internal/api"
)

var (
	portTypes     = []string{api.PortTAP, api.PortVeth, api.PortHost}
	defaultRoutes = []string{"auto", "no"}
)

// maxVLAN is the highest VLAN id (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
const maxVLAN = 4094

// portFlags are the flags of add-port.
type portFlags struct {
	api.PortRequest
	native uint16
}

func (r *portFlags) register(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.Netns, "netns", "", "network `NAMESPACE`: a name, a path, or container:PORT")
	f.IntVar(&r.PID, "pid", 0, "network namespace of the process `PID`")
	f.BoolVar(&r.Stage, "stage", false, "leave the interface for the caller to pick up")
	f.StringVar(&r.IfName, "ifname", "", "`NAME` of the interface in the namespace (default eth0; of type host the port's)")
	f.StringVar(&r.Type, "type", "", "`KIND` of interface: tap or veth in a namespace, or host: the host's own (default tap)")
	f.StringVar(&r.MAC, "mac", "", "`MAC` address, or random, or from-ip (default from-ip)")
	f.Func("ip", "`IP` address in one of the network's subnets, else the first free one; repeatable", each(&r.IPs, address))
	f.BoolVar(&r.NoIP, "no-ip", false, "no address, although the network has subnets")
	f.IntVar(&r.MTU, "mtu", 0, "MTU in `BYTES` (default the network's)")
	f.Func("vlan", "access VLAN, as `ID` (default the untagged one)", vlanID(&r.VLAN))
	f.Func("trunk", "tagged VLANs that it carries, as `LIST`: 10,20-30 or all", vlanList(&r.Trunk))
	f.Func("native", "VLAN of a trunk's untagged frames, as `ID`; 0 is the untagged one (default such frames are refused)", func(s string) (err error) {
		r.native, err = parseVLANOrUntagged(s)
		return err
	})
	f.BoolVar(&r.Isolated, "isolated", false, "reach no other isolated port")
	f.IntVar(&r.MACLimit, "mac-limit", 0, "learn at most `N` MACs from it (default 1024)")
	f.BoolVar(&r.SourceGuard, "source-guard", false, "drop what it sends from others' addresses, or as a router or DHCP server")
	f.Func("storm", "floods that it may send, as `KIND=PPS`: broadcast, multicast or unknown, packets per second; repeatable", stormMeter(&r.Storm))
	f.Func("route", "a route in the namespace, as `PREFIX=IP`; repeatable", each(&r.Routes, route))
	f.StringVar(&r.DefaultRoute, "default-route", "", "default route through the gateway: auto or no, as `MODE` (default auto; of type host no)")
	f.IntVar(&r.Metric, "metric", 0, "metric of its routes, as `N`")
	f.BoolVar(&r.NoConfig, "no-config", false, "leave the interface down and without addresses")
	f.Func("alias", "another `NAME` in its network; repeatable", each(&r.Aliases, func(s string) (string, error) { return s, nil }))
	f.Func("publish", "publish ports, as `SPEC`: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]; repeatable", each(&r.Publish, publishSpec))
	f.Func("label", "a label, as `KEY=VALUE`; repeatable", labels(&r.Labels))
	f.BoolVar(&r.MayExist, "may-exist", false, "do nothing if there is the same port already")
	must(cmd.RegisterFlagCompletionFunc("netns", a.completeNetns))
	must(cmd.RegisterFlagCompletionFunc("type", fixed(portTypes)))
	must(cmd.RegisterFlagCompletionFunc("mac", fixed([]string{"random", "from-ip"})))
	must(cmd.RegisterFlagCompletionFunc("storm", completeStorm))
	must(cmd.RegisterFlagCompletionFunc("default-route", fixed(defaultRoutes)))
}

// check refuses what no daemon could make sense of.
func (r *portFlags) check(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("native") && len(r.Trunk) == 0:
		return errors.New("--native needs --trunk")
	case cmd.Flags().Changed("pid") && r.PID <= 0:
		return fmt.Errorf("--pid is %d: give the id of a process", r.PID)
	case r.Type == api.PortHost && (r.Netns != "" || r.PID != 0 || r.Stage):
		return errors.New("a port of --type host stays in the host's own namespace: leave out --netns, --pid and --stage")
	case r.Type != api.PortHost && r.Netns == "" && r.PID == 0 && !r.Stage:
		return errors.New("the port's namespace is missing: give --netns, --pid or --stage, or --type host")
	}
	if err := exclusive(cmd, [][]string{{"netns", "pid", "stage"}, {"vlan", "trunk"}, {"ip", "no-ip"}}); err != nil {
		return err
	}
	if err := oneOf("--type", r.Type, portTypes); err != nil {
		return err
	}
	return oneOf("--default-route", r.DefaultRoute, defaultRoutes)
}

// vlanID makes a flag that is a VLAN id.
func vlanID(to *uint16) func(string) error {
	return func(s string) (err error) {
		*to, err = parseVLAN(s)
		return err
	}
}

// parseVLANOrUntagged reads the id of a VLAN, or 0 for the untagged one.
func parseVLANOrUntagged(s string) (uint16, error) {
	if s == "0" {
		return 0, nil
	}
	return parseVLAN(s)
}

func parseVLAN(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 1 || n > maxVLAN {
		return 0, fmt.Errorf("VLAN %q: use a number from 1 to %d", s, maxVLAN)
	}
	return uint16(n), nil
}

// vlanList makes a flag that is a list of VLAN ids and ranges, or "all".
func vlanList(to *[]api.VLANRange) func(string) error {
	return func(s string) error {
		if s == "all" {
			*to = []api.VLANRange{{First: 1, Last: maxVLAN}}
			return nil
		}
		for part := range strings.SplitSeq(s, ",") {
			first, last, isRange := strings.Cut(part, "-")
			if !isRange {
				last = first
			}
			from, err := parseVLAN(first)
			if err != nil {
				return err
			}
			until, err := parseVLAN(last)
			if err != nil {
				return err
			}
			if from > until {
				return fmt.Errorf("range %q ends before it starts", part)
			}
			*to = append(*to, api.VLANRange{First: from, Last: until})
		}
		return nil
	}
}

func publishSpec(s string) (api.Publish, error) {
	p, err := api.ParsePublish(s)
	return p, usage(err)
}

// route reads PREFIX=IP.
func route(s string) (r api.Route, err error) {
	to, via, ok := strings.Cut(s, "=")
	if !ok {
		return r, errors.New("use PREFIX=IP")
	}
	if r.Via, err = address(via); err != nil {
		return r, err
	}
	if to == "default" {
		r.Prefix = netip.PrefixFrom(r.Via, 0).Masked()
		return r, nil
	}
	r.Prefix, err = prefix(to)
	return r, err
}
