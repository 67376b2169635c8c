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
	want := script(t, lab, kernel, kernel.VLANs, nil)
	for _, tt := range []struct{ kind, flags string }{{"tap", ""}, {"veth", "--workers=2"}, {"tap", "--flow-cache=off --coalesce=off"}} {
		d := lab.Daemon(strings.Fields(tt.flags)...)
		d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
		got := script(t, lab, netnstest.Network{Daemon: d, Name: "net1", Flags: []string{"--type", tt.kind}}, kernel.VLANs, want)
		if diff := cmp.Diff(want.lines, got.lines); diff != "" {
			t.Errorf("%s %s: the kernel's bridge (-) and vswitch (+) differ:\n%s", tt.kind, tt.flags, diff)
		}
	}
	if len(want.lines) < 30 {
		t.Errorf("the script has %d lines only", len(want.lines))
	}
}

// script connects containers to the fabric, sends, and writes down what happened, a line for each thing. Who heard a frame in the play
// before gets the time that he needs.
func script(t *testing.T, lab *netnstest.Lab, f netnstest.Fabric, vlans bool, before *play) *play {
	t.Helper()
	plugs := []netnstest.Plug{
		{Label: "a", IPs: []string{"10.9.0.2/24", "fd00:9::2/64"}},
		{Label: "b", IPs: []string{"10.9.0.3/24", "fd00:9::3/64"}},
		{Label: "i", IPs: []string{"10.9.0.4/24"}, Isolated: true},
		{Label: "j", IPs: []string{"10.9.0.5/24"}, Isolated: true},
		{Label: "e", Access: 10},
		{Label: "t", Trunk: []int{10, 20}},
		{Label: "n", Trunk: []int{10, 20}, Native: 30},
	}
	if !vlans {
		plugs = plugs[:4]
	}
	p := &play{ears: lab.Ears(), all: make(map[string]*netnstest.Container), before: before}
	for i, plug := range plugs {
		c := lab.Container(plug.Label)
		plug.MAC = mac(i)
		f.Plug(c, plug)
		p.ears.Add(plug.Label, c, "eth0")
		p.all[plug.Label] = c
	}
	p.bridging()
	if vlans {
		p.vlans()
	}
	p.kernels()
	return p
}

// play is one run of the script.
type play struct {
	ears   *netnstest.Ears
	all    map[string]*netnstest.Container
	before *play // nil: this is the first one
	lines  []string
	heard  []int // by how many, for each frame
}

func (p *play) note(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

// hear notes who hears a frame, with which tags.
func (p *play) hear(from, src, dst string, tags ...string) {
	var fence []string
	if from == "t" {
		fence = []string{"8100000a"}
	}
	hearers := 0
	if p.before != nil {
		hearers = p.before.heard[len(p.heard)]
	}
	var who []string
	for _, h := range p.ears.SendFor(hearers, from, p.ears.Frame(dst, src, tags...), "02:00:00:00:0f:ff", fence...) {
		end := strings.Index(string(h.Frame), "\x88\xb5")
		who = append(who, fmt.Sprintf("%s:%x", h.By, h.Frame[12:end]))
	}
	slices.Sort(who)
	p.heard = append(p.heard, len(who))
	p.note("%s from %s to %s with tags %v: %v", src, from, dst, tags, who)
}

func (p *play) bridging() {
	labels := []string{"a", "b", "i", "j"}
	for i, label := range labels {
		p.hear(label, mac(i), broadcast)
	}
	for _, pair := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {2, 3}, {3, 2}, {0, 0}} {
		p.hear(labels[pair[0]], mac(pair[0]), mac(pair[1]))
	}
	// Not 01-80-c2-00-00-00: the kernel's bridge forwards it as long as its own spanning tree is off.
	for _, dst := range []string{multicast, "33:33:00:00:00:55", stranger, "01:80:c2:00:00:03", "01:80:c2:00:00:0e", "01:80:c2:00:00:10"} {
		p.hear("a", mac(0), dst)
		p.hear("i", mac(2), dst)
	}
	p.hear("b", stranger, broadcast)
	p.hear("a", mac(0), stranger)
	p.hear("i", stranger, broadcast) // it moves
	p.hear("a", mac(0), stranger)
	p.hear("a", multicast, broadcast) // a source that none can have
}

func (p *play) vlans() {
	p.hear("e", mac(4), broadcast)
	p.hear("e", mac(4), broadcast, "8100000a")
	p.hear("e", mac(4), broadcast, "81000014")
	p.hear("t", mac(5), broadcast, "8100000a")
	p.hear("t", mac(5), broadcast, "81000014")
	p.hear("t", mac(5), broadcast, "8100001e")
	p.hear("t", mac(5), mac(4), "8100000a")
	p.hear("t", mac(5), broadcast)
	p.hear("n", mac(6), broadcast, "8100a014")
	p.hear("n", mac(6), broadcast)
}

// kernels has the containers' own kernels talk to each other.
func (p *play) kernels() {
	a, b, i := p.all["a"], p.all["b"], p.all["i"]
	try := func(what string, err error) { p.note("%s: %v", what, err == nil) }
	const answered, silent = "-W10", "-W0.3" // what the kernel's bridge makes of it
	ping := func(from *netnstest.Container, patience, args string) {
		_, err := from.Try("ping", strings.Fields("-q -c2 -i0.01 "+patience+" "+args)...)
		try("ping "+args, err)
	}
	for _, to := range []string{b4, b6} {
		ping(a, answered, to)
		ping(a, answered, "-s 20000 "+to)
		ping(a, answered, "-Mdo -s 1452 "+to)
		ping(a, silent, "-Mdo -s 1473 "+to)
	}
	ping(i, answered, "10.9.0.2")
	ping(i, silent, "10.9.0.5")
	ping(a, silent, "-b 10.9.0.255")
	try("TCP", netnstest.Stream(a, b, b4, 1<<20))
	try("TCP over IPv6", netnstest.Stream(b, a, a6, 1<<20))
	try("UDP", netnstest.Datagrams(a, b, b4, 1, 18, 1472, 1473, 4000, 20000))
	try("UDP over IPv6", netnstest.Datagrams(b, a, a6, 1, 18, 1452, 1453, 4000, 20000))
	try("UDP_SEGMENT", netnstest.SegmentedDatagrams(a, b, b4, 1472, 30))
}
