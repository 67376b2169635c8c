package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestSetPort changes all that can be changed of a port, while numbers flow through it on a TCP connection: what does not
// concern the connection costs it no frame.
//
//	a eth0 ===TCP both ways=== net1 === eth0 b, which changes
func TestSetPort(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon("--workers", "2")
			a, b := pairOf(lab, d, "tap", typ)
			d.Must("set-network", "net1", "--mtu", "9000")
			before := lastingOf(t, d, b)
			there, back := startStream(t, a, b, b4), startStream(t, b, a, a6)
			goOn := func() {
				t.Helper()
				there.goesOn(lab)
				back.goesOn(lab)
			}
			goOn()
			fds, dropped := d.FDs(), lost(d)
			for _, line := range []string{
				"--alias www --label k=v --label gone=x", "--label gone-", "--mac-limit 9", "--isolated", "--mtu 9000", "--mtu 1500",
				"--ip 10.9.0.77 --ip fd00:9::77", "--route 10.8.0.0/16=10.9.0.2 --route fd08::/16=fd00:9::2",
				"--route 10.8.0.0/16=10.9.0.77", "--route fd08::/16-", "--metric 7", "--default-route no", "--ifname lan0",
			} {
				d.Must(append([]string{"set-port", "b"}, strings.Fields(line)...)...)
				goOn()
			}
			for _, c := range []*netnstest.Container{a, b} { // what follows a lost segment comes out of order
				if n := c.Counters()["TcpExt.TCPOFOQueue"]; n > 0 {
					t.Errorf("%d segments came to %s out of order", n, c.Name)
				}
			}
			if n := lost(d) - dropped; n > 0 {
				t.Errorf("%d frames were dropped: %s", n, d.Must("drops"))
			}
			d.Eventually("file descriptors are what they were", func() bool { return d.FDs() <= fds })
			p := portOf(t, d, "b")
			if p.MACLimit != 9 || !p.Isolated || len(p.Aliases) != 1 || len(p.Labels) != 1 || p.IfName != "lan0" || p.Metric != 7 || len(p.Routes) != 1 {
				t.Errorf("port is %+v", p)
			}
			if got := b.IP("route show 10.8.0.0/16") + b.IP("route show default") + b.IP("-6 route show fd08::/16"); got != "10.8.0.0/16 via 10.9.0.77 dev lan0 metric 7 \n" {
				t.Errorf("routes are %q", got)
			}
			for _, addr := range []string{"10.9.0.77", "fd00:9::77"} {
				ping(lab, a, addr)
			}
			// All of it back again, in one change.
			d.Must("set-port", "b", "--alias", "www-", "--label", "k-", "--mac-limit", "0", "--isolated=false", "--ip", "10.9.0.77-", "--ip", "fd00:9::77-",
				"--route", "10.8.0.0/16-", "--metric", "0", "--default-route", "auto", "--ifname", "eth0")
			goOn()
			if diff := difference(t, before, lastingOf(t, d, b)); diff != "" {
				t.Errorf("not the same as before: %s", diff)
			}
			wantEvent(t, d, "b", "port.changed")
			d.Kill()
			d.Start()
			goOn()
			if diff := difference(t, before, lastingOf(t, d, b)); diff != "" {
				t.Errorf("not the same after a restart: %s", diff)
			}
		})
	}
}

func wantEvent(t *testing.T, d *netnstest.Daemon, object, typ string) {
	t.Helper()
	if !slices.Contains(events(t, d, object), typ) {
		t.Errorf("no event %s of %s", typ, object)
	}
}

// TestSetPortAddresses gives the port another MAC, MTU and first address: neighbors and the kernel heed each at once.
func TestSetPortAddresses(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", typ)
			ping(lab, a, b4)
			d.Must("set-port", "b", "--mac", "02:00:00:00:00:0b")
			lab.Eventually("a is told of the new MAC", func() bool { return strings.Contains(a.IP("neigh show "+b4), "02:00:00:00:00:0b") })
			a.Run("ping", "-q", "-c1", "-W10", b4)
			if got := b.MAC(); got != "02:00:00:00:00:0b" {
				t.Errorf("MAC is %s", got)
			}
			if table := d.Must("fdb", "net1"); strings.Contains(table, "02:42:0a:09:00:03") {
				t.Errorf("the old MAC is still known:\n%s", table)
			}
			// The second address of a subnet goes in the kernel together with the first.
			d.Must("set-port", "b", "--ip", "10.9.0.40", "--ip", "10.9.0.41", "--ip", b4+"-")
			for _, addr := range []string{"10.9.0.40", "10.9.0.41"} {
				a.Run("ping", "-q", "-c1", "-W10", addr)
			}
			if got := strings.Join(b.Link("eth0").Prefixes(), " "); got != "10.9.0.40/24 10.9.0.41/24 fd00:9::3/64" {
				t.Errorf("addresses are %s", got)
			}
			if got := b.IP("route show default"); !strings.Contains(got, "via 10.9.0.1 dev eth0") {
				t.Errorf("default route is %q", got)
			}
			d.Refused(1, "taken by port b", "set-port", "a", "--ip", "10.9.0.41")
			d.Must("set-port", "b", "--mtu", "1300")
			if got := b.Link("eth0").MTU; got != 1300 {
				t.Errorf("MTU is %d", got)
			}
			_, err := a.Try("ping", "-q", "-c1", "-W0.3", "-M", "do", "-s", "1372", "10.9.0.40")
			if err == nil {
				t.Error("a frame larger than the MTU was answered")
			}
			lab.Eventually("the frame is counted", func() bool { return dropped(d, "a", "over_mtu") > 0 })
		})
	}
}

