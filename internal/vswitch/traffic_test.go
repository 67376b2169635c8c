package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// The addresses of a and b in the tests' usual network.
const (
	subnet4, subnet6 = "10.9.0.0/24", "fd00:9::/64"
	a4, b4           = "10.9.0.2", "10.9.0.3"
	a6, b6           = "fd00:9::2", "fd00:9::3"
)

// everySize lists datagrams that fit one frame of the MTU, and some that do not.
func everySize(mtu, headers int) (sizes []int) {
	for n := 1; n <= mtu-headers; n++ {
		sizes = append(sizes, n)
	}
	return append(sizes, mtu-headers+1, 2*mtu, 4000, 9001, 20000)
}

// TestTraffic sends all that kernels send, between each kind of ports, and over each way to run the switch.
//
//	a eth0 10.9.0.2 fd00:9::2 --- net1 --- 10.9.0.3 fd00:9::3 eth0 b
func TestTraffic(t *testing.T) {
	for _, tt := range []struct {
		name, a, b, flags string
	}{
		{"tap to tap", "tap", "tap", ""},
		{"tap to veth", "tap", "veth", ""},
		{"veth to veth", "veth", "veth", ""},
		{"three workers", "tap", "veth", "--workers=3"},
		{"no flow cache", "tap", "tap", "--flow-cache=off"},
		{"no coalescing", "tap", "veth", "--coalesce=off"},
		{"no spinning", "tap", "tap", "--spin=0"},
		{"none of it", "veth", "tap", "--flow-cache=off --coalesce=off --spin=0 --workers=1"},
		{"tiny flow table", "tap", "tap", "--max-flows=16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon(strings.Fields(tt.flags)...)
			d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
			a, b := lab.Container("a"), lab.Container("b")
			d.Join("net1", "a", a, "--type", tt.a)
			d.Join("net1", "b", b, "--type", tt.b)
			allTraffic(t, a, b, b4, b6)
			allTraffic(t, b, a, a4, a6)
			heedsFlags(t, lab, d, tt.flags, a, b)
			netnstest.ExpectNoErrors(a, b)
			p := portStats(t, d, "b")
			if p.RxFrames >= p.RxPackets || p.TxFrames >= p.TxPackets {
				t.Errorf("super-frames were cut: %d frames for %d packets in, %d for %d out", p.RxFrames, p.RxPackets, p.TxFrames, p.TxPackets)
			}
			if n := lost(d); n != 0 {
				t.Errorf("%d packets were dropped:\n%s", n, d.Must("drops"))
			}
		})
	}
}

// heedsFlags compares what the workers did with the flags that the daemon has, while a sends to b what they would do otherwise.
func heedsFlags(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon, flags string, a, b *netnstest.Container) {
	t.Helper()
	var sum api.WorkerStats
	look := func() int {
		sum = api.WorkerStats{}
		workers := netnstest.Get[api.Stats](d, "stats").Workers
		for _, w := range workers {
			sum.FlowHits += w.FlowHits
			sum.FlowEntries = max(sum.FlowEntries, w.FlowEntries)
			sum.Coalesced += w.Coalesced
			sum.SpinWins += w.SpinWins
		}
		return len(workers)
	}
	given := func(flag string) bool { return slices.Contains(strings.Fields(flags), flag) }
	burst := func() {
		if err := netnstest.Datagrams(a, b, b4, slices.Repeat([]int{1000}, 64)...); err != nil {
			t.Fatal(err)
		}
		a.Run("ping", "-q", "-f", "-c100", "-W10", b4) // one follows the other at once
	}
	burst()
	lab.Eventually("datagrams are merged, and frames found by polling", func() bool {
		look()
		if (sum.Coalesced > 0 || given("--coalesce=off")) && (sum.SpinWins > 0 || given("--spin=0")) {
			return true
		}
		burst()
		return false
	})
	if given("--max-flows=16") {
		d.Must("add-rule", "net1", "in", "deny", "--dst", "192.0.2.1") // flows are those of connections from now on
		for range 20 {
			a.Run("ping", "-q", "-c2", "-i0.01", "-W10", b4)
		}
	}
	workers := look()
	for _, wrong := range []struct {
		what string
		is   bool
	}{
		{"not one worker", given("--workers=1") && workers != 1},
		{"not three workers", given("--workers=3") && workers != 3},
		{"flows were replayed", given("--flow-cache=off") && sum.FlowHits+uint64(sum.FlowEntries) > 0},
		{"no flow was replayed", !given("--flow-cache=off") && sum.FlowHits == 0},
		{"not 16 flows are cached", given("--max-flows=16") && sum.FlowEntries != 16},
		{"frames were merged", given("--coalesce=off") && sum.Coalesced > 0},
		{"polling found frames", given("--spin=0") && sum.SpinWins > 0},
	} {
		if wrong.is {
			t.Errorf("with %q %s: %d workers, %+v", flags, wrong.what, workers, sum)
		}
	}
}

