package datapath

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// slow is a port whose writes cost CPU time.
type slow struct {
	*mem.Port
	cost atomic.Int64 // nanoseconds
	gate sync.Mutex   // writes wait while the test holds it
}

func (s *slow) Write(f *packet.Frame) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	var m sampler
	for end := m.cpuTime() + s.cost.Load(); s.cost.Load() > 0 && m.cpuTime() < end; {
	}
	return s.Port.Write(f)
}

// byEtherType sends ARP to one port and all else to another.
func byEtherType(arp, other *packet.PortID) Classifier {
	return classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true
		id := *other
		if f.Key.EtherType == packet.EtherTypeARP {
			id = *arp
		}
		v.Add(flow.Action{Op: flow.OpOutput, Port: id})
	})
}

// A port whose writes take long moves to a worker of its own, which the others do not wait for, and back when it is fast again.
func TestSlowPortMovesAndComesBack(t *testing.T) {
	var slowID, otherID packet.PortID
	notices := make(chan Notice, 100)
	var workers atomic.Int64
	d := newTest(t, Config{
		Workers: 1, MaxSpin: -1, NoCoalesce: true, SlowHold: time.Millisecond,
		OnNotice: func(n Notice) { notices <- n }, OnWorkers: func(n int) { workers.Store(int64(n)) },
	}, byEtherType(&otherID, &slowID))
	p := &slow{Port: newPort(t, "slow", mem.Queue(1<<16))}
	p.cost.Store(int64(200 * time.Microsecond))
	healthy, in := newPort(t, "healthy"), newPort(t, "in")
	slowID, otherID = add(t, d, p), add(t, d, healthy)
	add(t, d, in)
	running(t, d)
	bulk, arp := packettest.UDP(), packettest.ARPRequest()
	expect := func(kind NoticeKind) Notice {
		t.Helper()
		for {
			select {
			case n := <-notices:
				if n.Kind != kind || n.Port != slowID {
					t.Fatalf("notice %+v", n)
				}
				return n
			default:
				in.Inject(nil, bulk.Bytes())
				d.Quiesce()
			}
		}
	}
	if n := expect(PortSlow); n.Worker < 1 || n.Cost < slow200/2 || d.WorkerOf(slowID) != n.Worker || workers.Load() != 2 {
		t.Errorf("moved away: %+v, %d workers", n, workers.Load())
	}
	if s := d.PortState(slowID); !s.Slow || s.Moves != 1 {
		t.Errorf("state %+v", s)
	}
	// It is read by its new worker, too.
	p.Inject(nil, arp.Bytes())
	if healthy.Next(30*time.Second) == nil {
		t.Fatal("what the slow port sends is lost")
	}
	// While frames to it wait, those of others do not.
	p.gate.Lock()
	for range 300 {
		in.Inject(nil, bulk.Bytes())
	}
	in.Inject(nil, arp.Bytes())
	f := healthy.Next(30 * time.Second)
	p.gate.Unlock()
	if f == nil {
		t.Fatal("a healthy port's frame is lost, or waited for those to the slow port")
	}
	p.cost.Store(0)
	if n := expect(PortFast); n.Worker != 0 || d.WorkerOf(slowID) != 0 || workers.Load() != 1 {
		t.Errorf("moved back: %+v, %d workers", n, workers.Load())
	}
	if s := d.PortState(slowID); s.Slow || s.Moves != 1 {
		t.Errorf("state %+v", s)
	}
	if all := d.WorkerCounters(); len(all) != 1 {
		t.Errorf("workers %+v", all)
	}
	p.cost.Store(int64(slow200)) // and it all works again, although its last stay ended amid fast writes
	for i := range maxQuarantine {
		d.lookup(slowID).paces[1+i] = pace{n: judgeWrites - 1}
	}
	expect(PortSlow)
	time.Sleep(3 * time.Millisecond) // longer than it has to be fast
	sent := d.PortCounters()[slowID].TxPackets
	for range 2 * judgeWrites {
		in.Inject(nil, bulk.Bytes())
	}
	waitFor(t, "more writes", func() bool { return d.PortCounters()[slowID].TxPackets >= sent+2*judgeWrites })
	if s := d.PortState(slowID); !s.Slow || s.Moves != 2 {
		t.Errorf("state %+v", s)
	}
	if _, err := d.Remove(slowID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the worker for slow ports ends", func() bool { return workers.Load() == 1 })
}

const slow200 = 200 * time.Microsecond

// A port whose writes take long for a moment stays; each moment counts for itself.
func TestSlowForAMoment(t *testing.T) {
	runtime.LockOSThread() // the cost of a write is this thread's CPU time
	defer runtime.UnlockOSThread()
	now := int64(1)
	var out packet.PortID
	d := newTest(t, Config{Workers: 1, MaxSpin: -1, NoCoalesce: true, Clock: func() int64 { return now }}, outputTo(&out))
	p, in := &slow{Port: newPort(t, "slow", mem.Queue(1<<10))}, newPort(t, "in")
	out = add(t, d, p)
	add(t, d, in)
	suspect := func() bool { return d.lookup(out).flags.Load()&slotSuspect != 0 }
	write := func(cost time.Duration, enough func() bool) {
		t.Helper()
		p.cost.Store(int64(cost))
		for range 20 * judgeWrites {
			if enough() {
				return
			}
			in.Inject(nil, packettest.UDP().Bytes())
			if err := d.Turn(); err != nil {
				t.Fatal(err)
			}
		}
		t.Fatalf("nothing came of many writes of %v: suspect %v, %d notices", cost, suspect(), len(d.notices))
	}
	for range 2 {
		write(slow200, suspect)
		now += slowFor - 1
		n := 0
		write(slow200, func() bool { n++; return n > 2*judgeWrites })
		if !suspect() || len(d.notices) > 0 {
			t.Fatalf("after a moment of slow writes: suspect %v, %d notices", suspect(), len(d.notices))
		}
		write(0, func() bool { return !suspect() })
		now += slowFor
	}
	write(slow200, suspect)
	now += slowFor
	write(slow200, func() bool { return len(d.notices) > 0 })
	if n := <-d.notices; n.Kind != PortSlow || n.Port != out || n.Cost < slow200/2 || n.Cost > 2*time.Duration(worstWrite) {
		t.Errorf("notice %+v", n)
	}
}

// A port that is pinned stays, whatever writes to it cost, and so do all of a datapath that moves none.
func TestPinnedPortStays(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		pin  bool
	}{{"pinned", Config{}, true}, {"no port moves", Config{NoMove: true}, false}} {
		t.Run(tt.name, func(t *testing.T) {
			var slowID, otherID packet.PortID
			tt.cfg.Workers, tt.cfg.MaxSpin, tt.cfg.NoCoalesce = 1, -1, true
			tt.cfg.OnNotice = func(n Notice) { t.Errorf("notice %+v", n) }
			d := newTest(t, tt.cfg, byEtherType(&otherID, &slowID))
			p := &slow{Port: newPort(t, "slow", mem.Queue(1<<16))}
			p.cost.Store(int64(300 * time.Microsecond))
			healthy, in := newPort(t, "healthy"), newPort(t, "in")
			slowID, otherID = add(t, d, p), add(t, d, healthy)
			add(t, d, in)
			if tt.pin {
				d.Pin(slowID)
			}
			running(t, d)
			for range 20 * sampleEvery {
				in.Inject(nil, packettest.UDP().Bytes())
				d.Quiesce()
			}
			if s := d.PortState(slowID); s.Slow || s.Moves != 0 || d.WorkerOf(slowID) != 0 {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// A port that is written to seldom among many that are fast is found, too, and the fast ones are not.
func TestSlowPortAmongMany(t *testing.T) {
	ids := make([]packet.PortID, 20)
	notices := make(chan Notice, 100)
	n := 0 // the worker's own
	d := newTest(t, Config{Workers: 1, MaxSpin: -1, NoCache: true, NoCoalesce: true, OnNotice: func(n Notice) { notices <- n }},
		classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
			v.Add(flow.Action{Op: flow.OpOutput, Port: ids[n%len(ids)]})
			n++
		}))
	in := newPort(t, "in")
	add(t, d, in)
	for i := range ids {
		p := &slow{Port: newPort(t, "out", mem.Queue(1<<16))}
		if i == 7 {
			p.cost.Store(int64(slow200))
		}
		ids[i] = add(t, d, p)
	}
	running(t, d)
	f := packettest.UDP()
	for len(notices) == 0 {
		for range 20 {
			in.Inject(nil, f.Bytes())
		}
		d.Quiesce()
	}
	if n := <-notices; n.Kind != PortSlow || n.Port != ids[7] {
		t.Errorf("notice %+v; the slow port is %d", n, ids[7])
	}
	for _, id := range ids {
		if s := d.PortState(id); s.Slow != (id == ids[7]) {
			t.Errorf("port %d: %+v", id, s)
		}
	}
}

// While ports move between workers under traffic in both directions, each sender's frames keep their order towards each receiver,
// and each frame is received or counted.
func TestMovesKeepOrder(t *testing.T) {
	const victims, senders, batch, moves = 6, 4, 300, 5
	ids := make([]packet.PortID, victims)
	d := newTest(t, Config{Workers: 2, SlowHold: time.Hour}, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		_, n := number(f)
		v.Add(flow.Action{Op: flow.OpOutput, Port: ids[n%victims]})
	}))
	out, last := make([]*mem.Port, victims), [victims][senders]int{}
	for i := range out {
		out[i] = newPort(t, "out", mem.Queue(senders*batch))
		ids[i] = add(t, d, out[i])
	}
	all, in := slices.Clone(ids), make([]*mem.Port, senders)
	for i := range in {
		in[i] = newPort(t, "in")
		all = append(all, add(t, d, in[i]))
	}
	running(t, d)

	// move tells that all ports are slow, or fast, until all have moved: back they don't unless their queues run empty in time.
	move := func(kind NoticeKind) {
		waitFor(t, "all ports move", func() bool {
			left := slices.DeleteFunc(slices.Clone(all), func(id packet.PortID) bool { return d.PortState(id).Slow == (kind == PortSlow) })
			if len(d.notices) == 0 {
				for _, id := range left {
					d.tell(Notice{Kind: kind, Port: id, move: d.PortState(id).Moves})
				}
			}
			return len(left) == 0
		})
	}
	var moved atomic.Bool
	var mover sync.WaitGroup
	defer mover.Wait()
	mover.Go(func() {
		defer moved.Store(true)
		for range moves {
			move(PortSlow)
			move(PortFast)
		}
	})
	for sent := 0; !moved.Load(); {
		for range batch {
			sent++
			for i, p := range in {
				f := numbered(i, sent)
				if err := p.Inject(f.Vnet(), f.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
		}
		waitFor(t, "all frames are dealt with", func() bool {
			var sum uint64
			for _, c := range d.PortCounters() {
				sum += c.TxPackets + c.Drops[packet.DropQueueFull]
			}
			return sum == uint64(senders*sent)
		})
		for i, p := range out {
			for _, f := range p.Sent() {
				s, n := number(f)
				if n <= last[i][s] || n%victims != i {
					t.Fatalf("receiver %d got frame %d of sender %d after %d", i, n, s, last[i][s])
				}
				last[i][s] = n
			}
		}
	}
}
