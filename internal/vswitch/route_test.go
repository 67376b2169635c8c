package vswitch_test

import (
	"regexp"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// twoNetworks are two networks of one router and a container on each, the second with a smaller MTU:
//
//	a 10.11.0.2 fd11::2 (TAP) --- neta, MTU 1500 --- router main --- netb, MTU 1400 --- b 10.12.0.2 fd12::2 (veth)
func twoNetworks(t *testing.T) (lab *netnstest.Lab, d *netnstest.Daemon, a, b *netnstest.Container) {
	t.Helper()
	lab = netnstest.New(t)
	d = lab.Daemon()
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64", "--mtu", "1500")
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24", "--subnet", "fd12::/64", "--mtu", "1400")
	a, b = lab.Container("a"), lab.Container("b")
	d.Join("neta", "a", a)
	d.Join("netb", "b", b, "--type", "veth")
	return lab, d, a, b
}

func pinged(c *netnstest.Container, addr string, more ...string) error {
	_, err := c.Try("ping", append([]string{"-n", "-c", "1", "-W", "10", addr}, more...)...)
	return err
}

// TestRouting is what a gateway is for: it answers, and its networks reach each other, also after the daemon was killed.
func TestRouting(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	try := func() {
		t.Helper()
		for _, addr := range []string{"10.11.0.1", "fd11::1", "10.12.0.1", "fd12::1", "10.12.0.2", "fd12::2"} {
			if err := pinged(a, addr); err != nil {
				t.Errorf("ping from a to %s: %v", addr, err)
			}
			if err := pinged(a, addr, "-s", "4000", "-M", "dont"); err != nil && pinged(a, addr, "-s", "4000", "-M", "dont") != nil {
				t.Errorf("large ping from a to %s, by a sender that was told the MTU of the path: %v", addr, err)
			}
		}
		for _, x := range []struct {
			from, to *netnstest.Container
			addr     string
		}{{a, b, "10.12.0.2"}, {a, b, "fd12::2"}, {b, a, "10.11.0.2"}, {b, a, "fd11::2"}} {
			if err := netnstest.Stream(x.from, x.to, x.addr, 4<<20); err != nil {
				t.Errorf("TCP to %s: %v", x.addr, err)
			}
			if err := netnstest.Datagrams(x.from, x.to, x.addr, 1, 100, 1300); err != nil {
				t.Errorf("UDP to %s: %v", x.addr, err)
			}
		}
	}
	try()
	netnstest.ExpectNoErrors(a, b)
	d.Kill()
	d.Start()
	try()
	netnstest.ExpectNoErrors(a, b)
}

// TestRouterIsAHop shows the router as the first hop of a path, by a TTL of 1.
func TestRouterIsAHop(t *testing.T) {
	t.Parallel()
	_, _, a, _ := twoNetworks(t)
	for addr, hop := range map[string]string{"10.12.0.2": "10.11.0.1", "fd12::2": "fd11::1"} {
		out, err := a.Try("ping", "-n", "-c", "1", "-W", "10", "-t", "1", addr)
		if err == nil || !strings.Contains(out+err.Error(), hop) {
			t.Errorf("ping with a TTL of 1 to %s does not name %s: %s %v", addr, hop, out, err)
		}
		if err := pinged(a, addr, "-t", "2"); err != nil {
			t.Errorf("ping with a TTL of 2 to %s: %v", addr, err)
		}
	}
}

// TestPathMTU: who may not be fragmented is told what fits.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	_, d, a, _ := twoNetworks(t)
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		out, err := a.Try("ping", "-n", "-c", "1", "-W", "10", "-M", "do", "-s", "1420", addr)
		if err == nil || !strings.Contains(strings.ToLower(out+err.Error()), "mtu") {
			t.Errorf("a ping of 1420 bytes over an MTU of 1400 to %s: %s %v", addr, out, err)
		}
		if route := a.Run("ip", "route", "get", addr); !strings.Contains(route, "mtu 1400") {
			t.Errorf("a's kernel did not learn the MTU of the path to %s: %s", addr, route)
		}
	}
	if n := dropped(d, "a", "frag_needed"); n == 0 {
		t.Error("no frame is counted as frag_needed")
	}
}

// TestPathMTUOfTCP: bulk TCP, sent as super-frames of segments that are too large since the way became smaller after both sides had agreed on
// their size, finds the MTU of the path, and no byte is lost.
func TestPathMTUOfTCP(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	before := uint64(0)
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		d.Must("set-network", "netb", "--mtu", "1500", "--", "set-port", "b", "--mtu", "1500")
		if err := netnstest.StreamAfter(a, b, addr, 8<<20, func() { d.Must("set-port", "b", "--mtu", "1400") }); err != nil {
			t.Errorf("TCP to %s: %v", addr, err)
		}
		n := dropped(d, "a", "frag_needed")
		if n == before {
			t.Errorf("no segment to %s was too large", addr)
		}
		before = n
	}
	netnstest.ExpectNoErrors(a, b)
}