// allTraffic sends from one container to another's addresses.
func allTraffic(t *testing.T, from, to *netnstest.Container, v4, v6 string) {
	t.Helper()
	for _, to := range []string{v4, v6} {
		from.Run("ping", "-q", "-c3", "-i0.01", "-W10", to)
		from.Run("ping", "-q", "-c2", "-i0.01", "-W10", "-s", "20000", to)
	}
	for _, err := range []error{
		netnstest.Stream(from, to, v4, 4<<20),
		netnstest.Stream(from, to, v6, 4<<20),
		netnstest.Datagrams(from, to, v4, everySize(1500, 28)...),
		netnstest.Datagrams(from, to, v6, everySize(1500, 48)...),
		netnstest.SegmentedDatagrams(from, to, v4, 1400, 40),
		netnstest.SegmentedDatagrams(from, to, v6, 1232, 50),
		netnstest.SegmentedDatagrams(from, to, v4, 64, 64),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}

// TestJumbo is a network of 9000-byte frames.
func TestJumbo(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6, "--mtu", "9000")
	a, b := lab.Container("a"), lab.Container("b")
	d.Join("net1", "a", a)
	d.Join("net1", "b", b, "--type", "veth")
	if mtu := a.Link("eth0").MTU; mtu != 9000 {
		t.Errorf("MTU of eth0 is %d", mtu)
	}
	a.Run("ping", "-q", "-c2", "-i0.01", "-W10", "-Mdo", "-s", "8972", b4)
	a.Run("ping", "-q", "-c2", "-i0.01", "-W10", "-Mdo", "-s", "8952", b6)
	for _, err := range []error{
		netnstest.Stream(a, b, b4, 4<<20),
		netnstest.Stream(b, a, a6, 4<<20),
		netnstest.Datagrams(a, b, b4, 1, 1472, 1473, 4000, 8971, 8972, 8973, 20000),
		netnstest.Datagrams(b, a, a6, 1, 1452, 1453, 4000, 8951, 8952, 8953, 20000),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	netnstest.ExpectNoErrors(a, b)
	if n := lost(d); n != 0 {
		t.Errorf("%d packets were dropped:\n%s", n, d.Must("drops"))
	}
}

// TestMTUIsEnforced has a container raise its MTU on its own: what is over the network's is dropped and counted.
func TestMTUIsEnforced(t *testing.T) {
	for _, kind := range []string{"tap", "veth"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
			a, b := lab.Container("a"), lab.Container("b")
			d.Join("net1", "a", a, "--type", kind)
			d.Join("net1", "b", b)
			a.IP("link set eth0 mtu 9000")
			a.Run("ping", "-q", "-c2", "-i0.01", "-W10", "-Mdo", "-s", "1472", b4)
			for i, tt := range []struct{ size, to string }{{"1473", b4}, {"8972", b4}, {"1453", b6}} {
				if _, err := a.Try("ping", "-q", "-c1", "-W0.2", "-Mdo", "-s", tt.size, tt.to); err == nil {
					t.Errorf("ping of %s bytes to %s got through", tt.size, tt.to)
				}
				lab.Eventually("each packet over the MTU is counted", func() bool { return dropped(d, "a", "over_mtu") == uint64(i+1) })
			}
			// TCP's segments are of b's MSS: they fit.
			if err := netnstest.Stream(a, b, b4, 1<<20); err != nil {
				t.Error(err)
			}
			// A port of a smaller MTU than its network's has it both ways: from others, and when its container raises it.
			c := lab.Container("c")
			d.Join("net1", "c", c, "--type", kind, "--mtu", "1300")
			c.IP("link set eth0 mtu 1500")
			for _, tt := range []struct {
				from     *netnstest.Container
				name, to string
			}{{b, "b", "10.9.0.4"}, {c, "c", b4}, {b, "b", "fd00:9::4"}, {c, "c", b6}} {
				headers := 28
				if strings.Contains(tt.to, ":") {
					headers = 48
				}
				before := dropped(d, tt.name, "over_mtu")
				tt.from.Run("ping", "-q", "-c2", "-i0.01", "-W10", "-Mdo", "-s", fmt.Sprint(1300-headers), tt.to)
				if _, err := tt.from.Try("ping", "-q", "-c1", "-W0.2", "-Mdo", "-s", fmt.Sprint(1301-headers), tt.to); err == nil {
					t.Errorf("1301 bytes got from %s to %s", tt.name, tt.to)
				}
				lab.Eventually("the packet from "+tt.name+" to "+tt.to+" is counted", func() bool { return dropped(d, tt.name, "over_mtu") == before+1 })
			}
		})
	}
}

// TestManyFlows has eight containers talk to each other at once, over three workers.
func TestManyFlows(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "3")
	d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
	var all []*netnstest.Container
	for i := range 6 {
		c := lab.Container(fmt.Sprint("c", i))
		d.Join("net1", fmt.Sprint("c", i), c, "--type", []string{"tap", "veth"}[i%2])
		all = append(all, c)
	}
	errs := make(chan error)
	for i, from := range all {
		for j, to := range all {
			go func() {
				if i == j {
					errs <- nil
					return
				}
				addr := fmt.Sprint("10.9.0.", j+2)
				if (i+j)%2 == 1 {
					addr = fmt.Sprint("fd00:9::", j+2)
				}
				errs <- netnstest.Stream(from, to, addr, 512<<10)
			}()
		}
	}
	for range len(all) * len(all) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	netnstest.ExpectNoErrors(all...)
}
