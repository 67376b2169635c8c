package link_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

func TestPlace(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	c := link.PlaceConfig{
		IfName:   "eth0",
		MAC:      net.HardwareAddr{2, 0, 0, 0, 0, 7},
		MTU:      1450,
		Addrs:    left,
		Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254"), netip.MustParseAddr("fd99::fe")},
		Routes: []api.Route{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("10.99.0.253")},
			{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("203.0.113.1")}, // on no subnet of ours
			{Prefix: netip.MustParsePrefix("2001:db8::/32"), Via: netip.MustParseAddr("fd99::fd")},
		},
		Metric: 50,
	}
	s := placeTAP(t, private, ns, dev, c)
	if s.Name != "eth0" || s.MAC.String() != c.MAC.String() || s.MTU != c.MTU || !s.Up || s.Kind != "tuntap" {
		t.Errorf("placed as %+v", s)
	}
	linktest.Eventually(t, "carrier", func() bool { s, err := link.Lookup(ns, "eth0"); return err == nil && s.Carrier })
	if lo, err := link.Lookup(ns, "lo"); err != nil || !lo.Up {
		t.Errorf("lo is %+v, %v", lo, err)
	}
	out := linktest.IP(t, "-n", ns.String(), "addr", "show", "dev", "eth0") +
		linktest.IP(t, "-n", ns.String(), "route") + linktest.IP(t, "-n", ns.String(), "-6", "route")
	for _, want := range []string{
		"inet 10.99.0.1/24 brd 10.99.0.255", "inet6 fd99::1/64 scope global nodad",
		"default via 10.99.0.254 dev eth0 metric 50", "192.0.2.0/24 via 10.99.0.253", "198.51.100.0/24 via 203.0.113.1",
		"default via fd99::fe dev eth0 metric 50", "2001:db8::/32 via fd99::fd",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if out := linktest.IP(t, "-n", ns.String(), "link", "show", "eth0"); !strings.Contains(out, "qdisc noqueue") {
		t.Errorf("there is a queue before the TAP's own:\n%s", out)
	}
	if again, _, err := link.Place(ns, s.Index, ns, c); err != nil || again.Index != s.Index {
		t.Errorf("placing it again: %+v, %v", again, err)
	}
}

func TestPlaceUndo(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	_, undo, err := link.Place(private, dev.Index, ns, link.PlaceConfig{IfName: "eth0", Addrs: left,
		Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if s, err := link.Lookup(private, dev.Name); err != nil || s.Up {
		t.Errorf("back in the private namespace: %+v, %v", s, err)
	}
}

func TestPlaceFailsWhole(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	first, _ := createTAP(t, private)
	gw := []netip.Addr{netip.MustParseAddr("10.99.0.254")}
	placeTAP(t, private, ns, first, link.PlaceConfig{IfName: "eth0", Addrs: left, Gateways: gw})
	dev, _ := createTAP(t, private)
	for _, c := range []struct {
		name, code, part string
		config           link.PlaceConfig
	}{
		{"name taken", api.CodeConflict, "interface eth0 already exists in namespace " + ns.String() + "; choose another with --ifname",
			link.PlaceConfig{IfName: "eth0"}},
		{"default route taken", api.CodeConflict, "already has a default route; choose another --metric",
			link.PlaceConfig{IfName: "eth1", Addrs: right, Gateways: gw}},
		{"MTU too small for IPv6", api.CodeInvalid, "needs 1280", link.PlaceConfig{IfName: "eth1", MTU: 1000, Addrs: left}},
		{"MTU impossible", api.CodeRefused, "MTU of 100000", link.PlaceConfig{IfName: "eth1", MTU: 100000}},
		{"name impossible", api.CodeRefused, "rename", link.PlaceConfig{IfName: "a/b"}},
		{"group MAC", api.CodeRefused, "01:00:00:00:00:00", link.PlaceConfig{IfName: "eth1", MAC: net.HardwareAddr{1, 0, 0, 0, 0, 0}}},
		{"multicast address", api.CodeRefused, "ff02::1/64", link.PlaceConfig{IfName: "eth1", Addrs: []netip.Prefix{netip.MustParsePrefix("ff02::1/64")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := link.Place(private, dev.Index, ns, c.config)
			wantCode(t, err, c.code, c.part)
			if s, err := link.Lookup(private, dev.Name); err != nil || s.Up || s.Index != dev.Index {
				t.Errorf("it is not back: %+v, %v", s, err)
			}
		})
	}
}

func TestPlaceNoConfig(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	s := placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", NoConfig: true, Addrs: left})
	if s.Up || strings.Contains(linktest.IP(t, "-n", ns.String(), "addr"), "10.99.0.1") {
		t.Errorf("it was configured: %+v", s)
	}
}

func TestPlaceWhereIPv6IsOff(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	linktest.IP(t, "netns", "exec", ns.String(), "sh", "-c", "echo 1 | tee /proc/sys/net/ipv6/conf/*/disable_ipv6")
	dev, _ := createTAP(t, private)
	placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", Addrs: left})
	if out := linktest.IP(t, "-n", ns.String(), "addr"); !strings.Contains(out, "fd99::1/64") {
		t.Errorf("no IPv6 address in\n%s", out)
	}
}

func TestPrefixes(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	placeTAP(t, private, ns, dev, link.PlaceConfig{IfName: "eth0", Addrs: left, Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254")},
		Routes: []api.Route{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("10.99.0.254")}}})
	got, err := link.Prefixes(ns)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, p := range got {
		list = append(list, p.String())
	}
	if have, want := strings.Join(list, " "), "10.99.0.0/24 192.0.2.0/24 fd99::/64"; have != want {
		t.Errorf("prefixes are %s; want %s", have, want)
	}
	if mtu, err := link.DefaultRouteMTU(ns); err != nil || mtu != 1400 {
		t.Errorf("MTU is %d, %v; want 1400", mtu, err)
	}
	if mtu, err := link.DefaultRouteMTU(private); err != nil || mtu != 0 {
		t.Errorf("MTU without a route is %d, %v; want 0", mtu, err)
	}
	if _, err := link.HostPrefixes(); err != nil {
		t.Error(err)
	}
}
