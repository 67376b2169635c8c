package vswitch_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// withHost is a host with an address of its own and two networks, all interfaces with the strict reverse-path check:
//
//	                     +-- neta, MTU 1500 --- a 10.11.0.2 fd11::2 (TAP)
//	host --- vsw0 --- router main
//	192.0.2.2            +-- netb, MTU 1400 --- b 10.12.0.2 fd12::2 (veth)
//	2001:db8::2
func withHost(t *testing.T, flags ...string) (lab *netnstest.Lab, d *netnstest.Daemon, a, b *netnstest.Container) {
	t.Helper()
	lab = netnstest.New(t)
	d = hostDaemon(t, lab, flags...)
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64", "--mtu", "1500")
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24", "--subnet", "fd12::/64", "--mtu", "1400")
	a, b = lab.Container("a"), lab.Container("b")
	d.Join("neta", "a", a)
	d.Join("netb", "b", b, "--type", "veth")
	return lab, d, a, b
}

// hostDaemon starts a daemon on such a host, without networks.
func hostDaemon(t *testing.T, lab *netnstest.Lab, flags ...string) *netnstest.Daemon {
	t.Helper()
	d := lab.NewDaemon(append([]string{"--host-port=vsw0"}, flags...)...)
	for _, line := range []string{
		"link set lo up", "link add out0 type veth peer out1", "link set out1 up", "link set out0 up", "addr add 192.0.2.2/24 dev out0",
		"addr add 2001:db8::2/64 dev out0 nodad", "route add default via 192.0.2.1", "-6 route add default via 2001:db8::1",
	} {
		d.Host.IP(line)
	}
	t.Cleanup(func() { _, _ = d.Host.Try("ip", "link", "del", "out0") }) // all that is left then is ours
	d.Host.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")
	d.Start()
	return d
}

var hostAddresses = []string{"192.0.2.2", "2001:db8::2", "192.0.0.6", "fd83:585c:c419::6"}

// meets tells whether host and containers reach each other by all their addresses.
func meets(t *testing.T, d *netnstest.Daemon, a, b *netnstest.Container) {
	t.Helper()
	d.Eventually("the host listens", func() bool { return d.Host.Listens(shown(d).Interface) })
	for _, addr := range []string{"10.11.0.2", "fd11::2", "10.12.0.2", "fd12::2", "10.11.0.1", "192.0.0.7", "fd83:585c:c419::7"} {
		if err := pinged(d.Host, addr); err != nil {
			t.Errorf("ping from the host to %s: %v", addr, err)
		}
	}
	for _, addr := range hostAddresses {
		for _, c := range []*netnstest.Container{a, b} {
			if err := pinged(c, addr); err != nil {
				t.Errorf("ping from %s to %s: %v", c.Name, addr, err)
			}
		}
	}
}

// TestHost is the host as a neighbor: with ping, much TCP and datagrams of all sizes, in both families and directions.
func TestHost(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	meets(t, d, a, b)
	for _, x := range []struct {
		c    *netnstest.Container
		addr string
	}{{a, "10.11.0.2"}, {a, "fd11::2"}, {b, "10.12.0.2"}, {b, "fd12::2"}} {
		if err := netnstest.Stream(d.Host, x.c, x.addr, 8<<20); err != nil {
			t.Errorf("TCP from the host to %s: %v", x.addr, err)
		}
		if err := netnstest.Datagrams(d.Host, x.c, x.addr, 1, 100, 1300); err != nil {
			t.Errorf("UDP from the host to %s: %v", x.addr, err)
		}
		for _, addr := range hostAddresses {
			if strings.Contains(addr, ":") != strings.Contains(x.addr, ":") {
				continue
			}
			if err := netnstest.Stream(x.c, d.Host, addr, 8<<20); err != nil {
				t.Errorf("TCP from %s to %s: %v", x.c.Name, addr, err)
			}
			if err := netnstest.Datagrams(x.c, d.Host, addr, 1, 100, 1300); err != nil {
				t.Errorf("UDP from %s to %s: %v", x.c.Name, addr, err)
			}
		}
	}
	netnstest.ExpectNoErrors(a, b, d.Host)
	for _, p := range netnstest.Get[api.Stats](d, "stats").Ports {
		if p.Port == "host:vsw0" && (p.RxPackets == 0 || p.TxPackets == 0 || len(p.Drops) > 0) {
			t.Errorf("counters %+v", p)
		}
	}
	if got := d.Must("trace", "in_port=a,tcp,ip_dst=192.0.2.2,tcp_dst=80"); !strings.Contains(got, "output:host:vsw0") || !strings.Contains(got, "network host:vsw0") {
		t.Errorf("trace to the host:\n%s", got)
	}
	for _, flow := range []string{"tcp,ip_src=192.0.2.2,ip_dst=10.11.0.2,tcp_dst=80", "tcp,ip_dst=10.11.0.2,tcp_dst=80", "tcp6,ipv6_dst=fd11::2,tcp_dst=80"} {
		if got := d.Must("trace", "in_port=host:vsw0,"+flow); !strings.Contains(got, "output:a") {
			t.Errorf("trace of %s from the host:\n%s", flow, got)
		}
	}
	d.Must("set-network", "neta", "--masquerade", "on")
	for i, addr := range []string{"192.0.2.2", "fd83:585c:c419::6"} {
		if got, want := seenAs(t, a, d.Host, addr), []string{"10.11.0.2", "fd11::2"}[i]; got != want {
			t.Errorf("the host at %s sees %s as %s", addr, want, got)
		}
		if got, want := seenAs(t, d.Host, a, []string{"10.11.0.2", "fd11::2"}[i]), []string{"192.0.0.6", "fd83:585c:c419::6"}[i]; got != want {
			t.Errorf("a container sees the host as %s, want %s", got, want)
		}
	}
	want := &api.HostPort{
		Interface: "vsw0", State: api.StateUp, Addresses: addresses("192.0.0.6", "fd83:585c:c419::6"), HostAddresses: addresses("192.0.2.2", "2001:db8::2"),
		Routes: prefixes("10.11.0.0/24", "10.12.0.0/24", "fd11::/64", "fd12::/64"),
	}
	if got := shown(d); !reflect.DeepEqual(got, want) {
		t.Errorf("shown is %+v; want %+v", got, want)
	}
}

func shown(d *netnstest.Daemon) *api.HostPort {
	return netnstest.Get[api.Show](d, "show").Daemon.HostPort
}

func addresses(text ...string) (list []netip.Addr) {
	for _, s := range text {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

func prefixes(text ...string) (list []netip.Prefix) {
	for _, s := range text {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
