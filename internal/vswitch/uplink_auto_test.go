package vswitch_test

import (
	"strings"
	"testing"
)

// TestUplinkAuto follows the host's default route, and refuses to be beside another uplink of the same interface.
func TestUplinkAuto(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	n.d.Must("add-uplink", "auto")
	state := func(want string) {
		t.Helper()
		n.d.Eventually(want, func() bool { return strings.Contains(n.d.Must("show", "uplink", "auto"), want) })
	}
	state("Interface: up0")
	n.host.IP("route del default via 192.0.2.1")
	state("Interface: up1")
	for i, addr := range serverAddrs {
		if got, want := seenAs(t, n.c, n.server, addr), []string{"203.0.113.2", "2001:db8:2::2"}[i]; got != want {
			t.Errorf("the container is seen as %s, want %s", got, want)
		}
	}
	n.d.Eventually("an event tells of the interface", func() bool { return strings.Contains(n.d.Must("events"), "interface up1") })
	n.d.Must("add-uplink", "up0", "--metric", "500")
	n.host.IP("route add default via 192.0.2.1")
	state("the host's default route leads to up0: uplink up0 uses that interface already")
	n.d.Must("del-uplink", "up0")
	n.host.IP("addr add 192.0.2.99/24 dev up0") // news
	state("Interface: up0")
	if err := pinged(n.c, serverAddrs[0]); err != nil {
		t.Error(err)
	}
	device := n.devices()
	if len(device) != 1 {
		t.Fatalf("devices %q", device)
	}
	n.host.IP("link del " + device[0])
	n.d.Eventually("a device again", func() bool { return len(n.devices()) == 1 && pinged(n.c, serverAddrs[0], "-W", "1") == nil })
}

// TestUplinkAutoOfTwoFamilies: where the default routes of IPv4 and IPv6 leave by different interfaces, auto is that of IPv4, and says how IPv6 gets
// out; done so, both do.
func TestUplinkAutoOfTwoFamilies(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	n.d.Must("add-uplink", "auto")
	state := func(name, want string) {
		t.Helper()
		n.d.Eventually(name+" "+want, func() bool { return strings.Contains(n.d.Must("show", "uplink", name), want) })
	}
	state("auto", "State: up\n") // both lead by up0
	n.host.IP("-6 route del default via 2001:db8:1::1")
	state("auto", "State: up: IPv6 has no way out by up0, the host's leads by up1: 'vsctl add-uplink up1' adds it")
	if pinged(n.c, serverAddrs[1], "-W", "1") == nil {
		t.Error("IPv6 gets out: this proves nothing")
	}
	n.d.Must("add-uplink", "up1")
	state("auto", "State: up\n")
	for i, addr := range serverAddrs {
		if got, want := seenAs(t, n.c, n.server, addr), []string{"192.0.2.2", "2001:db8:2::2"}[i]; got != want {
			t.Errorf("the container is seen as %s, want %s", got, want)
		}
		if err := pinged(n.c, addr); err != nil {
			t.Errorf("ping to %s: %v", addr, err)
		}
	}
	n.d.Must("del-uplink", "up1")
	n.host.IP("route replace default via 203.0.113.1")
	state("auto", "Interface: up1")
	state("auto", "State: up\n")
	for i, addr := range serverAddrs {
		if got, want := seenAs(t, n.c, n.server, addr), []string{"203.0.113.2", "2001:db8:2::2"}[i]; got != want {
			t.Errorf("the container is seen as %s, want %s", got, want)
		}
	}
}
