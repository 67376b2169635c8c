package vswitch_test

import (
	"fmt"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// addressOf adds a port and returns its first address and its MAC.
func addressOf(t *testing.T, d *netnstest.Daemon, network, name string, c *netnstest.Container, flags ...string) (ip, mac string) {
	t.Helper()
	args := append([]string{"add-port", network, name, "--netns", c.Name, "--ifname", name, "--default-route=no"}, flags...)
	p := netnstest.Get[api.Port](d, args...)
	if len(p.IPs) == 0 {
		t.Fatalf("port %s has no address", name)
	}
	return p.IPs[0].String(), p.MAC
}

// TestAddresses are handed out in sequence, never twice, and not again at once.
func TestAddresses(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, c := lab.Daemon(), lab.Container("c")
	d.Must("add-network", "net1", "--subnet", "10.9.0.0/28", "--subnet", "fd00:9::/64")
	for i := 2; i <= 4; i++ {
		ip, mac := addressOf(t, d, "net1", fmt.Sprint("p", i), c)
		if ip != fmt.Sprintf("10.9.0.%d/28", i) || mac != fmt.Sprintf("02:42:0a:09:00:%02x", i) {
			t.Errorf("port %d has %s and %s", i, ip, mac)
		}
	}
	d.Must("del-port", "p3")
	if ip, _ := addressOf(t, d, "net1", "p5", c); ip != "10.9.0.5/28" {
		t.Errorf("after a deletion the next port has %s, want 10.9.0.5", ip)
	}
	if ip, _ := addressOf(t, d, "net1", "again", c, "--ip", "10.9.0.3"); ip != "10.9.0.3/28" {
		t.Errorf("a wish for a free address gave %s", ip)
	}
	d.Stop()
	d.Start()
	if ip, _ := addressOf(t, d, "net1", "p6", c); ip != "10.9.0.6/28" {
		t.Errorf("after a restart the next port has %s, want 10.9.0.6", ip)
	}
	for i := 7; i <= 14; i++ {
		addressOf(t, d, "net1", fmt.Sprint("p", i), c)
	}
	d.Refused(1, "no free address", "add-port", "net1", "late", "--netns", c.Name, "--ifname", "late")
	d.Must("add-port", "net1", "bare", "--netns", c.Name, "--ifname", "bare", "--no-ip")
	if c.Link("late") != nil {
		t.Error("a refused port left its interface")
	}
}

// TestRange hands out only what the range has; other addresses of the subnet may be asked for.
func TestRange(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, c := lab.Daemon(), lab.Container("c")
	d.Must("add-network", "net1", "--subnet", subnet4, "--ip-range", "10.9.0.64/30", "--gateway", "10.9.0.65")
	for i, want := range []string{"10.9.0.64/24", "10.9.0.66/24", "10.9.0.67/24"} {
		if ip, _ := addressOf(t, d, "net1", fmt.Sprint("p", i), c); ip != want {
			t.Errorf("port %d has %s, want %s", i, ip, want)
		}
	}
	d.Refused(1, "no free address", "add-port", "net1", "late", "--netns", c.Name, "--ifname", "late")
	if ip, _ := addressOf(t, d, "net1", "fixed", c, "--ip", "10.9.0.200"); ip != "10.9.0.200/24" {
		t.Errorf("a fixed address became %s", ip)
	}
	for _, tt := range []struct{ words, flags string }{
		{"p0", "--ip 10.9.0.64"},
		{"gateway", "--ip 10.9.0.65"},
		{"10.9.0.0/24", "--ip 10.8.0.2"},
		{"10.9.0.255", "--ip 10.9.0.255"},
		{"10.9.0.0", "--ip 10.9.0.0"},
		{"p1", "--ip 10.9.0.9 --mac 02:42:0a:09:00:42"},
	} {
		d.Refused(1, tt.words, append([]string{"add-port", "net1", "x", "--netns", c.Name, "--ifname", "x"}, strings.Fields(tt.flags)...)...)
	}
	if ip, _ := addressOf(t, d, "net1", "x", c, "--ip", "10.9.0.9"); ip != "10.9.0.9/24" {
		t.Errorf("the address of a refused port is not free: %s", ip)
	}
}

// TestPools chooses subnets that clash with no route of the host, which is the daemon's own namespace here.
func TestPools(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.Host.IP("link set lo up")
	d.Host.IP("route add 172.17.0.0/16 dev lo")
	d.Host.IP("route add 172.18.5.0/24 dev lo table 77")
	d.Host.IP("addr add 172.20.1.1/24 dev lo")
	d.Start()
	for _, tt := range []struct{ name, want string }{{"n1", "172.19.0.0/16"}, {"n2", "172.21.0.0/16"}} {
		if out := d.Must("add-network", tt.name); out != tt.name+" "+tt.want {
			t.Errorf("network %s is %q, want %s", tt.name, out, tt.want)
		}
	}
	d.Host.IP("route add 172.22.0.0/15 dev lo")
	if out := d.Must("add-network", "n3"); out != "n3 172.24.0.0/16" {
		t.Errorf("after a new route the next network is %q", out)
	}
	d.Must("del-network", "n1")
	if out := d.Must("add-network", "n4"); out != "n4 172.19.0.0/16" {
		t.Errorf("the subnet of a deleted network is not used again: %q", out)
	}
	n := netnstest.Get[api.Network](d, "add-network", "six", "--subnet", "::/0")
	if len(n.Subnets) != 1 || !strings.HasPrefix(n.Subnets[0].Prefix.String(), "fd") || n.Subnets[0].Prefix.Bits() != 64 {
		t.Errorf("an IPv6 subnet of the pools is %+v", n.Subnets)
	}
	d.Must("add-network", "own", "--subnet", "172.17.0.0/16") // the user knows better
	for i := range 100 {
		if r := d.Vsctl("add-network", fmt.Sprint("more", i)); r.Code != 0 {
			if !strings.Contains(r.Err, "name a free one with --subnet") {
				t.Errorf("when the pools are empty: %s", r.Err)
			}
			return
		}
	}
	t.Error("the pools never end")
}

// TestDefaultMTU is that of the host's way out.
func TestDefaultMTU(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Host.IP("link add v0 mtu 1400 type veth peer name v1")
	d.Host.IP("addr add 192.0.2.1/24 dev v0")
	d.Host.IP("link set v1 up")
	d.Host.IP("link set v0 up")
	d.Host.IP("route add default via 192.0.2.2")
	if n := netnstest.Get[api.Network](d, "add-network", "net1"); n.MTU != 1400 {
		t.Errorf("the MTU is %d, want 1400", n.MTU)
	}
	if n := netnstest.Get[api.Network](d, "add-network", "net2", "--mtu", "1300"); n.MTU != 1300 {
		t.Errorf("the MTU is %d, want 1300", n.MTU)
	}
	d.Host.IP("link del v0")
	if n := netnstest.Get[api.Network](d, "add-network", "net3"); n.MTU != 1500 {
		t.Errorf("without a default route the MTU is %d, want 1500", n.MTU)
	}
}
