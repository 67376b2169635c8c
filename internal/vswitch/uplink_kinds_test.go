package vswitch_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// TestUplinkKinds: what stands on an Ethernet interface of the host and has its addresses is shared as well as that itself: a bridge whose port it
// is, a bond, a macvlan, an ipvlan, a VLAN.
func TestUplinkKinds(t *testing.T) {
	for kind, k := range map[string]struct {
		words string   // of 'ip link add'
		lines []string // of ip, after it
	}{
		"bridge":  {"wan type bridge", []string{"link set up0 master wan"}},
		"bond":    {"wan type bond mode active-backup miimon 20", []string{"link set up0 down", "link set up0 master wan"}},
		"macvlan": {"link up0 name wan type macvlan mode bridge", nil},
		"ipvlan":  {"link up0 name wan type ipvlan mode l2", nil},
		"vlan":    {"link up0 name wan type vlan id 7", nil},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := newInternet(t)
			n.host.IP("addr flush dev up0")
			n.host.Make(k.words)
			for _, line := range k.lines {
				n.host.IP(line)
			}
			if kind == "vlan" {
				n.isp.Tag("eth0", 7)
			}
			n.move(t, n.host, "wan", "192.0.2.2/24", "2001:db8:1::2/64")
			n.routeOut()
			n.shared(t, "wan")
			netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
		})
	}
}

// move gives an interface addresses that another one had.
func (n *internet) move(t *testing.T, c *netnstest.Container, ifname string, addrs ...string) {
	t.Helper()
	c.IP("link set " + ifname + " up")
	for _, addr := range addrs {
		c.IP("addr add " + addr + " dev " + ifname + " nodad")
	}
	n.lab.Eventually(ifname+" listens", func() bool { return c.Listens(ifname) })
}

// shared makes the interface of the default route an uplink, publishes a port there, and tries both. It returns sessions that go on.
func (n *internet) shared(t *testing.T, ifname string) []talkers {
	t.Helper()
	n.lab.Eventually("the host reaches the outside", func() bool {
		return pinged(n.host, serverAddrs[0], "-W", "1") == nil && pinged(n.host, serverAddrs[1], "-W", "1") == nil
	})
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80")
	if got := n.d.Must("list-uplinks"); !strings.Contains(got, ifname) {
		t.Errorf("uplinks:\n%s", got)
	}
	all := n.sessions(t)
	for _, s := range all {
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
	return all
}

// TestUplinkBond: connections go on by the other member of a bond when one of its cables breaks, and when that is back and the other one breaks.
//
//	wan (up0, up1) === br0 (eth0, eth1) of the ISP
func TestUplinkBond(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.host.IP("addr flush dev up0")
	n.host.Make("wan type bond mode active-backup miimon 20")
	n.isp.IP("link add br0 type bridge")
	n.isp.IP("addr flush dev eth0")
	n.host.IP("link add up1 type veth peer name eth2 netns " + n.isp.Name)
	t.Cleanup(func() { n.isp.IP("link del eth2") })
	for i, eth := range []string{"eth0", "eth2"} {
		up := "up" + strconv.Itoa(i)
		n.host.IP("link set " + up + " down")
		n.host.IP("link set " + up + " master wan")
		n.isp.IP("link set " + eth + " master br0 up")
	}
	n.move(t, n.isp, "br0", "192.0.2.1/24", "2001:db8:1::1/64")
	n.move(t, n.host, "wan", "192.0.2.2/24", "2001:db8:1::2/64")
	n.routeOut()
	all := n.shared(t, "wan")
	active := func() string {
		_, member, _ := strings.Cut(n.host.IP("-d -o link show wan"), "active_slave ")
		return strings.Fields(member + " none")[0]
	}
	for range 2 {
		was := active()
		broken := strings.Replace(strings.Replace(was, "up0", "eth0", 1), "up1", "eth2", 1)
		n.isp.IP("link set " + broken + " down")
		n.lab.Eventually("another member is active", func() bool { now := active(); return now != was && now != "none" })
		for _, s := range all {
			if err := words(s.far, s.inner); err != nil {
				t.Errorf("%s, after %s of the bond is broken: %v", s.name, was, err)
			}
		}
		n.isp.IP("link set " + broken + " up")
		n.lab.Eventually("both members are up", func() bool { return strings.Contains(n.host.IP("-d -o link show "+was), "mii_status UP") })
	}
	n.d.Refused(1, "it is a member of the bond wan, which has the addresses; share wan instead", "add-uplink", "up0")
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
}

// TestUplinkNIC: a network card is shared; large receive offload, whose frames can't be sent on, is off meanwhile. VSWITCH_NICS names two cards
// of the machine with a cable between them, the first with large receive offload (those of 'make test-vm').
func TestUplinkNIC(t *testing.T) {
	nics := strings.Fields(os.Getenv("VSWITCH_NICS"))
	if len(nics) != 2 {
		t.Skip("VSWITCH_NICS names no network cards")
	}
	n := newInternet(t)
	n.host.IP("addr flush dev up0")
	n.isp.IP("addr flush dev eth0")
	for i, c := range []*netnstest.Container{n.host, n.isp} {
		if out, err := exec.Command("ip", "link", "set", nics[i], "netns", c.Name, "name", "wan").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Cleanup(func() { c.IP("link set wan netns 1 name " + nics[i]) })
	}
	n.move(t, n.isp, "wan", "192.0.2.1/24", "2001:db8:1::1/64")
	n.move(t, n.host, "wan", "192.0.2.2/24", "2001:db8:1::2/64")
	n.routeOut()
	own := func(when string) {
		t.Helper()
		for _, addr := range serverAddrs {
			if err := netnstest.Stream(n.host, n.server, addr, 8<<20); err != nil {
				t.Errorf("the host's own TCP to %s %s: %v", addr, when, err)
			}
		}
	}
	own("alone")
	n.host.Run("ethtool", "-K", "wan", "lro", "on")
	lro := func() bool {
		return strings.Contains(n.host.Run("ethtool", "-k", "wan"), "large-receive-offload: on")
	}
	if !lro() {
		t.Fatalf("%s has no large receive offload", nics[0])
	}
	n.shared(t, "wan")
	if lro() {
		t.Error("large receive offload is on while the card is shared")
	}
	own("beside the uplink")
	n.d.Must("del-uplink", "auto")
	if !lro() {
		t.Error("large receive offload is not on again")
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
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
