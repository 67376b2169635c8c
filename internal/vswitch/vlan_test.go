package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// TestTaggedTraffic sends all that kernels send with tags through trunks, super-frames included.
//
//	a  trunk 10,20-30, sends in VLAN 10 ---+--- trunk all, sends in VLAN 10  b
//	e  trunk 10,20-30, sends in VLAN 25 ---+--- access port of VLAN 10       c
func TestTaggedTraffic(t *testing.T) {
	for _, tt := range []struct{ a, b string }{{"tap", "tap"}, {"tap", "veth"}, {"veth", "tap"}, {"veth", "veth"}} {
		t.Run(tt.a+" to "+tt.b, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
			a, b, c, e := lab.Container("a"), lab.Container("b"), lab.Container("c"), lab.Container("e")
			d.Join("net1", "a", a, "--type", tt.a, "--trunk", "10,20-30")
			d.Join("net1", "b", b, "--type", tt.b, "--trunk", "all")
			d.Join("net1", "c", c, "--type", tt.b, "--vlan", "10")
			d.Join("net1", "e", e, "--type", tt.a, "--trunk", "10,20-30")
			a.Tag("eth0", 10)
			b.Tag("eth0", 10)
			e.Tag("eth0", 25)
			allTraffic(t, a, b, "10.9.0.3", "fd00:9::3")
			allTraffic(t, a, c, "10.9.0.4", "fd00:9::4")
			allTraffic(t, c, b, "10.9.0.3", "fd00:9::3")
			netnstest.ExpectNoErrors(a, b, c, e)
			for _, label := range []string{"a", "b", "c"} {
				if p := portStats(t, d, label); p.RxFrames >= p.RxPackets || p.TxFrames >= p.TxPackets {
					t.Errorf("super-frames of %s were cut: %d frames for %d packets in, %d for %d out",
						label, p.RxFrames, p.RxPackets, p.TxFrames, p.TxPackets)
				}
			}
			if _, err := e.Try("ping", "-q", "-c1", "-W0.3", "10.9.0.2"); err == nil {
				t.Error("a container reached another VLAN")
			}
		})
	}
}

// TestVLANRules looks at each tag that goes in and comes out.
//
//	a, a2  untagged        n  trunk of 10 and 20, native 30
//	b      access 10       m  access 30
//	t      trunk of 10 and 20
func TestVLANRules(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "2")
	d.Must("add-network", "net1", "--no-subnet")
	ears := lab.Ears()
	for i, p := range []struct{ label, flags string }{
		{"a", ""}, {"a2", "--type veth"}, {"b", "--vlan 10"}, {"t", "--trunk 10,20 --type veth"}, {"n", "--trunk 10,20 --native 30"}, {"m", "--vlan 30"},
	} {
		c := lab.Container(p.label)
		c.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1") // it speaks only when told to
		d.Join("net1", p.label, c, append([]string{"--mac", fmt.Sprint("02:00:00:00:00:0", i)}, strings.Fields(p.flags)...)...)
		ears.Add(p.label, c, "eth0")
	}
	for _, tt := range []struct {
		name, from string
		tags       []string
		fence      []string
		want       string // who hears it, with which tags
	}{
		{"untagged", "a", nil, nil, "a2:"},
		{"access to trunks", "b", nil, nil, "n:8100000a t:8100000a"},
		{"trunk to access", "t", []string{"8100000a"}, []string{"8100000a"}, "b: n:8100000a"},
		{"trunk to trunk", "t", []string{"81000014"}, []string{"81000014"}, "n:81000014"},
		{"native to access", "n", nil, nil, "m:"},
		{"access to native", "m", nil, nil, "n:"},
		{"priority to trunk", "t", []string{"8100e00a"}, []string{"8100000a"}, "b: n:8100e00a"},
		{"VLAN 0 is untagged", "a", []string{"8100a000"}, nil, "a2:"},
		{"VLAN 0 keeps its priority", "b", []string{"8100a000"}, nil, "n:8100a00a t:8100a00a"},
		{"own VLAN's tag at an access port", "b", []string{"8100000a"}, nil, "n:8100000a t:8100000a"},
		{"QinQ", "a", []string{"88a80064", "8100000a"}, nil, "a2:88a800648100000a"},
		{"QinQ in a VLAN", "b", []string{"88a80064", "8100000a"}, nil, "n:8100000a88a800648100000a t:8100000a88a800648100000a"},
		{"two 802.1Q tags", "t", []string{"8100000a", "81000014"}, []string{"8100000a"}, "b:81000014 n:8100000a81000014"},
		{"tag at an untagged port", "a", []string{"8100000a"}, nil, ""},
		{"foreign tag at an access port", "b", []string{"81000014"}, nil, ""},
		{"foreign tag at a trunk", "t", []string{"81000063"}, []string{"8100000a"}, ""},
		{"no tag at a trunk without native", "t", nil, []string{"8100000a"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.In(t)
			const src = "02:00:00:00:01:00"
			frame := ears.Frame(broadcast, src, tt.tags...)
			var got []string
			for _, h := range ears.SendFor(len(strings.Fields(tt.want)), tt.from, frame, src, tt.fence...) {
				end := strings.Index(string(h.Frame), "\x88\xb5")
				got = append(got, fmt.Sprintf("%s:%x", h.By, h.Frame[12:end]))
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("heard by %q, want %q", s, tt.want)
			}
		})
	}
	if n := dropped(d, "t", "vlan_not_member"); n != 2 {
		t.Errorf("%d packets of foreign VLANs are counted at the trunk, want 2:\n%s", n, d.Must("drops"))
	}
}

// TestPriorityTags has a kernel send everything with a priority tag, which belongs to no VLAN.
func TestPriorityTags(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4, "--subnet", subnet6)
	a.Tag("eth0", 5<<13)
	sniffer := b.PacketSocket("eth0")
	allTraffic(t, a, b, b4, b6)
	netnstest.ExpectNoErrors(a, b)
	if f := sniffer.Find(0, func(f []byte) bool { return f[12] == 0x81 }); f != nil {
		t.Fatalf("a priority tag arrived at an access port: % x", f[:20])
	}
}
