package vswitch_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

const (
	station4, station6 = "192.0.2.77", "2001:db8:1::77"
	dedicated          = "add-uplink up0 --name own --mode dedicated --ip 192.0.2.77/24 --gateway 192.0.2.1 --ip 2001:db8:1::77/64 --gateway 2001:db8:1::1"
)

// TestDedicated: by an uplink with addresses of its own containers reach the outside and are reached by published ports, and keep their
// ports; the host's traffic goes on beside it, and nothing of the host is changed.
func TestDedicated(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated)...)
	u := netnstest.Get[api.Uplink](n.d, "show", "uplink", "own")
	if u.Status.State != api.UplinkUp || u.Status.Interface != "up0" || len(u.Status.Addresses) != 2 || u.Status.Attached != "packet" {
		t.Fatalf("the uplink is %+v", u)
	}
	n.d.Must("publish", "c", "80:7000", "--", "publish", "c", "80:7000/udp")
	echoes(t, n.c, 7000)
	for i, addr := range serverAddrs {
		own := []string{station4, station6}[i]
		for proto, seen := range map[string]func(*netnstest.Container, string) (string, error){"tcp": tcpSeen, "udp": udpSeen} {
			if got, err := seen(n.server, net.JoinHostPort(own, "80")); err != nil || got != addr {
				t.Errorf("%s: the server at the port published at %s is seen as %q, want %s: %v", proto, own, got, addr, err)
			}
		}
		if err := pinged(n.c, addr); err != nil {
			t.Errorf("ping to %s: %v\n%s", addr, err, n.d.Must("drops"))
		}
		if err := pinged(n.server, own); err != nil {
			t.Errorf("ping to the uplink's own %s: %v", own, err)
		}
		if got := seenAs(t, n.c, n.server, addr); got != own {
			t.Errorf("the container is seen as %s by %s, want %s", got, addr, own)
		}
		if err := netnstest.Stream(n.c, n.server, addr, 8<<20); err != nil {
			t.Errorf("TCP to %s: %v", addr, err)
		}
		if err := netnstest.Datagrams(n.c, n.server, addr, 1, 100, 1400); err != nil {
			t.Errorf("UDP to %s: %v", addr, err)
		}
		if err := netnstest.Stream(n.host, n.server, addr, 1<<20); err != nil {
			t.Errorf("the host's own TCP to %s: %v", addr, err)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
	n.expectUntouched(t)
	for line := range strings.Lines(n.host.Run("cat", "/proc/net/nf_conntrack")) {
		if strings.Contains(line, station4) || strings.Contains(line, "2001:0db8:0001:0000:0000:0000:0000:0077") {
			t.Errorf("the host's kernel tracks %s", line)
		}
	}
	n.d.Must("del-uplink", "own")
	for _, own := range []string{station4, station6} {
		if pinged(n.server, own, "-W", "1") == nil {
			t.Errorf("%s answers although the uplink is deleted", own)
		}
	}
	n.expectUntouched(t)
}

// TestDedicatedOutlivesDaemon: connections by addresses of the uplink's own go on when the daemon was killed and is back, and nobody resets them.
func TestDedicatedOutlivesDaemon(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated + " -- publish c 8080:80")...)
	for _, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
	}
	all := n.sessionsAt(t, []string{station4, station6})
	reset := n.resets()
	n.d.Kill()
	for _, s := range all {
		if _, err := s.far.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
	}
	if f := reset(500 * time.Millisecond); f != nil {
		t.Errorf("somebody sent a reset: %x", f)
	}
	n.d.Start()
	for _, s := range all {
		if _, err := s.inner.Write([]byte("here")); err != nil {
			t.Fatal(err)
		}
		for conn, want := range map[*net.TCPConn]string{s.far: "here", s.inner: "word"} {
			var got [4]byte
			if err := conn.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(got[:]); err != nil || string(got[:]) != want {
				t.Errorf("%s: %q, %v after the daemon came back, want %s", s.name, got, err, want)
			}
		}
		if err := words(s.inner, s.far); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
	n.expectUntouched(t)
}

