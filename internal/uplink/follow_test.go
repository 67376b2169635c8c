package uplink_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/uplink"
)

// TestFollow: an uplink follows its interface, live.
func TestFollow(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.host.String()
	ip := func(args ...string) { t.Helper(); linktest.IP(t, append([]string{"-n", h}, args...)...) }
	u := l.open()
	l.follow(u)
	until := func(what string, cond func(uplink.State) bool) {
		t.Helper()
		linktest.Eventually(t, what, func() bool { return cond(u.State()) })
	}
	has := func(s uplink.State, addr string) bool {
		for _, a := range s.Addrs {
			if a.Addr() == netip.MustParseAddr(addr) {
				return true
			}
		}
		return false
	}
	for _, addr := range []string{"192.0.2.50", "2001:db8:1::50"} {
		prefix := addr + "/24"
		if strings.Contains(addr, ":") {
			prefix = addr + "/64"
		}
		linktest.IP(t, "-n", l.outside.String(), "neigh", "replace", addr, "lladdr", hostMAC, "dev", "eth0")
		ip("addr", "add", prefix, "dev", "up0", "nodad")
		until("a new address", func(s uplink.State) bool { return has(s, addr) })
		l.silent("port of the range at the new address", addr, 61080)
		ip("addr", "del", prefix, "dev", "up0")
		until("the address is gone", func(s uplink.State) bool { return !has(s, addr) })
	}
	ip("link", "set", "up0", "mtu", "1400")
	until("the MTU", func(s uplink.State) bool { return s.MTU == 1400 })
	linktest.IP(t, "-n", l.outside.String(), "link", "set", "eth0", "down")
	until("no carrier", func(s uplink.State) bool { return !s.Carrier })
	linktest.IP(t, "-n", l.outside.String(), "link", "set", "eth0", "up")
	until("a carrier", func(s uplink.State) bool { return s.Carrier })
	linktest.Rename(t, l.host.String(), "up0", "wan0")
	until("the new name", func(s uplink.State) bool { return s.Name == "wan0" && s.Attached != "" })
	linktest.Rename(t, l.host.String(), "wan0", "up0")
	until("the old name", func(s uplink.State) bool { return s.Name == "up0" })

	ip("link", "add", "br0", "type", "bridge")
	ip("link", "set", "up0", "master", "br0")
	until("it can't be shared as a member of a bridge", func(s uplink.State) bool {
		return s.Attached == "" && strings.Contains(s.Problem, "share br0 instead")
	})
	ip("link", "set", "up0", "nomaster")
	until("it is shared again", func(s uplink.State) bool { return s.Attached != "" && s.Problem == "" })

	ip("link", "del", "up0")
	until("it is gone", func(s uplink.State) bool { return s.Index == 0 && s.Attached == "" && s.Problem != "" })
	ip("link", "add", "up0", "address", hostMAC, "type", "veth", "peer", "name", "eth0", "address", gatewayMAC, "netns", l.outside.String())
	ip("addr", "add", "192.0.2.2/24", "dev", "up0")
	ip("link", "set", "up0", "up")
	linktest.IP(t, "-n", l.outside.String(), "addr", "add", "192.0.2.1/24", "dev", "eth0")
	linktest.IP(t, "-n", l.outside.String(), "link", "set", "eth0", "up")
	until("it is back", func(s uplink.State) bool { return s.Attached != "" && s.Carrier && has(s, "192.0.2.2") })
	l.silent("port of the range", hostAddrs[0], 61080)
	l.refused("closed port of the host's", hostAddrs[0], 81)
	linktest.Pump(t, l.attach(), u.Port())
	linktest.IP(t, "-n", h, "route", "replace", "default", "via", gateways[0])
	l.echo(l.container, hostAddrs[0], 61080)
	l.talks("over the interface that is back", l.outside, 0, hostAddrs[0], 61080)
}

