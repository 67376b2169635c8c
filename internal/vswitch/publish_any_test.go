package vswitch_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestPublishEverywhere: who is on another network, on the same one, the container itself and the host reach a published port by each address that
// the router and the host have, by TCP and UDP, IPv4 and IPv6. Whom the container sees is what docs/publishing.md says.
func TestPublishEverywhere(t *testing.T) {
	t.Parallel()
	lab, d, a, b := withHost(t)
	c := lab.Container("c")
	d.Join("netb", "c", c)
	d.Host.IP("addr add 198.51.100.7/32 dev lo")
	d.Host.IP("addr add 2001:db8:7::7/128 dev lo")
	echoes(t, b, 80)
	d.Must("publish", "b", "0.0.0.0:8080:80", "--", "publish", "b", "[::]:8080:80")
	d.Must("publish", "b", "8080:80/udp")
	d.Eventually("the host's addresses", func() bool { return len(shown(d).HostAddresses) == 4 })
	meets(t, d, a, b)
	meets(t, d, c, b) // all neighbors are known: of what waits for one, little does
	families := []struct {
		addrs            []string
		a, gateway, host string
	}{
		{[]string{"10.11.0.1", "10.12.0.1", "192.0.2.2", "198.51.100.7", "192.0.0.6"}, "10.11.0.2", "10.12.0.1", "192.0.0.6"},
		{[]string{"fd11::1", "fd12::1", "2001:db8::2", "2001:db8:7::7", "fd83:585c:c419::6"}, "fd11::2", "fd12::1", "fd83:585c:c419::6"},
	}
	for _, f := range families {
		for from, as := range map[*netnstest.Container]string{a: f.a, c: f.gateway, b: f.gateway, d.Host: f.host} {
			var all sync.WaitGroup
			for _, addr := range f.addrs {
				for proto, seen := range map[string]func(*netnstest.Container, string) (string, error){"tcp": tcpSeen, "udp": udpSeen} {
					all.Go(func() {
						if got, err := seen(from, net.JoinHostPort(addr, "8080")); err != nil || got != as {
							t.Errorf("%s from %s to %s: seen as %q, want %s: %v", proto, from.Name, addr, got, as, err)
						}
					})
				}
			}
			all.Wait()
		}
	}
	netnstest.ExpectNoErrors(a, b, c, d.Host)
}

// TestPublishOfOneFamily: a port of all addresses of IPv4, and one of IPv6, are two things that one container may publish beside each other and beside
// those of single addresses. Each is changed by itself, and told apart in lists.
func TestPublishOfOneFamily(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	echoes(t, b, 80)
	d.Must("publish", "b", "0.0.0.0:8080:80")
	d.Must("publish", "b", "[::]:8080:80", "--from", "fd11::/64")
	d.Refused(1, "8080/tcp is published for port b", "publish", "b", "8080:80")
	d.Must("publish", "b", "192.0.2.2:8085:80")
	d.Must("publish", "b", "10.11.0.1:8085:80")
	d.Must("set-port", "b", "--ip", "10.12.0.77", "--ip", "10.12.0.2-")
	list := func() string {
		var rows []string
		for _, x := range netnstest.Get[[]api.PublishedPort](d, "list-published", "b") {
			to := make([]string, 0, 2)
			for _, a := range x.To {
				to = append(to, a.String())
			}
			rows = append(rows, x.Publish.String()+" > "+strings.Join(to, ",")+" "+x.Host)
		}
		return strings.Join(rows, "\n")
	}
	want := "0.0.0.0:8080:80/tcp > 10.12.0.77 listener\n[::]:8080:80/tcp from fd11::/64 > fd12::2 listener\n" +
		"192.0.2.2:8085:80/tcp > 10.12.0.77 listener\n10.11.0.1:8085:80/tcp > 10.12.0.77 "
	if got := list(); got != want {
		t.Errorf("list-published:\n%s\nwant\n%s", got, want)
	}
	for _, addr := range []string{"10.11.0.1:8080", "[fd11::1]:8080", "10.11.0.1:8085", "192.0.2.2:8085"} {
		if _, err := tcpSeen(a, addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	four, six, elsewhere := session(t, a, "10.11.0.1:8080"), session(t, a, "[fd11::1]:8080"), session(t, a, "10.11.0.1:8085")
	d.Must("unpublish", "b", "0.0.0.0:8080:80", "--", "unpublish", "b", "192.0.2.2:8085:80")
	if got := [3]bool{ended(four), alive(six), alive(elsewhere)}; got != [3]bool{true, true, true} {
		t.Errorf("after IPv4 is taken back, and a port of another address, whether its connection ended and these are alive: %v", got)
	}
	if _, err := tcpSeen(a, "10.11.0.1:8080"); err == nil {
		t.Error("IPv4 is heard still")
	}
	if _, err := tcpSeen(a, "[fd11::1]:8080"); err != nil {
		t.Errorf("IPv6 went with IPv4: %v", err)
	}
	d.Kill()
	d.Start()
	d.Must("publish", "b", "0.0.0.0:8080:80")
	if got := list(); !strings.HasSuffix(got, "0.0.0.0:8080:80/tcp > 10.12.0.77 listener") || strings.Count(got, "\n") != 2 {
		t.Errorf("list-published:\n%s", got)
	}
	// An address may come later, but who mistypes it is told.
	if out := d.Must("publish", "b", "198.51.100.99:8086:80"); out != "b 198.51.100.99:8086:80/tcp (198.51.100.99 is no address of the host or of router main now)" {
		t.Errorf("publish at nobody's address prints %q", out)
	}
	if got := list(); !strings.HasSuffix(got, "198.51.100.99:8086:80/tcp > 10.12.0.77 ") {
		t.Errorf("list-published:\n%s", got)
	}
	d.Host.IP("addr add 198.51.100.99/32 dev lo")
	d.Eventually("the address has come", func() bool { return strings.HasSuffix(list(), "198.51.100.99:8086:80/tcp > 10.12.0.77 listener") })
}
