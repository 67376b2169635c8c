package datapath

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// serial is a port that only one thread may touch.
type serial struct {
	*mem.Port
	t      testing.TB
	thread atomic.Int64
	left   atomic.Bool   // it is being removed: who removes it reads it, too
	gate   chan struct{} // not nil: each write waits for it
}

func (s *serial) Serial() {}

func (s *serial) own() {
	me := int64(unix.Gettid())
	if !s.thread.CompareAndSwap(0, me) && s.thread.Load() != me && !s.left.Load() {
		s.t.Error("touched by two threads")
	}
}

func (s *serial) Read(f *packet.Frame) error {
	s.own()
	return s.Port.Read(f)
}

func (s *serial) Write(f *packet.Frame) error {
	s.own()
	if s.gate != nil {
		<-s.gate
	}
	return s.Port.Write(f)
}

// numbered is a frame with a sender and a number.
func numbered(sender, n int) *packet.Frame {
	b := binary.BigEndian.AppendUint32([]byte{byte(sender)}, uint32(n))
	return packettest.TCP(packettest.Payload(b), packettest.Flags(packet.TCPPsh|packet.TCPAck))
}

// number reads what numbered wrote.
func number(f *packet.Frame) (sender, n int) {
	b := f.Bytes()
	b = b[len(b)-5:]
	return int(b[0]), int(binary.BigEndian.Uint32(b[1:]))
}

// waitFor waits until cond holds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// A Serial port is touched by its own worker only, though several write to it; each sender's frames keep their order.
func TestSerial(t *testing.T) {
	const frames = 2000
	var to packet.PortID
	d := newTest(t, Config{Workers: 3}, outputTo(&to))
	out := &serial{Port: newPort(t, "out", mem.Queue(6*frames)), t: t}
	to = add(t, d, out)
	in := make([]*mem.Port, 6) // on all three workers
	for i := range in {
		in[i] = newPort(t, "in")
		add(t, d, in[i])
	}
	running(t, d)
	var senders sync.WaitGroup
	var got atomic.Int64
	for i, p := range in {
		senders.Go(func() {
			for n := range frames {
				for int64(n*len(in)) > got.Load()+ringFrames/2 { // the test is not about a full queue
					d.Quiesce()
				}
				f := numbered(i, n)
				p.Inject(f.Vnet(), f.Bytes())
			}
		})
	}
	next := make([]int, len(in))
	for ; int(got.Load()) < len(in)*frames; got.Add(1) {
		f := out.Next(30 * time.Second)
		if f == nil {
			t.Fatalf("%d frames came of %d; %v", got.Load(), len(in)*frames, d.PortCounters()[to])
		}
		i, n := number(f)
		if n != next[i] {
			t.Fatalf("frame %d of sender %d, want %d", n, i, next[i])
		}
		next[i]++
	}
	senders.Wait()
	if c := d.PortCounters()[to]; c.TxPackets != uint64(len(in)*frames) {
		t.Errorf("counters %+v", c)
	}
}