// TestSetPortVLAN moves ports between VLANs: cached decisions of the old one are not used any more.
func TestSetPortVLAN(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "2")
	a, b := pairOf(lab, d, "tap", "veth")
	reaches := func(want bool, why string) {
		t.Helper()
		if want {
			ping(lab, a, b4)
		} else if _, err := a.Try("ping", "-q", "-c2", "-i0.01", "-W0.3", b4); err == nil {
			t.Errorf("%s: a reaches b", why)
		}
	}
	a.IP("neigh replace " + b4 + " lladdr " + b.MAC() + " dev eth0")
	b.IP("neigh replace " + a4 + " lladdr " + a.MAC() + " dev eth0")
	reaches(true, "at first")
	d.Must("set-port", "b", "--vlan", "10")
	reaches(false, "b in VLAN 10")
	d.Must("set-port", "a", "--trunk", "20", "--native", "10")
	reaches(true, "a a trunk of native VLAN 10")
	d.Must("set-port", "a", "--native", "none")
	reaches(false, "a without a native VLAN")
	d.Must("set-port", "a", "--vlan", "10")
	reaches(true, "both in VLAN 10")
	d.Must("set-port", "a", "--isolated")
	reaches(true, "a isolated")
	d.Must("set-port", "b", "--isolated")
	reaches(false, "both isolated")
	d.Must("set-port", "b", "--isolated=false", "--vlan", "0")
	d.Must("set-port", "a", "--vlan", "0")
	reaches(true, "at last")
	d.Must("set-network", "net1", "--icc=false")
	reaches(false, "--icc=false")
	d.Must("set-network", "net1", "--icc=true")
	reaches(true, "--icc=true")
}

// TestSetNetwork changes a network with ports.
func TestSetNetwork(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := pairOf(lab, d, "tap", "tap")
	s := startStream(t, a, b, b4)
	d.Must("add-network", "other", "--subnet", "10.20.0.0/24")
	d.Must("set-network", "net1", "--subnet", "10.10.0.0/24", "--subnet", "fd00:10::/64", "--age", "60", "--mac-limit", "5", "--label", "a=b",
		"--masquerade", "off", "--internal", "--mtu", "9000")
	s.goesOn(lab)
	c := lab.Container("c")
	d.Join("net1", "c", c, "--ip", "10.10.0.7", "--ip", "fd00:10::7")
	if got := c.Link("eth0").MTU; got != 9000 {
		t.Errorf("MTU of a new port is %d", got)
	}
	if got := b.Link("eth0").MTU; got != 1500 {
		t.Errorf("MTU of an old port is %d", got)
	}
	for _, tt := range []struct{ words, line string }{
		{"port c has address 10.10.0.7/24", "--subnet 10.10.0.0/24-"},
		{"overlaps 10.20.0.0/24 of network other", "--subnet 10.20.0.0/16"},
		{"overlaps 10.9.0.0/24 of network the same network", "--subnet 10.9.0.0/16"},
		{"no subnet 10.11.0.0/24", "--subnet 10.11.0.0/24-"},
		{"port c has an MTU of 9000", "--mtu 1500"},
		{"IPv6 needs 1280", "--mtu 1000"},
		{"default route of port", "--no-gateway"},
		{"in none of the network's subnets", "--gateway 10.11.0.1"},
		{"use auto, on, off", "--masquerade=perhaps"},
		{"can't be renamed", "-"},
		{"for life", "--driver overlay"},
		{"age -1", "--age -1"},
		{"MAC limit", "--mac-limit 99999999"},
		{"nothing to change", ""},
	} {
		if tt.line == "-" {
			_, err := d.Client.SetNetwork(t.Context(), "net1", api.NetworkChange{Name: &tt.words})
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("another name: %v", err)
			}
			continue
		}
		r := d.Vsctl(append([]string{"set-network", "net1"}, strings.Fields(tt.line)...)...)
		if r.Code == 0 || !strings.Contains(r.Err, tt.words) {
			t.Errorf("set-network net1 %s: exit code %d, %s; want %s", tt.line, r.Code, r.Err, tt.words)
		}
	}
	d.Must("del-port", "c")
	d.Must("set-network", "net1", "--subnet", "10.10.0.0/24-", "--subnet", "fd00:10::/64-", "--mtu", "1500", "--ip-range", "10.9.0.128/25")
	d.Must("set-port", "a", "--default-route=no")
	d.Must("set-port", "b", "--default-route=no")
	d.Refused(1, "is taken by port b", "set-network", "net1", "--gateway", b4)
	d.Must("set-network", "net1", "--gateway", "10.9.0.254")
	d.Must("set-port", "b", "--default-route=auto")
	if got := b.IP("route show default"); !strings.Contains(got, "via 10.9.0.254") {
		t.Errorf("default route is %q", got)
	}
	want := d.Must("show", "network", "net1", "-o", "json")
	d.Kill()
	d.Start()
	s.goesOn(lab)
	if got := d.Must("show", "network", "net1", "-o", "json"); got != want {
		t.Errorf("after a restart: %s, before %s", got, want)
	}
	d.Join("net1", "c", c)
	if got := c.Link("eth0").Prefixes()[0]; got != "10.9.0.128/24" {
		t.Errorf("address of the new range is %s", got)
	}
}