// TestAuto: the uplink goes where the host's default route goes, and leaves nothing behind.
func TestAuto(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		l.cfg.Interface = api.AutoUplink
		h := l.host.String()
		ip := func(args ...string) { t.Helper(); linktest.IP(t, append([]string{"-n", h}, args...)...) }
		ip("route", "del", "default")
		ip("-6", "route", "del", "default")
		ip("link", "add", "up1", "type", "veth", "peer", "name", "eth1", "netns", l.outside.String())
		ip("addr", "add", "203.0.113.2/24", "dev", "up1")
		ip("link", "set", "up1", "up")
		before := l.fingerprint()
		u := l.open()
		stop := l.follow(u)
		until := func(name string, problem bool) {
			t.Helper()
			linktest.Eventually(t, "attached to "+name, func() bool {
				s := u.State()
				return s.Name == name && (s.Attached == rung) == (name != "") && (s.Problem != "") == problem
			})
		}
		until("", true)
		ip("route", "add", "default", "via", gateways[1])
		until("up0", false)
		ip("route", "add", "default", "via", "203.0.113.1", "dev", "up1", "onlink")
		until("up1", false) // IPv4's goes first
		if a := u.State().Addrs; len(a) != 1 || a[0].Prefix != netip.MustParsePrefix("203.0.113.2/24") {
			t.Errorf("addresses %v", a)
		}
		l.refused("port of the range at the interface before", hostAddrs[0], 61080)
		ip("route", "add", "default", "via", gateways[0], "metric", "100")
		ip("route", "del", "default", "via", "203.0.113.1")
		until("up0", false)
		l.silent("port of the range", hostAddrs[0], 61080)
		ip("tuntap", "add", "vpn0", "mode", "tun")
		ip("link", "set", "vpn0", "up")
		ip("route", "add", "default", "dev", "vpn0")
		until("up0", true) // stays where it can work
		ip("link", "del", "vpn0")
		ip("route", "del", "default", "via", gateways[0])
		until("up0", false)
		ip("-6", "route", "del", "default")
		stop()
		if err := u.Remove(); err != nil {
			t.Error(err)
		}
		l.unchanged(before)
	})
}

// TestDetached: an attachment that somebody takes away is made again.
func TestDetached(t *testing.T) {
	t.Parallel()
	linktest.NeedsTCX(t)
	l := newLab(t)
	u := l.open()
	held := l.store.take()
	defer closeAll(held)
	if err := bpf.DetachIngress(held["in"]); err != nil {
		t.Fatal(err)
	}
	l.refused("detached", hostAddrs[0], 61080)
	l.follow(u)
	linktest.Eventually(t, "it is attached again", func() bool {
		again := l.store.take()
		defer closeAll(again)
		index, err := bpf.AttachedTo(again["in"])
		return err == nil && index != 0
	})
	l.silent("attached again", hostAddrs[0], 61080)
}

// TestGoneMeanwhile: when an interface goes between the look at it and what is done to it then, it is gone, and nothing failed.
func TestGoneMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cable := func() {
		linktest.IP(t, "-n", l.host.String(), "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", l.outside.String())
	}
	unplug := func(int) error {
		linktest.IP(t, "-n", l.host.String(), "link", "del", "up0")
		return nil
	}
	want := uplink.State{Problem: "the interface is gone"}

	l.cfg.Again, l.cfg.Claim = true, unplug
	u := l.open()
	if got := u.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("shared: %+v; want %+v", got, want)
	}
	if err := u.Remove(); err != nil {
		t.Fatal(err)
	}
	cable()
	c := l.stationConfig()
	c.Again, c.Claim = true, unplug
	s, err := uplink.OpenStation(c, l.store.take(), l.recorded)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("dedicated: %+v; want %+v", got, want)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
}

