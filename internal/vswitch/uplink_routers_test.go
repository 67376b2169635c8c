package vswitch_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
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

// TestRoutersComeAndGo: a router is there as long as a network, uplink or route names it.
func TestRoutersComeAndGo(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	for _, tt := range []struct{ line, routers string }{
		{"add-network n1 --router r1 --subnet 10.31.0.0/24", "main r1"},
		{"add-network n2 --router r1 --subnet 10.32.0.0/24", "main r1"},
		{"set-network n2 --router r2", "main r1 r2"},
		{"set-network n2 --router r3", "main r1 r3"},
		{"del-network n1", "main r3"},
		{"add-network n1 --router r4 --subnet 10.31.0.0/24 -- add-route 10.99.0.0/16 via 10.31.0.9 --router r4", "main r3 r4"},
		{"del-network n1", "main r3 r4"},
		{"del-route 10.99.0.0/16 --router r4", "main r3"},
		{"add-network n1 --router r5 --subnet 10.31.0.0/24 -- add-uplink up1 --router r5", "main r3 r5"},
		{"del-network n1", "main r3 r5"},
		{"del-network n2 -- del-uplink up1", "main"},
	} {
		n.d.Must(strings.Fields(tt.line)...)
		var routers []string
		for _, r := range netnstest.Get[api.Stats](n.d, "stats").Routers {
			routers = append(routers, r.Router)
		}
		if !slices.Equal(routers, strings.Fields(tt.routers)) {
			t.Fatalf("after %s: routers %v, want %s", tt.line, routers, tt.routers)
		}
	}
}