// TestBlackHole: bulk TCP passes a way that is smaller than what both ends believe, where nobody ever hears an ICMP error about it: b has
// a larger MTU than its network, which drops its larger frames in silence.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	b.IP("link set eth0 mtu 1500")
	a.IP("route replace 10.12.0.0/24 via 10.11.0.1 advmss 1460 mtu lock 1500")
	a.IP("-6 route replace fd12::/64 via fd11::1 advmss 1440 mtu lock 1500")
	for _, masquerade := range []string{"off", "on"} {
		d.Must("set-network", "neta", "--masquerade", masquerade)
		for _, addr := range []string{"10.12.0.2", "fd12::2"} {
			if err := netnstest.Stream(a, b, addr, 8<<20); err != nil {
				t.Errorf("TCP between %s and a: %v", addr, err)
			}
		}
	}
	for _, reason := range []string{"over_mtu", "frag_needed"} {
		if n := dropped(d, "a", reason) + dropped(d, "b", reason); n != 0 {
			t.Errorf("%d frames were too large: %s", n, reason)
		}
	}
	netnstest.ExpectNoErrors(a, b)
}

// TestGatewayTakeover: a container that says it were the gateway, or uses its MAC, is not heard by others, and they go on.
func TestGatewayTakeover(t *testing.T) {
	t.Parallel()
	lab, d, a, _ := twoNetworks(t)
	c := lab.Container("c")
	d.Join("neta", "c", c)
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		if err := pinged(a, addr); err != nil {
			t.Fatal(err)
		}
	}
	gateways := func() string {
		return a.Run("ip", "neigh", "show", "10.11.0.1") + a.Run("ip", "neigh", "show", "fd11::1")
	}
	mac := regexp.MustCompile(`lladdr (\S+)`).FindStringSubmatch(gateways())[1]
	all, me := packettest.To("ff:ff:ff:ff:ff:ff", "10.11.0.1", 0), c.MAC()
	claims := []*packet.Frame{
		packettest.ARPRequest(packettest.From(me, "10.11.0.1", 0), all),
		packettest.ARPReply(packettest.From(me, "10.11.0.1", 0), packettest.To(a.MAC(), "10.11.0.2", 0)),
		packettest.ND(136, "fd11::1", []packettest.NDOption{packettest.TargetLLA(me)}, packettest.From(me, "fd11::1", 0), packettest.To("33:33:00:00:00:01", "ff02::1", 0), packettest.Echo(0x2000, 0)),
		packettest.ND(135, "fd11::2", []packettest.NDOption{packettest.SourceLLA(me)}, packettest.From(me, "fd11::1", 0), packettest.To(a.MAC(), "fd11::2", 0)),
	}
	socket := c.PacketSocket("eth0")
	for range 100 {
		for _, f := range claims {
			socket.Send(f.Bytes())
		}
		socket.Send(packettest.UDP(packettest.From(mac, "10.11.0.3", 1), packettest.To(a.MAC(), "10.11.0.2", 9)).Bytes())
	}
	lab.Eventually("all of it is dropped", func() bool { return dropped(d, "c", "gateway_spoof") == 400 && dropped(d, "c", "gateway_mac") == 100 })
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		if err := pinged(a, addr); err != nil {
			t.Errorf("ping to %s beside a container that says it were the gateway: %v", addr, err)
		}
	}
	if s := gateways(); strings.Contains(s, me) || strings.Count(s, mac) != 2 {
		t.Errorf("a knows its gateways as\n%s, want %s", s, mac)
	}
}

// TestNeighborIsReplaced: traffic goes on when a container gets another MAC, and when another container gets its address.
func TestNeighborIsReplaced(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	expect := func(what string) {
		t.Helper()
		lab.Eventually(what, func() bool { return pinged(a, "10.12.0.2", "-W", "2") == nil && pinged(a, "fd12::2", "-W", "2") == nil })
	}
	expect("b answers")
	d.Must("set-port", "b", "--mac", "02:00:00:00:77:01")
	expect("b answers with another MAC")
	d.Must("del-port", "b")
	c := lab.Container("c")
	d.Must("add-port", "netb", "c", "--netns", c.Name, "--ip", "10.12.0.2", "--ip", "fd12::2")
	expect("its successor answers")
	_ = b
}

// TestInternalIsNotRouted, but its gateway answers; other routers are other worlds.
func TestInternalIsNotRouted(t *testing.T) {
	t.Parallel()
	lab, d, a, _ := twoNetworks(t)
	d.Must("add-network", "inner", "--subnet", "10.13.0.0/24", "--internal")
	d.Must("add-network", "world", "--subnet", "10.12.0.0/24", "--router", "other")
	c, w := lab.Container("c"), lab.Container("w")
	d.Join("inner", "c", c)
	d.Join("world", "w", w)
	for _, x := range []struct {
		c    *netnstest.Container
		addr string
		ok   bool
	}{{c, "10.13.0.1", true}, {a, "10.13.0.2", false}, {a, "10.13.0.1", false}, {w, "10.12.0.1", true}, {w, "10.11.0.2", false}} {
		if err := pinged(x.c, x.addr); (err == nil) != x.ok {
			t.Errorf("ping to %s: %v", x.addr, err)
		}
	}
	d.Must("set-network", "inner", "--internal=false")
	c.Run("ip", "route", "replace", "default", "via", "10.13.0.1")
	lab.Eventually("a network that is internal no more is reached", func() bool { return pinged(a, "10.13.0.2", "-W", "2") == nil })
}