// TestRefusals: what can't be shared is refused with the reason and what to use instead, and nothing is left.
func TestRefusals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, args := range [][]string{
		{"tuntap", "add", "tun0", "mode", "tun"}, {"link", "add", "br0", "type", "bridge"},
		{"link", "add", "member", "type", "veth", "peer", "name", "other"}, {"link", "set", "member", "master", "br0"},
	} {
		linktest.IP(t, append([]string{"-n", l.host.String()}, args...)...)
	}
	before := l.fingerprint()
	for _, c := range []struct{ name, code, want string }{
		{"lo", api.CodeRefused, "loopback"},
		{"tun0", api.CodeRefused, "no Ethernet header"},
		{"member", api.CodeRefused, "member of the bridge br0, which has the addresses; share br0 instead"},
		{"nosuch", api.CodeNotFound, "nosuch"},
	} {
		l.cfg.Interface = c.name
		_, err := uplink.Open(l.cfg, nil, uplink.Changes{})
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != c.code || !strings.Contains(e.Detail, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	l.cfg.Interface = "up0"
	for _, ports := range [][2]uint16{{0, 5}, {7, 6}} {
		l.cfg.FirstPort, l.cfg.LastPort = ports[0], ports[1]
		_, err := uplink.Open(l.cfg, nil, uplink.Changes{})
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.CodeInvalid {
			t.Errorf("ports %v: %v", ports, err)
		}
	}
	l.cfg.FirstPort, l.cfg.LastPort = 50000, 62000
	l.cfg.Record = func(uplink.Changes) error { return errors.New("disk full") }
	if _, err := uplink.Open(l.cfg, nil, uplink.Changes{}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("what can't be written down is done: %v", err)
	}
	l.unchanged(before)
	if l.store.names() != 0 {
		t.Error("fds are stored")
	}
}

// TestHeldPorts: ports that sockets of the host are bound to stay the host's.
func TestHeldPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.echo(l.host, "0.0.0.0", 61007)
	l.echo(l.host, "::", 61008)
	l.echo(l.host, "127.0.0.1", 61009)
	l.echo(l.host, hostAddrs[1], 61010)
	udp, err := packetConn(l.host, "", 61011)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	u := l.open()
	tcp, dgram := u.Ports(bpf.TCP), u.Ports(bpf.UDP)
	for port, want := range map[uint16][2]bool{
		60999: {false, false}, 61000: {true, true}, 65535: {true, true},
		61007: {false, true}, 61008: {false, true}, 61009: {true, true}, 61010: {false, true}, 61011: {true, false},
	} {
		if got := [2]bool{tcp.Has(port), dgram.Has(port)}; got != want {
			t.Errorf("port %d is ours by TCP and UDP: %v, want %v", port, got, want)
		}
	}
	if held, err := u.Held(bpf.TCP); err != nil || !held.Has(61007) || held.Has(61000) {
		t.Errorf("held: %v", err)
	}
	for i, port := range []int{61007, 61008, 61010} {
		l.talks("to a socket of the host in the range", l.outside, 0, []string{hostAddrs[0], hostAddrs[0], hostAddrs[1]}[i], port)
	}
	u.Publish(bpf.TCP, 61000)
	u.Republish(bpf.TCP, bpf.PortSet{})
	l.silent("port of the range that was published", hostAddrs[0], 61000)
	u.Publish(bpf.TCP, 8080)
	l.silent("published", hostAddrs[0], 8080)
	u.Republish(bpf.TCP, bpf.PortSet{})
	l.refused("published no longer", hostAddrs[0], 8080)
}

// TestReserve: the kernel is told which ports not to choose only where it might.
func TestReserve(t *testing.T) {
	t.Parallel()
	const reserved = "net.ipv4.ip_local_reserved_ports"
	l := newLab(t)
	sysctl(t, l.host, reserved+"=1000,40000-40010")
	for _, c := range []struct {
		first, last uint16
		want        string
	}{
		{0, 0, "1000,40000-40010"},
		{61000, 61000, "1000,40000-40010"},
		{60999, 60999, "1000,40000-40010,60999"},
		{30000, 40005, "1000,32768-40010"},
		{1, 65535, "1000,32768-60999"},
	} {
		t.Run(fmt.Sprint(c.first, "-", c.last), func(t *testing.T) {
			l.t = t
			l.cfg.FirstPort, l.cfg.LastPort = c.first, c.last
			u := l.open()
			if got := sysctl(t, l.host, reserved); got != c.want {
				t.Errorf("reserved are %s, want %s", got, c.want)
			}
			if err := u.Remove(); err != nil {
				t.Fatal(err)
			}
			if got := sysctl(t, l.host, reserved); got != "1000,40000-40010" {
				t.Errorf("afterwards reserved are %s", got)
			}
		})
	}
	l.cfg.FirstPort, l.cfg.LastPort = 50000, 50010
	u := l.open()
	sysctl(t, l.host, reserved+"=1000,50000-50010,50020")
	if err := u.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := sysctl(t, l.host, reserved); got != "1000,50020" {
		t.Errorf("after somebody else changed them too, reserved are %s", got)
	}
}

func TestPortLists(t *testing.T) {
	for _, list := range []string{"", "0", "65535", "0-65535", "1,3-4,65534-65535"} {
		s, err := uplink.ParsePorts(list)
		if got := uplink.FormatPorts(&s); err != nil || got != list {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for _, list := range []string{",", "-", "1-", "-1", "2-1", "65536", "x"} {
		if _, err := uplink.ParsePorts(list); err == nil {
			t.Errorf("%q is taken", list)
		}
	}
}

// TestTAP: the TAP is up, and the host's stack has no business with it.
func TestTAP(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.open()
	name := link.DeviceName(l.cfg.ID)
	s, err := link.Lookup(l.host, name)
	if err != nil || !s.Up || s.MTU < 65000 {
		t.Errorf("the TAP is %+v, %v", s, err)
	}
	if out := linktest.IP(t, "-n", l.host.String(), "addr", "show", "dev", name); strings.Contains(out, "inet") {
		t.Errorf("the TAP has addresses: %s", out)
	}
}
