package vswitch_test

import (
	"net"
	"testing"

	"vswitch/internal/netnstest"
)

// TestUplinksOfRouters: two routers are two worlds with an uplink each: containers of the same addresses reach the same server as two hosts, and the
// same port is published by both.
func TestUplinksOfRouters(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	n.firewall = n.bystanders()
	n.d.Must("add-network", "twin", "--router", "lab", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	twin := n.lab.Container("twin")
	n.d.Join("twin", "twin", twin)
	n.d.Must("add-uplink", "up0", "--", "add-uplink", "up1", "--router", "lab", "--", "publish", "c", "8080:80", "--", "publish", "twin", "8080:80")
	for i, addr := range serverAddrs {
		for _, x := range []struct {
			c         *netnstest.Container
			own, host string
		}{
			{n.c, []string{"10.11.0.2", "fd11::2"}[i], hostAddrs[i]},
			{twin, []string{"10.11.0.2", "fd11::2"}[i], []string{"203.0.113.2", "2001:db8:2::2"}[i]},
		} {
			n.d.Eventually("the outside at "+addr, func() bool { return pinged(x.c, addr, "-W", "1") == nil })
			if got := seenAs(t, x.c, n.server, addr); got != x.host {
				t.Errorf("%s of %s is seen as %s, want %s", x.own, x.c.Name, got, x.host)
			}
			if err := netnstest.StreamVia(n.server, x.c, net.JoinHostPort(x.own, "80"), net.JoinHostPort(x.host, "8080"), 1<<20); err != nil {
				t.Errorf("to %s by %s: %v", x.c.Name, x.host, err)
			}
			if err := netnstest.Stream(x.c, n.server, addr, 1<<20); err != nil {
				t.Errorf("from %s to %s: %v", x.c.Name, addr, err)
			}
		}
	}
	netnstest.ExpectNoErrors(n.c, twin, n.server, n.host, n.isp)
	n.expectUntouched(t)
	n.expectUntracked(t)
}