// A Serial port that takes nothing holds up nobody but itself: what its queue can't hold is counted, and so is what is left in
// it when the port goes.
func TestSerialQueueFull(t *testing.T) {
	const frames = ringFrames + 100
	var to, other packet.PortID
	d := newTest(t, Config{Workers: 2}, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		id := to
		if f.Key.EtherType == packet.EtherTypeARP {
			id = other
		}
		v.Add(flow.Action{Op: flow.OpOutput, Port: id})
	}))
	out := &serial{Port: newPort(t, "out"), t: t, gate: make(chan struct{})}
	to = add(t, d, out)
	in := newPort(t, "in")
	from := add(t, d, in)
	healthy := newPort(t, "healthy")
	add(t, d, newPort(t, "filler"))
	other = add(t, d, healthy)
	if d.WorkerOf(to) == d.WorkerOf(from) {
		t.Fatal("the sender is on the same worker")
	}
	running(t, d)
	f := numbered(0, 0)
	for range frames {
		in.Inject(f.Vnet(), f.Bytes())
	}
	in.Inject(nil, packettest.ARPRequest().Bytes())
	if healthy.Next(30*time.Second) == nil {
		t.Fatal("the healthy port got nothing")
	}
	s := d.lookup(to)
	full := s.counters[d.WorkerOf(from)].Drops[packet.DropQueueFull]
	if full < frames-ringFrames-2 || full > frames-ringFrames {
		t.Errorf("%d packets dropped, %d sent, %d fit", full, frames, ringFrames)
	}
	out.left.Store(true)
	removed := make(chan Counters)
	go func() {
		c, err := d.Remove(to)
		if err != nil {
			t.Error(err)
		}
		removed <- c
	}()
	waitFor(t, "the port is unpublished", func() bool { return d.lookup(to) == nil })
	close(out.gate)
	c := <-removed
	if sum := c.TxPackets + c.Drops[packet.DropQueueFull] + c.Drops[packet.DropEgressGone]; sum != frames {
		t.Errorf("%d packets of %d are accounted for: %+v", sum, frames, c)
	}
}

// serialGuarded is guarded as a Serial.
type serialGuarded struct{ guarded }

func (*serialGuarded) Serial() {}

// After Remove nobody touches a Serial port, though frames to it were in its queues.
func TestRemoveSerialUnderTraffic(t *testing.T) {
	var victim atomic.Uint32
	d := newTest(t, Config{Workers: 2}, classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true
		v.Add(flow.Action{Op: flow.OpOutput, Port: packet.PortID(victim.Load())})
	}))
	running(t, d)
	var senders sync.WaitGroup
	defer senders.Wait()
	var done atomic.Bool
	defer done.Store(true)
	f := packettest.UDP()
	for range 2 {
		p := newPort(t, "sender")
		add(t, d, p)
		senders.Go(func() {
			for !done.Load() {
				for range 8 {
					p.Inject(nil, f.Bytes())
				}
				d.Quiesce()
			}
		})
	}
	written := uint64(0)
	for i := 0; i < 100 || written < 100; i++ {
		if i == 100000 {
			t.Fatalf("only %d frames were written", written)
		}
		g := &serialGuarded{guarded{Port: newPort(t, "victim"), t: t}}
		id := add(t, d, g)
		victim.Store(uint32(id))
		d.FlushFlows()
		d.Quiesce()
		c, err := d.Remove(id)
		if err != nil {
			t.Fatal(err)
		}
		g.removed.Store(true)
		g.Close()
		written += c.TxPackets
	}
}

// onlyOwner is a Serial that checks nothing.
type onlyOwner struct{ *mem.Port }

func (onlyOwner) Serial() {}

// Handing frames over costs no allocation, of small ones and of super-frames, nor does timing those to a slow port.
func TestHandoverDoesNotAllocate(t *testing.T) {
	var to packet.PortID
	d := newTest(t, Config{Workers: 2, NoCoalesce: true}, outputTo(&to))
	out := onlyOwner{newPort(t, "out", mem.Queue(4))}
	to = add(t, d, out)
	in := newPort(t, "in", mem.Queue(4))
	from := add(t, d, in)
	if d.WorkerOf(from) == d.WorkerOf(to) {
		t.Fatal("both are on one worker")
	}
	d.lookup(to).flags.Or(slotSuspect)
	small, large := packettest.UDP(), packettest.UDP(packettest.Size(40000), packettest.GSO(1000))
	wrote := 0
	turn := func() {
		_ = in.Inject(small.Vnet(), small.Bytes())
		_ = in.Inject(large.Vnet(), large.Bytes())
		for range 2 {
			if err := d.Turn(); err != nil {
				t.Fatal(err)
			}
		}
		wrote += out.Discard()
	}
	for range 4 { // the test's own queues have memory by then
		turn()
	}
	wrote = 0
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if wrote != 2*101 {
		t.Errorf("%d frames were written, want %d", wrote, 2*101)
	}
}