// TestSetMACLimit lowers limits under what was learned.
func TestSetMACLimit(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--no-subnet")
	a, b := lab.Container("a"), lab.Container("b")
	d.Join("net1", "a", a)
	d.Join("net1", "b", b)
	ears := lab.Ears()
	ears.Add("a", a, "eth0")
	ears.Add("b", b, "eth0")
	for i := range 20 {
		ears.Send("a", ears.Frame(broadcast, fmt.Sprintf("02:00:00:00:01:%02x", i)))
	}
	learned := func() int {
		n := 0
		for _, e := range netnstest.Get[[]api.FDBEntry](d, "fdb", "net1") {
			if e.Port == "a" {
				n++
			}
		}
		return n
	}
	lab.Eventually("20 MACs are learned", func() bool { return learned() >= 20 })
	d.Must("set-port", "a", "--mac-limit", "5")
	if n := learned(); n > 5 {
		t.Errorf("%d MACs after set-port --mac-limit 5", n)
	}
	d.Must("set-network", "net1", "--mac-limit", "3")
	if n := learned(); n > 3 {
		t.Errorf("%d MACs after set-network --mac-limit 3", n)
	}
}

// TestSetStagedPort changes a port before and after its interface was taken, and one whose interface was moved.
func TestSetStagedPort(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := pairOf(lab, d, "tap", "tap")
	d.Must("add-port", "net1", "s", "--stage", "--ifname", "staged0")
	d.Must("set-port", "s", "--mtu", "1400", "--mac", "02:00:00:00:00:05", "--ip", "10.9.0.50")
	if l := d.Host.Link("staged0"); l == nil || l.MTU != 1400 || l.MAC != "02:00:00:00:00:05" || len(l.Addrs) != 0 {
		t.Fatalf("staged: %+v", l)
	}
	c := lab.Container("c")
	d.Host.IP("link set staged0 netns " + c.Name)
	waitEvent(t, lab, d, "port.moved", "s")
	c.IP("addr add 10.9.0.50/24 dev staged0")
	c.IP("link set staged0 up")
	ping(lab, a, "10.9.0.50")
	d.Must("set-port", "s", "--ifname", "eth0", "--ip", "10.9.0.51")
	ping(lab, a, "10.9.0.51")
	d.Must("disconnect", "s")
	lab.Eventually("no carrier", func() bool { return !c.Link("eth0").Carrier() })
	d.Must("connect", "s", "net1", "--ip", "10.9.0.51")
	ping(lab, a, "10.9.0.51")

	v, elsewhere := lab.Container("v"), lab.Container("elsewhere")
	d.Join("net1", "v", v, "--type", "veth")
	v.IP("link set eth0 netns " + elsewhere.Name)
	waitEvent(t, lab, d, "port.moved", "v")
	d.Must("set-port", "v", "--mtu", "1400", "--mac-limit", "3")
	if got := elsewhere.Link("eth0").MTU; got != 1400 {
		t.Errorf("MTU of the interface that was moved is %d", got)
	}
}
