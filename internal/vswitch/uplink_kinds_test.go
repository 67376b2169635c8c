package vswitch_test

import (
	"net"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// TestUplinkKinds: what stands on an Ethernet interface of the host and has its addresses is shared as well as that itself: a bridge whose port it
// is, a macvlan, a VLAN.
func TestUplinkKinds(t *testing.T) {
	for kind, lines := range map[string][]string{
		"bridge":  {"link add wan type bridge", "link set up0 master wan"},
		"macvlan": {"link add link up0 name wan type macvlan mode bridge"},
		"vlan":    {"link add link up0 name wan type vlan id 7"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := newInternet(t)
			n.host.IP("-6 route del default")
			n.host.IP("addr flush dev up0")
			for _, line := range lines {
				if _, err := n.host.Try("ip", strings.Fields(line)...); err != nil && kind == "vlan" && strings.Contains(err.Error(), "Unknown device type") {
					t.Skip("this kernel is built without CONFIG_VLAN_8021Q")
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if kind == "vlan" {
				n.isp.Tag("eth0", 7)
			}
			for _, line := range []string{
				"link set wan up", "addr add 192.0.2.2/24 dev wan", "addr add 2001:db8:1::2/64 dev wan nodad",
				"route add default via 192.0.2.1", "route add default via 2001:db8:1::1",
			} {
				n.host.IP(line)
			}
			n.lab.Eventually("the host reaches the outside", func() bool {
				return pinged(n.host, serverAddrs[0], "-W", "1") == nil && pinged(n.host, serverAddrs[1], "-W", "1") == nil
			})
			n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80")
			if got := n.d.Must("list-uplinks"); !strings.Contains(got, "wan") {
				t.Errorf("uplinks:\n%s", got)
			}
			for _, s := range n.sessions(t) {
				if err := words(s.far, s.inner); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
			}
			for _, addr := range serverAddrs {
				if err := netnstest.Stream(n.c, n.server, addr, 8<<20); err != nil {
					t.Errorf("TCP to %s: %v", addr, err)
				}
				if err := netnstest.Datagrams(n.c, n.server, addr, 1, 1400, 3000); err != nil {
					t.Errorf("UDP to %s: %v", addr, err)
				}
			}
			netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
		})
	}
}

// TestUplinkBesideMacvlan: an interface is shared although somebody else has a macvlan on it, and that works as before.
func TestUplinkBesideMacvlan(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	guest := n.lab.Container("guest")
	n.host.IP("link add link up0 name eth0 netns " + guest.Name + " type macvlan mode bridge")
	for _, line := range []string{
		"link set eth0 up", "addr add 192.0.2.66/24 dev eth0", "addr add 2001:db8:1::66/64 dev eth0 nodad",
		"route add default via 192.0.2.1", "route add default via 2001:db8:1::1",
	} {
		guest.IP(line)
	}
	n.d.Must("add-uplink", "up0", "--", "publish", "c", "8080:80")
	l := guest.ListenTCP("[::]:8080") // a port that is the switch's at the host's addresses
	defer l.Close()
	for i, addr := range []string{"192.0.2.66", "2001:db8:1::66"} {
		n.lab.Eventually("the guest reaches the outside", func() bool { return pinged(guest, serverAddrs[i], "-W", "1") == nil })
		if err := netnstest.Stream(guest, n.server, serverAddrs[i], 1<<20); err != nil {
			t.Errorf("TCP of the macvlan to %s: %v", serverAddrs[i], err)
		}
		conn, err := n.server.DialTCP(net.JoinHostPort(addr, "8080"))
		if err != nil {
			t.Errorf("TCP to the macvlan at %s: %v", addr, err)
			continue
		}
		conn.Close()
		if err := netnstest.Stream(n.c, n.server, serverAddrs[i], 1<<20); err != nil {
			t.Errorf("TCP of the container to %s: %v", serverAddrs[i], err)
		}
	}
	for _, s := range n.sessions(t) {
		if err := words(s.far, s.inner); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp, guest)
	n.expectUntouched(t)
}
