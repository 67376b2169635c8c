package netlab_test

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

// Two workers write to one port at once, while the configuration changes: nothing is lost, and each sender's frames come in
// their order.
func TestSeveralWorkers(t *testing.T) {
	const frames = 3000
	lab := netlab.New(t, netlab.Workers(3))
	to := lab.Port("n", "to", netlab.Queue(8*frames))
	var senders []*netlab.Port
	for _, name := range []string{"a", "b", "c"} {
		senders = append(senders, lab.Port("n", name, netlab.Queue(frames)))
	}
	extra := lab.Port("n", "extra")
	hello(lab, append(senders, to, extra)...)
	var g sync.WaitGroup
	for i, p := range senders {
		g.Go(func() {
			for n := range frames {
				p.Send(packettest.UDP(p.From(uint16(i)), to.To(1), packettest.ID(uint16(n), n%3 > 0), packettest.Partial(),
					packettest.Payload(binary.BigEndian.AppendUint32([]byte{byte(i)}, uint32(n)))))
			}
		})
	}
	var done atomic.Bool
	g.Go(func() {
		for !done.Load() {
			extra.Set(netlab.Isolated())
			lab.FDB("n").Sweep(lab.Now())
			extra.Set(netlab.NotIsolated())
		}
	})
	next := make([]uint32, len(senders))
	for received := 0; received < len(senders)*frames; {
		for _, b := range to.Take() {
			i, n := b[42], binary.BigEndian.Uint32(b[43:])
			if n != next[i] {
				t.Fatalf("frame %d of sender %d, want %d", n, i, next[i])
			}
			next[i]++
			received++
		}
	}
	done.Store(true)
	g.Wait()
	lab.ExpectDrops(t, nil)
	lab.ExpectNothing(t)
	hits := uint64(0)
	for i, w := range lab.Path().WorkerCounters() {
		if w.FlowMisses == 0 {
			t.Errorf("worker %d decided nothing", i)
		}
		hits += w.FlowHits
	}
	if hits == 0 {
		t.Error("nothing came from the cache")
	}
}

// An address moves between workers: at any time its frames go to where it was last seen, once all have settled.
func TestMoveBetweenWorkers(t *testing.T) {
	lab := netlab.New(t, netlab.Workers(2))
	c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
	hello(lab, c1, c2, c3)
	to := packettest.UDP(c1.From(1), c2.To(1))
	for i := range 200 {
		at, other := c2, c3
		if i%2 == 1 {
			at, other = c3, c2
		}
		hi := packettest.UDP(c2.From(1), c1.To(1))
		at.Send(hi)
		c1.Expect(t, hi)
		c1.Send(to)
		at.Expect(t, to)
		other.ExpectNothing(t)
		lab.Advance(l2switch.MoveWindow / l2switch.MaxMoves) // as often as an address may move
	}
}

// Ports come and go under traffic to them and from them. What was sent is received by somebody or dropped for a reason.
func TestPortsComeAndGo(t *testing.T) {
	lab := netlab.New(t, netlab.Workers(2))
	c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
	hello(lab, c1, c2)
	sent, got := 0, 0
	for range 150 {
		p := lab.Port("n", "p")
		for range 5 {
			c1.Send(packettest.UDP(c1.From(1), c2.To(1)), packettest.UDP(c1.From(1), p.To(1)))
			p.Send(packettest.UDP(p.From(1), c2.To(1)), packettest.ARPRequest(p.From(1), c2.To(1)))
		}
		sent += 5
		p.Remove()
		got += len(toPort(c2.Take(), c2))
		c1.Take()
		lab.Settle()
	}
	got += len(toPort(c2.Take(), c2))
	if got < sent {
		t.Errorf("c2 got %d frames, c1 alone sent %d", got, sent)
	}
	for r, n := range lab.Drops() {
		if r != packet.DropEgressGone && r != packet.DropPortDown {
			t.Errorf("%d packets dropped as %s", n, r)
		}
	}
}

// toPort returns the frames that have the port's MAC as their destination.
func toPort(frames [][]byte, p *netlab.Port) (mine [][]byte) {
	for _, b := range frames {
		if [6]byte(b) == p.MAC {
			mine = append(mine, b)
		}
	}
	return mine
}
