package vswitch_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// routesOf lists the host's routes by an interface, but for the kernel's.
func routesOf(c *netnstest.Container, ifname string) (list []string) {
	for _, family := range []string{"-4", "-6"} {
		for _, line := range strings.Split(c.Run("ip", family, "route", "show", "dev", ifname), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "proto kernel") {
				list = append(list, line)
			}
		}
	}
	return list
}

// TestHostFollowsNetworks: the host's routes are there when a verb answers, with the network's MTU, and gone with it.
func TestHostFollowsNetworks(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := hostDaemon(t, lab)
	is := func(want ...string) {
		t.Helper()
		got := routesOf(d.Host, "vsw0")
		if !slices.EqualFunc(got, want, func(g, w string) bool { return strings.HasPrefix(g, w+" ") && strings.Contains(g, " src ") }) {
			t.Errorf("routes of the host:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	mtu := func(words string) {
		t.Helper()
		if got := routesOf(d.Host, "vsw0"); !strings.Contains(strings.Join(got, "\n"), words) {
			t.Errorf("no route with %q:\n%s", words, strings.Join(got, "\n"))
		}
	}
	is()
	d.Must("add-network", "a", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	is("10.11.0.0/24", "fd11::/64")
	d.Must("add-network", "b", "--subnet", "10.12.0.0/24", "--mtu", "1400", "--", "add-network", "c", "--subnet", "10.13.0.0/24", "--router", "other",
		"--", "add-network", "d", "--subnet", "10.14.0.0/24", "--no-gateway", "--", "add-network", "e", "--no-subnet")
	is("10.11.0.0/24", "10.12.0.0/24", "fd11::/64")
	mtu("src 192.0.0.6 mtu 1400")
	d.Must("set-network", "b", "--mtu", "1300")
	mtu("src 192.0.0.6 mtu 1300")
	d.Must("set-network", "a", "--router", "other")
	is("10.12.0.0/24")
	d.Must("set-network", "a", "--router", "main", "--no-gateway")
	is("10.12.0.0/24")
	d.Must("set-network", "c", "--router", "main")
	is("10.12.0.0/24", "10.13.0.0/24")
	d.Must("del-network", "b")
	d.Must("del-network", "c", "--", "del-network", "e")
	is()
}

// TestHostYields: what the host has of its own counts, whether it came before or after us.
func TestHostYields(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := hostDaemon(t, lab)
	unrouted := func(want ...string) {
		t.Helper()
		lab.Eventually(fmt.Sprintf("no route to %v", want), func() bool {
			var got []string
			for _, u := range shown(d).Unrouted {
				got = append(got, u.Subnet.String()+" "+u.Reason)
			}
			return slices.Equal(got, want)
		})
	}
	d.Host.IP("route add 10.8.0.0/16 dev out0")
	d.Host.IP("-6 route add fd08::/32 dev out0")
	d.Must("add-network", "a", "--subnet", "10.8.1.0/24", "--subnet", "fd08:0:1::/64")
	d.Must("add-network", "b", "--subnet", "10.9.1.0/24")
	unrouted("10.8.1.0/24 the host has a route to 10.8.0.0/16 by out0", "fd08:0:1::/64 the host has a route to fd08::/32 by out0")
	if got := routesOf(d.Host, "vsw0"); len(got) != 1 || !strings.HasPrefix(got[0], "10.9.1.0/24") {
		t.Errorf("routes of the host: %q", got)
	}
	d.Host.IP("route del 10.8.0.0/16")
	unrouted("fd08:0:1::/64 the host has a route to fd08::/32 by out0")
	d.Host.IP("-6 route del fd08::/32")
	unrouted()
	d.Host.IP("addr add 10.9.1.7/24 dev out0") // comes with a route of the kernel's
	unrouted("10.9.1.0/24 the host has a route to 10.9.1.0/24 by out0")
	if got := d.Host.Run("ip", "route", "get", "10.9.1.9"); !strings.Contains(got, "dev out0") {
		t.Errorf("the way to what the host is connected to:\n%s", got)
	}
	d.Host.IP("addr del 10.9.1.7/24 dev out0")
	unrouted()
	d.Host.IP("route del 10.9.1.0/24 dev vsw0")
	lab.Eventually("our route comes back", func() bool { return len(routesOf(d.Host, "vsw0")) == 3 })
}

// TestHostAddresses: containers reach each address that the host has, as long as it has it.
func TestHostAddresses(t *testing.T) {
	t.Parallel()
	lab, d, a, _ := withHost(t)
	for _, x := range [][3]string{{"198.51.100.7", "32", "lo"}, {"2001:db8:7::7", "128", "lo"}, {"203.0.113.9", "24", "out0"}, {"2001:db8:9::9", "64", "out0"}} {
		if err := pinged(a, x[0], "-W", "1"); err == nil {
			t.Errorf("%s answers before the host has it", x[0])
		}
		d.Host.IP(fmt.Sprintf("addr add %s/%s dev %s", x[0], x[1], x[2]))
		lab.Eventually(x[0]+" answers", func() bool { return pinged(a, x[0], "-W", "1") == nil })
		d.Host.IP(fmt.Sprintf("addr del %s/%s dev %s", x[0], x[1], x[2]))
		lab.Eventually(x[0]+" is gone", func() bool {
			return !slices.Contains(shown(d).HostAddresses, netip.MustParseAddr(x[0]))
		})
		if out, err := a.Try("ping", "-n", "-c", "1", "-W", "10", x[0]); err == nil || !strings.Contains(out+err.Error(), "nreachable") {
			t.Errorf("%s after the host lost it: %s%v", x[0], out, err)
		}
	}
}

// TestHostServices: a container reaches what listens on all of the host's addresses or on one, and nothing of the host's loopback.
func TestHostServices(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	reach := func(c *netnstest.Container, addr string, l *net.TCPListener) error {
		conn, err := c.DialTCP(net.JoinHostPort(addr, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
		if err == nil {
			conn.Close()
		}
		return err
	}
	all, one, loop := d.Host.ListenTCP("0.0.0.0:0"), d.Host.ListenTCP("192.0.2.2:0"), d.Host.ListenTCP("127.0.0.1:0")
	all6, loop6 := d.Host.ListenTCP("[::]:0"), d.Host.ListenTCP("[::1]:0")
	for _, l := range []*net.TCPListener{all, one, loop, all6, loop6} {
		defer l.Close()
	}
	for _, c := range []*netnstest.Container{a, b} {
		for _, x := range []struct {
			addr string
			l    *net.TCPListener
			ok   bool
		}{
			{"192.0.2.2", all, true}, {"192.0.0.6", all, true}, {"192.0.2.2", one, true}, {"192.0.0.6", one, false},
			{"2001:db8::2", all6, true}, {"fd83:585c:c419::6", all6, true},
			{"192.0.2.2", loop, false}, {"192.0.0.6", loop, false}, {"2001:db8::2", loop6, false}, {"fd83:585c:c419::6", loop6, false},
		} {
			if err := reach(c, x.addr, x.l); (err == nil) != x.ok {
				t.Errorf("%s to %s, where %s listens: %v", c.Name, x.addr, x.l.Addr(), err)
			}
		}
	}
	for _, dst := range []string{"ip_dst=127.0.0.1", "ipv6_dst=::1"} { // a container whose kernel would send there
		proto := map[bool]string{true: "tcp6", false: "tcp"}[strings.Contains(dst, "v6")]
		if got := d.Must("trace", "in_port=a,"+proto+","+dst+",tcp_dst=80,eth_dst="+gatewayOf(t, a)); !strings.Contains(got, "martian") {
			t.Errorf("trace to the host's loopback:\n%s", got)
		}
	}
}

func gatewayOf(t *testing.T, c *netnstest.Container) string {
	t.Helper()
	if err := pinged(c, "10.11.0.1"); err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(c.Run("ip", "neigh", "show", "10.11.0.1"))
	return fields[slices.Index(fields, "lladdr")+1]
}

// TestHostIsNoRouter: the host port is for the host alone. What the host would forward from its LAN to a container is dropped, and what
// a container sends to others doesn't come by the host.
func TestHostIsNoRouter(t *testing.T) {
	t.Parallel()
	lab, d, a, _ := withHost(t)
	out := lab.Container("out")
	d.Host.IP("link set out1 netns " + out.Name)
	d.Host.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, line := range []string{"link set lo up", "link set out1 up", "addr add 192.0.2.9/24 dev out1", "addr add 2001:db8::9/64 dev out1 nodad",
		"route add 10.11.0.0/24 via 192.0.2.2", "-6 route add fd11::/64 via 2001:db8::2"} {
		out.IP(line)
	}
	t.Cleanup(func() { out.IP("link del out1") })
	lab.Eventually("the host answers its LAN", func() bool {
		return pinged(out, "192.0.2.2", "-W", "1") == nil && pinged(out, "2001:db8::2", "-W", "1") == nil
	})
	for _, addr := range []string{"10.11.0.2", "fd11::2"} {
		if pinged(out, addr, "-W", "1") == nil {
			t.Errorf("the LAN reaches %s", addr)
		}
	}
	for _, addr := range []string{"192.0.2.9", "2001:db8::9"} {
		if pinged(a, addr, "-W", "1") == nil {
			t.Errorf("a container reaches %s", addr)
		}
	}
	for _, p := range netnstest.Get[api.Stats](d, "stats").Ports {
		if p.Port == "host:vsw0" && p.Drops["reverse_path"] != 2 {
			t.Errorf("drops of the host port: %v", p.Drops)
		}
	}
	if err := pinged(d.Host, "10.11.0.2"); err != nil {
		t.Error(err)
	}
}

// TestHostOfOtherRouters: a network on another router is none of the host's, though it may have a subnet of main's.
func TestHostOfOtherRouters(t *testing.T) {
	t.Parallel()
	lab, d, a, _ := withHost(t)
	d.Must("add-network", "other", "--router", "lab", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	x := lab.Container("x")
	d.Join("other", "x", x)
	for _, addr := range hostAddresses {
		if pinged(x, addr, "-W", "1") == nil {
			t.Errorf("%s answers a container of another router", addr)
		}
	}
	l := a.ListenTCP("10.11.0.2:0") // and x has the same address
	defer l.Close()
	conn, err := d.Host.DialTCP(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestHostOfHundredNetworks: a change of one costs no more for the others.
func TestHostOfHundredNetworks(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := hostDaemon(t, lab)
	var line []string
	for i := range 100 {
		line = append(line, "--", "add-network", fmt.Sprint("n", i), "--subnet", fmt.Sprintf("10.20.%d.0/24", i), "--subnet", fmt.Sprintf("fd20:%d::/64", i))
	}
	d.Must(line[1:]...)
	if got := len(routesOf(d.Host, "vsw0")); got != 200 {
		t.Errorf("%d routes", got)
	}
	c := lab.Container("c")
	d.Join("n77", "c", c)
	if err := pinged(d.Host, "10.20.77.2"); err != nil {
		t.Error(err)
	}
	start := time.Now()
	d.Must("del-network", "n5")
	t.Logf("del-network took %v", time.Since(start))
	d.Kill()
	d.Host.IP("route del 10.20.6.0/24 dev vsw0")
	d.Start()
	if got := len(routesOf(d.Host, "vsw0")); got != 198 {
		t.Errorf("%d routes", got)
	}
	if got := shown(d); got.State != api.StateUp || len(got.Routes) != 198 || !reflect.DeepEqual(got.Problems, []string(nil)) {
		t.Errorf("shown is %+v", got)
	}
	if err := pinged(c, "fd83:585c:c419::6"); err != nil {
		t.Error(err)
	}
}

// TestHostBesideUplink: where an uplink shares the host's addresses, published ports come first, then the host itself; the outside is
// behind the uplink still.
func TestHostBesideUplink(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "--host-port=vsw0")
	n.d.Must("add-uplink", "auto")
	n.d.Must("publish", "c", "8080:80")
	other := n.lab.Container("other")
	n.d.Join("net", "other", other)
	web := map[string]*net.TCPListener{"10.11.0.2": n.c.ListenTCP("10.11.0.2:80"), "fd11::2": n.c.ListenTCP("[fd11::2]:80")}
	for i, addr := range []string{"192.0.2.2", "2001:db8:1::2"} {
		inner := []string{"10.11.0.2", "fd11::2"}[i]
		if err := pinged(n.c, addr); err != nil {
			t.Errorf("ping to the host by %s: %v", addr, err)
		}
		if got := seenAs(t, n.c, n.host, addr); got != inner {
			t.Errorf("the host at %s sees the container as %s", addr, got)
		}
		if got := seenAs(t, n.c, n.server, serverAddrs[i]); got != addr {
			t.Errorf("%s sees the container as %s", serverAddrs[i], got)
		}
		if err := netnstest.Stream(n.host, n.c, inner, 4<<20); err != nil {
			t.Errorf("TCP from the host to %s: %v", inner, err)
		}
		for _, from := range []*netnstest.Container{other, n.server} {
			conn, err := from.DialTCP(net.JoinHostPort(addr, "8080"))
			if err != nil {
				t.Errorf("%s to the published port at %s: %v", from.Name, addr, err)
				continue
			}
			got, err := web[inner].Accept()
			if err != nil {
				t.Fatal(err)
			}
			got.Close()
			conn.Close()
		}
	}
	for _, l := range web {
		l.Close()
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
}

// TestHostOfManyRoutes: a host with a large table of routes that changes all the time costs little, and its host port is still looked after.
func TestHostOfManyRoutes(t *testing.T) {
	t.Parallel()
	lab, d, _, _ := withHost(t)
	file := filepath.Join(t.TempDir(), "routes")
	var batch strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&batch, "route add 100.%d.%d.0/24 dev out0\n", 64+i/256, i%256)
	}
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Host.Run("ip", "-batch", file)
	before := cpuTime(t, d)
	start := time.Now()
	for time.Since(start) < time.Second {
		d.Host.IP("route del 100.64.9.0/24 dev out0")
		d.Host.IP("route add 100.64.9.0/24 dev out0")
	}
	if used := cpuTime(t, d) - before; used > time.Since(start)/4 {
		t.Errorf("the daemon used %v of %v", used, time.Since(start))
	}
	d.Host.IP("route del 10.11.0.0/24 dev vsw0")
	lab.Eventually("our route comes back", func() bool { return len(routesOf(d.Host, "vsw0")) == 4 })
}
