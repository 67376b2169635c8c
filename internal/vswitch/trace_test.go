package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// tracedFrames are sent one after the other; what is learned from one counts for the next.
var tracedFrames = []struct {
	from, src, dst string
	vlan           int
}{
	{"a", mac(0), broadcast, 0},
	{"b", mac(1), mac(0), 0},
	{"a", mac(0), mac(1), 0},
	{"a", mac(0), mac(0), 0},
	{"a", mac(0), stranger, 0},
	{"a", mac(0), "02:00:00:00:09:09", 0},
	{"a", mac(0), multicast, 0},
	{"a", mac(0), "01:80:c2:00:00:0e", 0},
	{"a", mac(0), broadcast, 10},
	{"c", mac(2), broadcast, 0},
	{"d", mac(3), mac(2), 0},
	{"c", mac(2), mac(0), 0},
	{"e", mac(4), broadcast, 0},
	{"t", mac(5), mac(4), 10},
	{"t", mac(5), broadcast, 0},
	{"t", mac(5), broadcast, 20},
	{"b", mac(0), broadcast, 0}, // a's address moves to b
	{"a", mac(0), mac(1), 0},    // and back
	{"c", stranger, broadcast, 0},
	{"a", multicast, broadcast, 0},
	{"a", "00:00:00:00:00:00", broadcast, 0},
}

// TestTraceIsTrue sends frames and compares who hears them with what trace said before.
//
//	a, b untagged     c, d isolated     e access 10     t trunk of 10, native 0 (untagged)
func TestTraceIsTrue(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--no-subnet")
	ears := lab.Ears()
	for i, p := range []struct{ label, flags string }{
		{"a", ""}, {"b", "--type veth"}, {"c", "--isolated"}, {"d", "--isolated"}, {"e", "--vlan 10"}, {"t", "--trunk 10"},
	} {
		c := lab.Container(p.label)
		d.Join("net1", p.label, c, append([]string{"--mac", mac(i)}, strings.Fields(p.flags)...)...)
		ears.Add(p.label, c, "eth0")
	}
	d.Must("add-fdb", "net1", stranger, "b")
	for _, tt := range tracedFrames {
		flow := fmt.Sprintf("in_port=%s,dl_src=%s,dl_dst=%s,dl_type=0x88b5", tt.from, tt.src, tt.dst)
		var tags, fence []string
		if tt.vlan != 0 {
			flow += fmt.Sprintf(",dl_vlan=%d", tt.vlan)
			tags = []string{fmt.Sprintf("8100%04x", tt.vlan)}
		}
		if tt.from == "t" {
			fence = []string{"8100000a"}
		}
		t.Run(flow, func(t *testing.T) {
			lab.In(t)
			said := netnstest.Get[api.Trace](d, "trace", flow)
			heard := ears.SendFor(len(said.Outputs), tt.from, ears.Frame(tt.dst, tt.src, tags...), "02:00:00:00:0f:ff", fence...)
			slices.Sort(said.Outputs)
			if want := strings.Join(said.Outputs, " "); netnstest.Who(heard) != want {
				t.Errorf("it was heard by %q, but trace said %q:\n%s", netnstest.Who(heard), want, strings.Join(said.Steps, "\n"))
			}
			if (said.Drop != "") != (len(heard) == 0) {
				t.Errorf("trace said drop %q, and %d heard it", said.Drop, len(heard))
			}
			if said.Drop != "" && dropped(d, tt.from, said.Drop) == 0 {
				t.Errorf("trace said drop %q, which is not counted:\n%s", said.Drop, d.Must("drops"))
			}
		})
	}
}

func mac(i int) string { return fmt.Sprintf("02:00:00:00:00:%02x", i+0x10) }

// TestTraceFillsIn asks as people ask, with addresses only, and for what the kernels then do.
func TestTraceFillsIn(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", subnet4, "--subnet", subnet6)
	a.Run("ping", "-q", "-c1", "-W10", b4)
	for _, flow := range []string{
		"in_port=a,tcp,ip_dst=10.9.0.3,tcp_dst=80", "in_port=a,icmp,ip_dst=10.9.0.3", "in_port=a,udp6,ipv6_dst=fd00:9::3,udp_dst=53",
	} {
		if v := netnstest.Get[api.Trace](d, "trace", flow).Verdict; v != "output:b" {
			t.Errorf("trace %s says %q, want output:b", flow, v)
		}
	}
	before := d.Must("fdb", "-o", "json")
	d.Must("trace", "in_port=a,dl_src="+stranger+",dl_dst="+broadcast)
	if after := d.Must("fdb", "-o", "json"); strings.Contains(after, stranger) {
		t.Errorf("trace left something in the table:\n%s\nbefore:\n%s", after, before)
	}
	flows := netnstest.Get[[]api.Flow](d, "flows", "list", "a")
	if !slices.ContainsFunc(flows, func(f api.Flow) bool { return f.InPort == "a" && f.Actions == "output:b" }) {
		t.Errorf("no flow from a to b: %+v", flows)
	}
	for _, f := range flows {
		if v := netnstest.Get[api.Trace](d, "trace", f.Match).Verdict; !strings.HasPrefix(v, f.Actions) { // of a flood it names the receivers, too
			t.Errorf("flow %s does %q, but trace of its match says %q", f.Match, f.Actions, v)
		}
	}
}

// TestTraceSupposes: a trace goes on where the router has yet to ask for a MAC, as if the port that has the address answered. One in another
// VLAN doesn't hear the question, nor does one that is down, and nobody answers for an address that no port has.
func TestTraceSupposes(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24", "--subnet", "fd12::/64")
	b := lab.Container("b")
	d.Must("add-port", "neta", "a", "--netns", lab.Container("a").Name)
	d.Must("add-port", "netb", "b", "--netns", b.Name)
	d.Must("add-port", "netb", "v", "--netns", lab.Container("v").Name, "--vlan", "10")
	d.Must("add-rule", "b", "out", "reject", "--proto", "tcp", "--dport", "22")
	verdict := func(words, want string) {
		t.Helper()
		d.Must("neigh", "flush")
		if got := netnstest.Get[api.Trace](d, "trace", "in_port=a,"+words); !strings.Contains(got.Verdict, want) {
			t.Errorf("%s: %q, want %q:\n%s", words, got.Verdict, want, strings.Join(got.Steps, "\n"))
		}
		if list := netnstest.Get[[]api.Neighbor](d, "neigh"); slices.ContainsFunc(list, func(n api.Neighbor) bool { return n.State == "incomplete" }) {
			t.Errorf("a trace asked for a neighbor: %+v", list)
		}
	}
	verdict("tcp,ip_dst=10.12.0.2,tcp_dst=80", "output:b")
	verdict("tcp6,ipv6_dst=fd12::2,tcp_dst=80", "output:b")
	verdict("tcp,ip_dst=10.12.0.2,tcp_dst=22", "drop: rule_reject")
	verdict("tcp,ip_dst=10.12.0.3,tcp_dst=80", "waits until 10.12.0.3 has told its MAC")
	verdict("tcp,ip_dst=10.12.0.99,tcp_dst=80", "waits until 10.12.0.99 has told its MAC")
	b.IP("link set eth0 down")
	d.Eventually("b is down", func() bool { return netnstest.Get[api.Port](d, "show", "port", "b").Status.State == api.StateDown })
	verdict("tcp,ip_dst=10.12.0.2,tcp_dst=80", "waits until 10.12.0.2 has told its MAC")
}
