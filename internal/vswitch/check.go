package vswitch

import (
	"math"
	"slices"
	"strings"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
)

// Limits of an MTU in bytes: the least that IPv4 hosts must take (RFC 791), and the longest IP datagram.
const (
	minMTU     = 68
	minMTUIPv6 = 1280 // RFC 8200 5
	maxMTU     = 65535
	defaultMTU = 1500
)

// maxLabels and the like keep a record small enough to be stored and shown.
const (
	maxLabels     = 64
	maxLabelBytes = 1024
	maxAliases    = 64
	maxRoutes     = 256
)

func invalid(format string, args ...any) error { return api.Errorf(api.CodeInvalid, format, args...) }

// checkPortRequest refuses requests that contradict themselves or the network; n is nil when there is none. The interface's name is
// left to checkIfName.
func checkPortRequest(n *network, r *api.PortRequest) error {
	if err := api.CheckName("port", r.Name); err != nil {
		return err
	}
	switch r.Type {
	case "", api.PortTAP, api.PortVeth, api.PortHost:
	default:
		return invalid("port type %.40q: use tap, veth or host", r.Type)
	}
	switch r.DefaultRoute {
	case "", "auto", "no":
	default:
		return invalid("--default-route %.40q: use auto or no", r.DefaultRoute)
	}
	places := 0
	for _, given := range []bool{r.Netns != "", r.PID != 0, r.Stage} {
		if given {
			places++
		}
	}
	if r.Type == api.PortHost {
		if places != 0 {
			return invalid("a port of type host stays in the host's own namespace: leave out --netns, --pid and --stage, or give it type tap or veth")
		}
	} else if places != 1 {
		return invalid("say where the port goes: one of --netns, --pid and --stage")
	}
	if err := n.checkPortMTU(r.MTU); err != nil {
		return err
	}
	if r.NoIP && len(r.IPs) > 0 {
		return errBothIPs()
	}
	if r.Metric < 0 || r.Metric > math.MaxInt32 {
		return invalid("metric %d: use 0 to %d", r.Metric, math.MaxInt32)
	}
	if r.MACLimit < 0 {
		return invalid("MAC limit %d: use 1 or more, or 0 for the network's", r.MACLimit)
	}
	if err := checkStorm(r.Storm); err != nil {
		return err
	}
	if _, err := l2switch.NewMembership(r.VLAN, r.Trunk, r.Native); err != nil {
		return err
	}
	for _, a := range r.Aliases {
		if err := api.CheckName("alias", a); err != nil {
			return err
		}
	}
	if len(r.Aliases) > maxAliases || len(r.Routes) > maxRoutes {
		return invalid("at most %d aliases and %d routes", maxAliases, maxRoutes)
	}
	for _, rt := range r.Routes {
		if !rt.Prefix.IsValid() || !rt.Via.IsValid() || rt.Prefix.Addr().Is4() != rt.Via.Is4() {
			return invalid("route %v via %v: use PREFIX=IP, both of one family", rt.Prefix, rt.Via)
		}
		if rt.Prefix != rt.Prefix.Masked() {
			return invalid("route %v via %v: the prefix has bits behind its length: use %v", rt.Prefix, rt.Via, rt.Prefix.Masked())
		}
	}
	if err := checkPublish(r.Publish); err != nil {
		return err
	}
	return checkLabels(r.Labels)
}

// checkIfName refuses a name that is asked for an interface, but for the one that have has: its owner may give it any that the
// kernel allows, and must not hinder changes by that. have is nil for a new port.
func checkIfName(asked string, have *api.Port) error {
	if asked == "" || have != nil && asked == have.IfName {
		return nil
	}
	return api.CheckIfName(asked)
}

// portMTU is the default of the network's ports.
func (n *network) portMTU() int {
	if n == nil {
		return defaultMTU
	}
	return n.MTU
}

// checkPortMTU refuses an MTU that no port of the network can have.
func (n *network) checkPortMTU(mtu int) error {
	if n == nil {
		return checkMTU("port", mtu, false)
	}
	if mtu > n.MTU {
		return invalid("MTU %d is larger than the %d of network %s: 'vsctl set-network %s --mtu %d' raises that", mtu, n.MTU, n.Name, n.Name, mtu)
	}
	return checkMTU("port", mtu, n.hasIPv6())
}

func checkMTU(what string, mtu int, ipv6 bool) error {
	switch {
	case mtu == 0:
		return nil
	case mtu < minMTU || mtu > maxMTU:
		return invalid("%s MTU %d: use %d to %d", what, mtu, minMTU, maxMTU)
	case ipv6 && mtu < minMTUIPv6:
		return invalid("%s MTU %d: IPv6 needs %d or more (RFC 8200)", what, mtu, minMTUIPv6)
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("%d labels: at most %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k)+len(v) > maxLabelBytes || strings.ContainsFunc(k+v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return invalid("label %.40q: use a key and value of at most %d bytes in all, without control characters", k, maxLabelBytes)
		}
	}
	return nil
}

// checkNetworkRequest refuses requests that contradict themselves.
func checkNetworkRequest(r *api.NetworkRequest) error {
	if err := api.CheckName("network", r.Name); err != nil {
		return err
	}
	if r.Driver != "" && r.Driver != api.DriverBridge {
		return invalid("driver %.40q: this version has bridge only", r.Driver)
	}
	if r.Router != "" {
		if err := api.CheckName("router", r.Router); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"", "auto", "on", "off"}, r.Masquerade) {
		return invalid("masquerade %.40q: use auto, on or off", r.Masquerade)
	}
	if err := checkAdvertisement(r); err != nil {
		return err
	}
	if err := checkMTU("network", r.MTU, slices.ContainsFunc(r.Subnets, isIPv6)); err != nil {
		return err
	}
	if r.NoSubnet && len(r.Subnets) > 0 {
		return invalid("a subnet and no subnet are both asked for")
	}
	if r.Age < 0 || r.Age > 1e6 {
		return invalid("age %d: use 1 to 1000000 seconds", r.Age)
	}
	if r.MACLimit < 0 || r.MACLimit > 1<<20 {
		return invalid("MAC limit %d: use 1 to %d", r.MACLimit, 1<<20)
	}
	return checkLabels(r.Labels)
}
