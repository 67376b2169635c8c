package vswitch_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestPortOfHost: an interface of the host in a network itself is a port like any other, and the host's other ways go on beside it.
//
//	host --- h0 10.11.0.9 fd11::9 --- neta --- a
//	     --- vsw0 --- router main --- neta, netb --- b
func TestPortOfHost(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	defaults := d.Host.Run("ip", "route", "show", "default")
	d.Must("add-port", "neta", "h0", "--type", "host", "--ip", "10.11.0.9", "--ip", "fd11::9")
	try := func() {
		t.Helper()
		meets(t, d, a, b)
		for _, c := range []*netnstest.Container{a, b} {
			for _, addr := range []string{"10.11.0.9", "fd11::9"} {
				if err := pinged(c, addr); err != nil {
					t.Errorf("ping from %s to %s: %v", c.Name, addr, err)
				}
			}
		}
	}
	try()
	d.Refused(1, "interface h0 is port h0 of the switch itself, and leads nowhere else", "add-uplink", "h0")
	d.Refused(1, "interface h0 is port h0 of the switch itself", "add-uplink", "h0", "--mode", "dedicated", "--ip", "192.0.2.9/24")
	d.Refused(1, "subnet 192.0.0.0/29 overlaps 192.0.0.6/31 of network host:vsw0", "add-network", "more", "--subnet", "192.0.0.0/29")
	d.Refused(1, "interface vsw0 is the host's own port to the networks", "add-uplink", "vsw0")
	for _, x := range []struct {
		from, to *netnstest.Container
		addr     string
	}{{d.Host, a, "10.11.0.2"}, {d.Host, a, "fd11::2"}, {a, d.Host, "10.11.0.9"}, {b, d.Host, "fd11::9"}, {a, d.Host, "192.0.2.2"}, {d.Host, b, "10.12.0.2"}} {
		if err := netnstest.Stream(x.from, x.to, x.addr, 4<<20); err != nil {
			t.Errorf("TCP to %s: %v", x.addr, err)
		}
	}
	if got := routesOf(d.Host, "vsw0"); len(got) != 2 || !strings.HasPrefix(got[0], "10.12.0.0/24") {
		t.Errorf("routes by vsw0: %q", got)
	}
	if h := shown(d); len(h.Unrouted)+len(h.Problems) > 0 {
		t.Errorf("shown is %+v", h)
	}
	if got := d.Host.Run("ip", "route", "show", "default"); got != defaults {
		t.Errorf("default routes of the host: %q", got)
	}
	if got := d.Host.Run("sysctl", "-n", "net.ipv6.conf.h0.accept_ra"); strings.TrimSpace(got) != "0" {
		t.Errorf("the host takes router advertisements by it: %q", got)
	}
	p := netnstest.Get[api.Port](d, "show", "port", "h0")
	if p.Type != api.PortHost || p.IfName != "h0" || p.Netns != nil || p.DefaultRoute != "no" || p.Status.State != api.StateUp {
		t.Errorf("port %+v", p)
	}
	for _, end := range []func(){d.Stop, d.Kill, func() { d.Kill(); killKeeper(t, d) }} {
		end()
		d.Start()
		try()
		if now := netnstest.Get[api.Port](d, "show", "port", "h0"); now.Status.State != api.StateUp || !slices.Equal(now.IPs, p.IPs) {
			t.Errorf("port after a restart: %+v", now)
		}
	}
	d.Must("set-port", "h0", "--ifname", "lan0", "--ip", "10.11.0.10", "--ip", "10.11.0.9-", "--mtu", "1400")
	if l := d.Host.Link("lan0"); l == nil || l.MTU != 1400 || !slices.Contains(l.Prefixes(), "10.11.0.10/24") || slices.Contains(l.Prefixes(), "10.11.0.9/24") {
		t.Errorf("interface after set-port: %+v", l)
	}
	d.Must("disconnect", "h0")
	d.Must("connect", "h0", "neta")
	meets(t, d, a, b)
	d.Must("del-port", "h0")
	if d.Host.Link("lan0") != nil {
		t.Error("its interface is left")
	}
	if got := routesOf(d.Host, "vsw0"); len(got) != 4 {
		t.Errorf("routes by vsw0: %q", got)
	}
	meets(t, d, a, b)
}

// TestPortOfHostIsConfiguration: it is exported and applied, and refused where it makes no sense.
func TestPortOfHostIsConfiguration(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon() // without a host port
	d.Host.IP("link set lo up")
	c := lab.Container("c")
	d.Must("add-network", "net1", "--subnet", subnet4)
	d.Must("add-port", "net1", "h0", "--type", "host", "--", "add-port", "net1", "a-name-longer-than-an-interface-s", "--type", "host", "--no-ip",
		"--", "add-port", "net1", "h2", "--type", "host", "--ifname", "lan0", "--default-route=auto", "--metric", "50")
	d.Join("net1", "c", c)
	if err := pinged(c, "10.9.0.2"); err != nil {
		t.Error(err)
	}
	if got := d.Host.Run("ip", "route", "show", "default"); !strings.Contains(got, "via 10.9.0.1 dev lan0 metric 50") {
		t.Errorf("the default route that was asked for: %q", got)
	}
	file := filepath.Join(t.TempDir(), "v.yaml")
	text := d.Must("export")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.Must("diff", "-f", file); strings.Contains(got, "port") {
		t.Errorf("what was exported differs:\n%s\n%s", got, text)
	}
	d.Must("del-network", "net1", "--force")
	d.Must("apply", "-f", file)
	if p := netnstest.Get[api.Port](d, "show", "port", "h2"); p.IfName != "lan0" || p.Type != api.PortHost || d.Host.Link("lan0") == nil || d.Host.Link("h0") == nil {
		t.Errorf("port applied: %+v", p)
	}
	d.Must("add-port", "net1", "h0", "--type", "host", "--may-exist")
	for _, x := range []struct {
		code  int
		words string
		args  []string
	}{
		{2, "stays in the host's own namespace", []string{"--netns", c.Name}},
		{2, "stays in the host's own namespace", []string{"--stage"}},
		{1, "interface lan0 already exists in namespace", []string{"--ifname", "lan0"}},
		{1, "interface lo already exists in namespace", []string{"--ifname", "lo"}},
	} {
		d.Refused(x.code, x.words, append([]string{"add-port", "net1", "x", "--type", "host"}, x.args...)...)
	}
	if err := os.WriteFile(file, []byte("networks: {net1: {ports: {x: {type: host, netns: "+c.Name+"}}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Refused(1, "stays in the host's own namespace", "apply", "-f", file)
	d.Refused(1, "is the host's own: give others there type host", "add-port", "net1", "x", "--netns", "container:h0")
	d.Refused(1, "is a host for life", "set-port", "h0", "--type", "tap")
	d.Host.IP("link del h0")
	lab.Eventually("the port is gone", func() bool { return d.Vsctl("show", "port", "h0").Code == 1 })
}
