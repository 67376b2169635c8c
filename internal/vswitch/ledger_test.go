package vswitch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// ledger is a flood whose every frame has to be found again:
//
//	a, counting what it sends ---> net1 ---> b0, b1, b2, counting what arrives
type ledger struct {
	seed      uint64
	from      string   // type of a's port
	to        []string // types of the receivers' ports
	down      []bool   // which of them are down
	broadcast bool     // to all, else to the first
	tagged    bool     // in VLAN 10, in which they all are, else untagged
	stopped   bool     // the daemon stands still meanwhile, so that queues overflow
	size      int      // of a frame; above the MTU: of a super-frame
	count     int
}

func newLedger(seed uint64) ledger {
	r := rand.New(rand.NewPCG(seed, 7))
	types := func() string { return portTypes[r.IntN(2)] }
	l := ledger{
		seed: seed, from: portTypes[seed%2], broadcast: r.IntN(2) == 0, tagged: r.IntN(3) == 0, stopped: r.IntN(2) == 0,
		size: []int{60, 64, 65, 200, 1000, 1514, 9000, 65000}[seed%8], count: 20000,
	}
	for range 1 + r.IntN(3) {
		l.to, l.down = append(l.to, types()), append(l.down, r.IntN(4) == 0)
	}
	if l.size > 1514 {
		l.count = 3000
	}
	if l.stopped && l.from == "veth" && l.size <= 1514 {
		l.count = 120000 // more than its socket holds, unless they are small
	}
	return l
}

func (l ledger) String() string {
	return fmt.Sprintf("seed %d: %d of %d bytes from a %s to %s, down %v, broadcast %v, tagged %v, daemon stopped %v", l.seed, l.count, l.size, l.from,
		strings.Join(l.to, " and "), l.down, l.broadcast, l.tagged, l.stopped)
}

// frame returns what a sends, and in how many packets.
func (l ledger) frame(from, to string) (vnet, frame []byte, packets int) {
	o := []packettest.Option{packettest.From(from, a4, 5), packettest.To(to, "10.9.0.77", 9)}
	if l.tagged {
		o = append(o, packettest.VLAN(10))
	}
	if l.size <= 1514 { // of no protocol that could be merged
		f := packettest.Raw(0x88b5, append(o, packettest.Size(l.size-14))...)
		return f.Vnet(), f.Bytes(), 1
	}
	const segment = 1400
	payload := l.size - 42
	f := packettest.UDP(append(o, packettest.Size(payload), packettest.GSO(segment))...)
	return f.Vnet(), f.Bytes(), (payload + segment - 1) / segment
}

// TestLedger: what was sent is what arrived plus what is counted as lost, to the frame, whatever it is and wherever it goes: our
// reasons to drop and the kernel's, each at its port. What is lost at the ingress is lost to all receivers.
func TestLedger(t *testing.T) {
	first, n := rand.Uint64N(1<<20)*16, 8
	for i := range n {
		l := newLedger(first + uint64(i))
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			l.balance(t)
		})
	}
}

func (l ledger) balance(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon("--txqueuelen", "500")
	d.Must("add-network", "net1", "--no-subnet")
	vlans := []string{"--trunk", "10", "--native", "0"}
	open := func(name, typ string) *netnstest.Container {
		c := lab.Container(name)
		c.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1") // nothing but the flood is under way
		d.Join("net1", name, c, append(vlans, "--type", typ)...)
		return c
	}
	a := open("a", l.from)
	var counts []*netnstest.FrameCount
	for i, typ := range l.to {
		name := fmt.Sprint("b", i)
		c := open(name, typ)
		d.Must("add-fdb", "net1", c.MAC(), name)
		if l.tagged {
			d.Must("add-fdb", "net1", c.MAC(), name, "--vlan", "10")
		}
		counts = append(counts, c.CountFrames("eth0", a.MAC()))
		if l.down[i] {
			c.IP("link set eth0 down")
			lab.Eventually(name+" is down", func() bool { return portOf(t, d, name).Status.State == "down" })
		}
	}
	to, receivers := portOf(t, d, "b0").MAC, uint64(1)
	if l.broadcast {
		to, receivers = "ff:ff:ff:ff:ff:ff", uint64(len(l.to))
	}
	vnet, frame, packets := l.frame(a.MAC(), to)
	sent := l.flood(t, d, a.VnetSocket("eth0"), vnet, frame) * uint64(packets) * receivers

	var arrived, lost uint64
	for deadline := time.Now().Add(netnstest.Patience / 2); arrived+lost != sent && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		before := arrived + lost
		arrived = 0
		for _, c := range counts {
			arrived += c.Frames() * uint64(packets)
		}
		lost = l.lost(d, uint64(packets), receivers)
		if arrived+lost > before { // a busy machine takes its time for so many
			deadline = time.Now().Add(netnstest.Patience / 2)
		}
	}
	if arrived+lost != sent || sent == 0 {
		t.Errorf("%v\n%d sent, but %d arrived and %d are counted as lost:\n%s\n%s", l, sent, arrived, lost, d.Must("drops"), d.Must("stats"))
	}
	if l.stopped && lost == 0 && (l.from == "tap" || l.size >= 1000) {
		t.Errorf("%v\nnothing was lost, although the daemon stood still: this proves nothing", l)
	}
}