// TestDedicatedPath: the hops of the way show themselves, who sends more than fits an uplink that shrank is told, and TCP goes on.
func TestDedicatedPath(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated)...)
	for i, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		out, err := n.c.Try("traceroute", "-n", "-q", "1", "-w", "3", addr)
		for _, hop := range []string{[]string{"10.11.0.1", "fd11::1"}[i], []string{"192.0.2.1", "2001:db8:1::1"}[i], addr} {
			if !strings.Contains(out, hop+" ") {
				t.Errorf("traceroute to %s does not name %s: %v\n%s", addr, hop, err, out)
			}
		}
		err = netnstest.StreamAfter(n.c, n.server, addr, 8<<20, func() {
			n.isp.IP("link set eth0 mtu 1400")
			n.host.IP("link set up0 mtu 1400")
			n.d.Eventually("the uplink's MTU", func() bool { return strings.Contains(n.d.Must("show", "uplink", "own"), "MTU: 1400") })
		})
		if err != nil {
			t.Errorf("TCP to %s over an uplink that shrank: %v", addr, err)
		}
		if route := n.c.Run("ip", "route", "get", addr); !strings.Contains(route, "mtu 1400") {
			t.Errorf("the container did not learn the MTU to %s: %s", addr, route)
		}
		n.host.IP("link set up0 mtu 1500")
		n.isp.IP("link set eth0 mtu 1500")
		n.d.Eventually("the uplink's MTU", func() bool { return strings.Contains(n.d.Must("show", "uplink", "own"), "MTU: 1500") })
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
}

// TestDedicatedKeepsPublished: a port that is published at a dedicated uplink is not handed out to masqueraded connections, and is again when it is
// published no longer.
func TestDedicatedKeepsPublished(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated)...)
	server := n.server.UDP(serverAddrs[0] + ":9000")
	client := n.c.UDP("10.11.0.2:5000")
	seen := func() int {
		t.Helper()
		n.d.Must("conntrack", "flush")
		if _, err := client.WriteTo([]byte("?"), server.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if err := server.SetReadDeadline(time.Now().Add(netnstest.Patience)); err != nil {
			t.Fatal(err)
		}
		_, from, err := server.ReadFromUDP(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		return from.Port
	}
	if port := seen(); port != 5000 {
		t.Errorf("from port %d, which is free: 5000 wanted", port)
	}
	n.d.Must("publish", "c", "5000:7000/udp")
	if port := seen(); port == 5000 {
		t.Error("from port 5000, which is published")
	}
	n.d.Must("unpublish", "c", "5000:7000/udp")
	if port := seen(); port != 5000 {
		t.Errorf("from port %d, though 5000 is published no longer", port)
	}
}

// TestDedicatedHides: nobody outside reaches a private network by a route of his own, nor what is not published.
func TestDedicatedHides(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated)...)
	n.isp.IP("route add 10.11.0.0/24 via " + station4)
	n.isp.IP("route add fd11::/64 via " + station6)
	for _, addr := range []string{"10.11.0.2", "fd11::2"} {
		if pinged(n.isp, addr, "-W", "1") == nil {
			t.Errorf("%s answers the outside", addr)
		}
	}
	if drops := n.d.Must("drops"); !strings.Contains(drops, "foreign") {
		t.Errorf("drops are %s", drops)
	}
	n.d.Must("set-network", "net", "--masquerade", "off")
	for _, addr := range []string{"10.11.0.2", "fd11::2"} {
		if err := pinged(n.isp, addr); err != nil {
			t.Errorf("%s of a network that is not masqueraded: %v", addr, err)
		}
	}
}

