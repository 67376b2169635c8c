package vswitch_test

import (
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// TestRouterAdvertisements: a container that the switch does not configure makes an address of its own, finds its way out and the MTU by what the
// gateway advertises, and loses the way when that ends; also after the daemon was killed. Where --ra is not given nothing is advertised.
func TestRouterAdvertisements(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64", "--mtu", "1400")
	d.Must("add-network", "netb", "--subnet", "fd12::/64", "--mtu", "1400")
	a, b := lab.Container("a"), lab.Container("b")
	a.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=2", "net.ipv6.conf.default.forwarding=1")
	d.Join("neta", "a", a, "--no-config")
	d.Join("netb", "b", b)
	a.IP("link set eth0 up")
	route := func() string { return a.IP("-6 route show default") }
	mtu := func() string { return strings.TrimSpace(a.Run("sysctl", "-n", "net.ipv6.conf.eth0.mtu")) }
	own := func() string { return a.IP("-6 addr show dev eth0 scope global -tentative -deprecated") }
	d.Must("set-network", "neta", "--ra", "--ra-dns", "fd11::53")
	d.Eventually("an address, a way and an MTU", func() bool {
		return strings.Contains(own(), "inet6 fd11::") && strings.Contains(route(), "via fe80::") && mtu() == "1400"
	})
	d.Eventually("ping through the router", func() bool { return pinged(a, "fd12::2", "-W", "1") == nil })
	if strings.Contains(b.IP("-6 route show default"), "proto ra") {
		t.Error("netb was advertised")
	}
	a.IP("link set eth0 down")
	d.Kill()
	d.Start()
	a.IP("link set eth0 up") // now it asks
	d.Eventually("a way after the daemon was killed", func() bool { return strings.Contains(route(), "via fe80::") && pinged(a, "fd12::2", "-W", "1") == nil })

	if shown := d.Must("show", "network", "neta"); !strings.Contains(shown, "Options: ra\n") || !strings.Contains(shown, "fd11::53") {
		t.Errorf("show does not tell: %s", shown)
	}
	d.Must("set-network", "neta", "--ra=false", "--ra-dns", "")
	d.Eventually("no way any more", func() bool { return route() == "" && own() == "" })
	d.Must("set-network", "neta", "--ra")
	d.Eventually("a way again", func() bool { return route() != "" })
	d.Must("set-network", "neta", "--internal")
	d.Eventually("no way out of an internal network", func() bool { return route() == "" && own() != "" })

	d.Must("set-network", "neta", "--ra-dns", "fd11::53", "--ra-dns", "fd11::54")
	config := d.Must("export")
	if !strings.Contains(config, "ra: true") || !strings.Contains(config, "fd11::54") {
		t.Errorf("export does not tell: %s", config)
	}
	for words, args := range map[string][]string{
		"no router advertisements":   {"set-network", "netb", "--ra-dns", "fd12::53"},
		"IPv6 subnet with a gateway": {"add-network", "netc", "--subnet", "10.13.0.0/24", "--ra"},
		"use IPv6 addresses":         {"set-network", "netb", "--ra", "--ra-dns", "10.0.0.53"},
		"or no --ra":                 {"set-network", "neta", "--no-gateway"},
	} {
		d.Refused(1, words, args...)
	}
}