// flood sends, and returns how many frames came as far as the sender's interface: one that has no room says so, and counts it.
func (l ledger) flood(t *testing.T, d *netnstest.Daemon, s *netnstest.VnetSocket, vnet, frame []byte) (sent uint64) {
	t.Helper()
	if l.stopped {
		_ = syscall.Kill(d.PID(), syscall.SIGSTOP)
		defer func() { _ = syscall.Kill(d.PID(), syscall.SIGCONT) }()
	}
	for range l.count {
		if err := s.Send(vnet, frame); err == nil || errors.Is(err, syscall.ENOBUFS) {
			sent++
		}
	}
	return sent
}

// lost sums what was dropped of packets for each of the receivers. What a container's kernel had no use for when it came out of a
// TAP, such as a tag that it has no interface for, its packet socket has seen.
func (l ledger) lost(d *netnstest.Daemon, packets, receivers uint64) (n uint64) {
	for _, x := range netnstest.Get[[]api.Drop](d, "drops") {
		m := x.Packets
		if strings.HasPrefix(x.Reason, "kernel_") {
			m *= packets // the kernel counts super-frames
		}
		switch i := strings.TrimPrefix(x.Port, "b"); {
		case x.Port == "a":
			m *= receivers
		case x.Reason == packet.DropKernelTx.String() && l.to[i[0]-'0'] == "tap":
			m = 0
		}
		n += m
	}
	return n
}

// TestDeletedPortIsAccounted: what waits in the queue of a port when it is deleted arrives or is counted, and the counters of ports
// that are no more are kept.
//
//	a ---> net1 ---> b, while the daemon stands still; then a's port is deleted
func TestDeletedPortIsAccounted(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--no-subnet")
			a, b := lab.Container("a"), lab.Container("b")
			for name, c := range map[string]*netnstest.Container{"a": a, "b": b} {
				c.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
				d.Join("net1", name, c, "--type", typ)
			}
			count := b.CountFrames("eth0", a.MAC())
			l := ledger{size: 1000, count: 5000, stopped: true}
			vnet, frame, _ := l.frame(a.MAC(), "ff:ff:ff:ff:ff:ff")
			s := a.VnetSocket("eth0")
			_ = syscall.Kill(d.PID(), syscall.SIGSTOP)
			var sent uint64
			for range l.count {
				if s.Send(vnet, frame) == nil {
					sent++
				}
			}
			if sent == 0 {
				t.Fatal("nothing could be sent")
			}
			deleted := make(chan netnstest.Result)
			go func() { deleted <- d.Vsctl("del-port", "a") }()
			_ = syscall.Kill(d.PID(), syscall.SIGCONT)
			if r := <-deleted; r.Code != 0 {
				t.Fatal(r.Err)
			}
			var arrived, lost uint64
			var st api.Stats
			if !eventually(func() bool {
				st, arrived, lost = netnstest.Get[api.Stats](d, "stats"), count.Frames(), 0
				for _, n := range st.Deleted.Drops {
					lost += n
				}
				return arrived+lost == sent && st.Deleted.RxPackets+st.Deleted.KernelRxDropped == sent
			}) {
				t.Errorf("%d sent, but %d arrived and %d are counted as lost: %+v\n%s\n%s", sent, arrived, lost, st.Deleted, d.Must("drops"), d.Must("stats"))
			}
		})
	}
}
