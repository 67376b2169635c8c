package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/netnstest"
)

// TestSameAsKernelBridge runs one script of traffic over the kernel's bridge and over vswitch: who hears what, what gets
// through and what does not has to be the same.
//
//	a 10.9.0.2 ---+--- 10.9.0.4 i  isolated     with VLANs, where the kernel's bridge has them:
//	b 10.9.0.3 ---+--- 10.9.0.5 j  isolated     e access 10, t trunk of 10 and 20, n the same and native 30
func TestSameAsKernelBridge(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	kernel := lab.KernelBridge(1500)
	want := script(t, lab, kernel, kernel.VLANs)
	for _, tt := range []struct{ kind, flags string }{{"tap", ""}, {"veth", "--workers=2"}, {"tap", "--flow-cache=off --coalesce=off"}} {
		d := lab.Daemon(strings.Fields(tt.flags)...)
		d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
		got := script(t, lab, netnstest.Network{Daemon: d, Name: "net1", Flags: []string{"--type", tt.kind}}, kernel.VLANs)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: the kernel's bridge (-) and vswitch (+) differ:\n%s", tt.kind, tt.flags, diff)
		}
	}
	if len(want) < 30 {
		t.Errorf("the script has %d lines only", len(want))
	}
}

// script connects containers to the fabric, sends, and writes down what happened, a line for each thing.
func script(t *testing.T, lab *netnstest.Lab, f netnstest.Fabric, vlans bool) (lines []string) {
	t.Helper()
	plugs := []struct {
		label string
		netnstest.Plug
	}{
		{"a", netnstest.Plug{IPs: []string{"10.9.0.2/24", "fd00:9::2/64"}}},
		{"b", netnstest.Plug{IPs: []string{"10.9.0.3/24", "fd00:9::3/64"}}},
		{"i", netnstest.Plug{IPs: []string{"10.9.0.4/24"}, Isolated: true}},
		{"j", netnstest.Plug{IPs: []string{"10.9.0.5/24"}, Isolated: true}},
		{"e", netnstest.Plug{Access: 10}},
		{"t", netnstest.Plug{Trunk: []int{10, 20}}},
		{"n", netnstest.Plug{Trunk: []int{10, 20}, Native: 30}},
	}
	if !vlans {
		plugs = plugs[:4]
	}
	ears, all := lab.Ears(), make(map[string]*netnstest.Container)
	for i, p := range plugs {
		c := lab.Container(p.label)
		p.MAC = mac(i)
		f.Plug(p.label, c, p.Plug)
		ears.Add(p.label, c, "eth0")
		all[p.label] = c
	}
	note := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	hear := func(from, src, dst string, tags ...string) {
		var fence []string
		if from == "t" {
			fence = []string{"8100000a"}
		}
		var who []string
		for _, h := range ears.SendFrom(from, ears.Frame(dst, src, tags...), "02:00:00:00:0f:ff", fence...) {
			end := strings.Index(string(h.Frame), "\x88\xb5")
			who = append(who, fmt.Sprintf("%s:%x", h.By, h.Frame[12:end]))
		}
		slices.Sort(who)
		note("%s from %s to %s with tags %v: %v", src, from, dst, tags, who)
	}
	for i, p := range plugs {
		if p.label != "t" && p.label != "n" {
			hear(p.label, mac(i), broadcast)
		}
	}
	for _, pair := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {2, 3}, {3, 2}, {0, 0}} {
		hear(plugs[pair[0]].label, mac(pair[0]), mac(pair[1]))
	}
	// Not 01-80-c2-00-00-00: the kernel's bridge forwards it as long as its own spanning tree is off.
	for _, dst := range []string{multicast, "33:33:00:00:00:55", stranger, "01:80:c2:00:00:03", "01:80:c2:00:00:0e", "01:80:c2:00:00:10"} {
		hear("a", mac(0), dst)
		hear("i", mac(2), dst)
	}
	hear("b", stranger, broadcast)
	hear("a", mac(0), stranger)
	hear("i", stranger, broadcast) // it moves
	hear("a", mac(0), stranger)
	hear("a", multicast, broadcast) // a source that none can have
	if vlans {
		hear("e", mac(4), broadcast, "8100000a")
		hear("e", mac(4), broadcast, "81000014")
		hear("t", mac(5), broadcast, "8100000a")
		hear("t", mac(5), broadcast, "81000014")
		hear("t", mac(5), broadcast, "8100001e")
		hear("t", mac(5), mac(4), "8100000a")
		hear("t", mac(5), broadcast)
		hear("n", mac(6), broadcast, "8100a014")
		hear("n", mac(6), broadcast)
	}
	a, b, i := all["a"], all["b"], all["i"]
	try := func(what string, err error) { note("%s: %v", what, err == nil) }
	ping := func(from *netnstest.Container, args string) {
		_, err := from.Try("ping", strings.Fields("-q -c2 -i0.01 -W0.3 "+args)...)
		try("ping "+args, err)
	}
	for _, to := range []string{b4, b6} {
		ping(a, to)
		ping(a, "-s 20000 "+to)
		ping(a, "-Mdo -s 1452 "+to)
		ping(a, "-Mdo -s 1473 "+to)
	}
	ping(i, "10.9.0.2")
	ping(i, "10.9.0.5")
	ping(a, "-b 10.9.0.255")
	try("TCP", netnstest.Stream(a, b, b4, 1<<20))
	try("TCP over IPv6", netnstest.Stream(b, a, a6, 1<<20))
	try("UDP", netnstest.Datagrams(a, b, b4, 1, 18, 1472, 1473, 4000, 20000))
	try("UDP over IPv6", netnstest.Datagrams(b, a, a6, 1, 18, 1452, 1453, 4000, 20000))
	try("UDP_SEGMENT", netnstest.SegmentedDatagrams(a, b, b4, 1472, 30))
	return lines
}