// TestDedicatedAuto: towards a dedicated uplink auto masquerades private and unique local addresses; a network of public ones is routed as it is,
// and reached by who knows the way.
func TestDedicatedAuto(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must(strings.Fields(dedicated)...)
	n.d.Must("add-network", "public", "--subnet", "198.51.101.0/24", "--subnet", "2001:db8:77::/64", "--", "add-network", "carrier", "--subnet", "100.64.7.0/24")
	public, carrier := n.lab.Container("public"), n.lab.Container("carrier")
	n.d.Join("public", "public", public)
	n.d.Join("carrier", "carrier", carrier)
	n.isp.IP("route add 198.51.101.0/24 via " + station4)
	n.isp.IP("route add 2001:db8:77::/64 via " + station6)
	for i, addr := range serverAddrs {
		own := []string{"198.51.101.2", "2001:db8:77::2"}[i]
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(public, addr, "-W", "1") == nil })
		if got := seenAs(t, public, n.server, addr); got != own {
			t.Errorf("a container with a public address is seen as %s, want %s", got, own)
		}
		if got := seenAs(t, n.server, public, own); got != addr {
			t.Errorf("a container with a public address sees %s, want %s", got, addr)
		}
		if got, want := seenAs(t, n.c, n.server, addr), []string{station4, station6}[i]; got != want {
			t.Errorf("a container with a private address is seen as %s, want %s", got, want)
		}
	}
	if got := seenAs(t, carrier, n.server, serverAddrs[0]); got != station4 {
		t.Errorf("a container with a shared address is seen as %s, want %s", got, station4)
	}
	netnstest.ExpectNoErrors(n.c, public, carrier, n.server, n.host)
	n.expectUntouched(t)
}

// TestDedicatedRefuses: each error says what was wrong, and what to do.
func TestDedicatedRefuses(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	for _, c := range []struct{ words, flags string }{
		{"needs an address of its own: give it by --ip", "--mode dedicated"},
		{"are for --mode dedicated", "--ip 192.0.2.77/24"},
		{"are for --mode dedicated", "--gateway 192.0.2.1"},
		{"a host can't have it", "--mode dedicated --ip 127.0.0.1/8"},
		{"in that subnet a host can't have it", "--mode dedicated --ip 192.0.2.255/24"},
		{"in that subnet a host can't have it", "--mode dedicated --ip 192.0.2.0/24"},
		{"in the subnet of no --ip", "--mode dedicated --ip 192.0.2.77/24 --gateway 192.0.3.1"},
		{"gateway 192.0.2.77 is the uplink's own address", "--mode dedicated --ip 192.0.2.77/24 --gateway 192.0.2.77"},
		{"one of each family", "--mode dedicated --ip 192.0.2.77/24 --gateway 192.0.2.1 --gateway 192.0.2.3"},
		{"their subnets overlap", "--mode dedicated --ip 192.0.2.77/24 --ip 192.0.2.78/25"},
		{"is the host's own at up0", "--mode dedicated --ip 192.0.2.2/24"},
		{"overlaps 10.11.0.0/24 of net", "--mode dedicated --ip 10.11.0.77/16"},
	} {
		n.d.Refused(1, c.words, append([]string{"add-uplink", "up0"}, strings.Fields(c.flags)...)...)
	}
	n.d.Refused(1, "needs an interface by name", "add-uplink", "auto", "--mode", "dedicated", "--ip", "192.0.2.77/24")
	n.d.Refused(2, "use ADDRESS/LENGTH, such as 192.0.2.9/24", "add-uplink", "up0", "--mode", "dedicated", "--ip", "192.0.2.77")
	n.d.Refused(2, "use an address, such as", "add-uplink", "up0", "--mode", "dedicated", "--ip", "192.0.2.77/24", "--gateway", "x")
	n.d.Must(strings.Fields(dedicated)...)
	n.d.Refused(1, "overlaps 192.0.2.0/24 of network uplink:own", "add-network", "more", "--subnet", "192.0.2.0/25")
	file := filepath.Join(t.TempDir(), "vswitch.yaml")
	if err := os.WriteFile(file, []byte(n.d.Must("export")), 0o600); err != nil {
		t.Fatal(err)
	}
	n.d.Must("del-uplink", "own")
	n.d.Must("apply", "-f", file)
	if u := netnstest.Get[api.Uplink](n.d, "show", "uplink", "own"); u.Status.State != api.UplinkUp || len(u.Gateways) != 2 || u.NATPorts.First != 1024 {
		t.Errorf("as it was exported the uplink is %+v", u)
	}
}
