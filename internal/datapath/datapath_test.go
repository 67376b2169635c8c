package datapath

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
	"vswitch/internal/port/mem"
)

func newPort(t testing.TB, name string, options ...mem.Option) *mem.Port {
	p, err := mem.New(name, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func add(t testing.TB, d *Datapath, p port.Port) packet.PortID {
	id, err := d.Add(p, 1500)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(id); err != nil {
		t.Fatal(err)
	}
	return id
}

// outputTo sends each frame out of one port.
func outputTo(id *packet.PortID) Classifier {
	return classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true
		v.Add(flow.Action{Op: flow.OpOutput, Port: *id})
	})
}

// batching is a port that batches its writes.
type batching struct {
	*mem.Port
	flushes int
	closed  bool
	t       testing.TB
}

func (b *batching) Flush() error {
	if b.closed {
		b.t.Error("flushed after Close")
	}
	b.flushes++
	return nil
}

func (b *batching) Close() error {
	b.closed = true
	return b.Port.Close()
}

// A frame that came by the mailbox is flushed before the mailbox is done with it: no later turn touches the port.
func TestInjectFlushes(t *testing.T) {
	var to packet.PortID
	d := newTest(t, Config{Workers: 1}, outputTo(&to))
	out := &batching{Port: newPort(t, "out"), t: t}
	from := add(t, d, newPort(t, "in"))
	to = add(t, d, out)
	running(t, d)
	d.Inject(from, packettest.ARPRequest().Bytes())
	d.workers[0].call(func() {})
	if _, err := d.Remove(to); err != nil {
		t.Fatal(err)
	}
	if out.flushes != 1 {
		t.Errorf("%d flushes", out.flushes)
	}
	out.Close()
	d.Inject(from, packettest.ARPRequest().Bytes())
	d.Quiesce()
	if c := d.PortCounters()[from]; c.Drops[packet.DropEgressGone] != 1 || c.RxFrames != 2 {
		t.Errorf("counters %+v", c)
	}
}

// Frames injected for a port that is removed meanwhile touch nothing of it.
func TestInjectWhileRemoving(t *testing.T) {
	d := newTest(t, Config{Workers: 2}, dropAll)
	running(t, d)
	b := packettest.UDP().Bytes()
	for range 50 {
		id := add(t, d, newPort(t, "p"))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 20 {
					d.Inject(id, b)
				}
			})
		}
		c, err := d.Remove(id)
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if _, err := d.Remove(id); err == nil {
			t.Fatal("removed twice")
		}
		if c.RxFrames != c.Drops[packet.DropNoReceiver] || c.RxFrames > 60 {
			t.Fatalf("%d frames, %d dropped", c.RxFrames, c.Drops[packet.DropNoReceiver])
		}
	}
}

// Start either finds the port or fails; it never watches a descriptor that its owner may have closed.
func TestStartWhileRemoving(t *testing.T) {
	d := newTest(t, Config{Workers: 1}, dropAll)
	running(t, d)
	for range 200 {
		p := newPort(t, "p")
		id, err := d.Add(p, 1500)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var started error
		wg.Go(func() { started = d.Start(id) })
		if _, err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
		p.Close()
		wg.Wait()
		if err := d.Start(id); err == nil {
			t.Fatal("a removed port was started")
		}
		_ = started
	}
}

// scripted is a port whose reads come from a script.
type scripted struct {
	*mem.Port
	reads []func(*packet.Frame) error
}

func (s *scripted) Read(f *packet.Frame) error {
	if len(s.reads) == 0 {
		return s.Port.Read(f)
	}
	r := s.reads[0]
	s.reads = s.reads[1:]
	return r(f)
}

// The tunnel of one port's frame does not stick to the next frame in the buffer, and what a port fails to read is counted.
func TestReads(t *testing.T) {
	var got []packet.Key
	d := newTest(t, Config{Workers: 1, NoCache: true}, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		got = append(got, f.Key)
		v.Drop = packet.DropNoReceiver
	}))
	b := packettest.UDP().Bytes()
	vtep := &scripted{Port: newPort(t, "vtep"), reads: []func(*packet.Frame) error{
		func(f *packet.Frame) error { f.Load(nil, b); f.Key.VNI, f.Key.Remote = 5, 6; return nil },
		func(f *packet.Frame) error { return port.ErrRefused },
		func(f *packet.Frame) error { f.Load(nil, b); return nil },
		func(f *packet.Frame) error { return port.ErrDown },
	}}
	id := add(t, d, vtep)
	vtep.Inject(nil, b) // makes it readable
	running(t, d)
	for d.PortCounters()[id].RxFrames < 4 { // each call waits for a turn
	}
	var tunnels []uint32
	d.workers[0].call(func() {
		for _, k := range got {
			if k.InPort != id {
				t.Errorf("ingress %d", k.InPort)
			}
			tunnels = append(tunnels, k.VNI<<8|k.Remote)
		}
	})
	if len(tunnels) != 3 || tunnels[0] != 0x506 || tunnels[1] != 0 || tunnels[2] != 0 {
		t.Errorf("tunnels %x", tunnels)
	}
	if c := d.PortCounters()[id]; c.Drops[packet.DropBadVnet] != 1 || c.RxPackets != 4 {
		t.Errorf("counters %+v", c)
	}
}

// A flow that is decided anew keeps its counters.
func TestFlowCountersSurviveRedecision(t *testing.T) {
	var gen flow.Generation
	var to packet.PortID
	d := newTest(t, Config{Workers: 1}, classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
		v.Gens[0] = flow.GenRef{Gen: &gen, Value: gen.Load()}
		v.MaxL3, v.Cacheable = 1500, true
		v.Add(flow.Action{Op: flow.OpOutput, Port: to})
	}))
	from := add(t, d, newPort(t, "in"))
	to = add(t, d, newPort(t, "out"))
	f := packettest.UDP()
	for range 3 {
		d.Inject(from, f.Bytes())
		d.Inject(from, f.Bytes())
		gen.Bump()
	}
	flows := d.Flows(func(*flow.Flow) bool { return true })[0]
	if len(flows) != 1 || flows[0].Packets != 6 || flows[0].Bytes != uint64(6*f.Len()) {
		t.Errorf("flows %+v", flows)
	}
	s := d.WorkerCounters()[0]
	if s.FlowHits != 3 || s.FlowMisses != 3 || s.FlowInvalid != 2 || s.Flows != 1 {
		t.Errorf("worker %+v", s)
	}
}

// A port whose device died is reported once and wakes nobody any more.
func TestGone(t *testing.T) {
	gone := make(chan packet.PortID, 10)
	d := newTest(t, Config{Workers: 1, OnGone: func(id packet.PortID) {
		select {
		case gone <- id:
		default: // reported for ever
		}
	}}, dropAll)
	p := newPort(t, "p")
	id := add(t, d, p)
	running(t, d)
	p.Kill()
	if got := <-gone; got != id {
		t.Errorf("port %d is gone, want %d", got, id)
	}
	before := d.WorkerCounters()[0].Turns
	for range 100 {
		d.Quiesce()
	}
	if n := d.WorkerCounters()[0].Turns - before; n > 150 { // a signal may take one, too
		t.Errorf("%d turns for 101 letters", n)
	}
	if len(gone) != 0 {
		t.Error("reported twice")
	}
	if _, err := d.Remove(id); err != nil {
		t.Error(err)
	}
}

// Slots are used again with another generation, the longest unused first; ports go to the worker that has fewest.
func TestSlots(t *testing.T) {
	d := newTest(t, Config{Workers: 2}, dropAll)
	ids := make([]packet.PortID, 4)
	for i := range ids {
		ids[i] = add(t, d, newPort(t, "p"))
		if w := d.WorkerOf(ids[i]); w != i%2 {
			t.Errorf("port %d is on worker %d", i, w)
		}
	}
	for _, i := range []int{2, 0} {
		if _, err := d.Remove(ids[i]); err != nil {
			t.Fatal(err)
		}
		if d.WorkerOf(ids[i]) != -1 {
			t.Error("a removed port has a worker")
		}
	}
	for _, old := range []packet.PortID{ids[2], ids[0]} {
		id := add(t, d, newPort(t, "q"))
		if id.Slot() != old.Slot() || id.Generation() != old.Generation()+1 || d.WorkerOf(id) != 0 {
			t.Errorf("port %x after %x, on worker %d", id, old, d.WorkerOf(id))
		}
	}
}

// A full table takes one of several new flows, but a flow that is in it already is decided anew only once.
func TestFullTable(t *testing.T) {
	var gen flow.Generation
	d := newTest(t, Config{Workers: 1, MaxFlows: 4}, classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
		v.Gens[0] = flow.GenRef{Gen: &gen, Value: gen.Load()}
		v.MaxL3, v.Cacheable = 1500, true
		v.Add(flow.Action{Op: flow.OpPopVLAN}) // of no interest
	}))
	in := add(t, d, newPort(t, "in"))
	send := func(i int) {
		d.Inject(in, packettest.UDP(packettest.From("02:00:00:00:00:01", "10.0.0.1", uint16(i)), packettest.VLAN(3)).Bytes())
	}
	for range 3 {
		for i := range 4 {
			send(i)
			send(i)
		}
		gen.Bump()
	}
	if w := d.WorkerCounters()[0]; w.Flows != 4 || w.FlowMisses != 12 || w.FlowHits != 12 || w.FlowInvalid != 8 {
		t.Errorf("flows that are there: %+v", w)
	}
	for i := range 160 {
		send(100 + i)
	}
	inserted := 0
	for _, f := range d.Flows(func(*flow.Flow) bool { return true })[0] {
		if f.Key.SrcPort >= 100 {
			inserted++
		}
	}
	if w := d.WorkerCounters()[0]; w.Flows != 4 || w.FlowMisses != 12+160 || inserted == 0 {
		t.Errorf("new flows: %d inserted, %+v", inserted, w)
	}
}

// A full table of flows that came and went takes new ones as an empty one does.
func TestFullTableOfIdleFlows(t *testing.T) {
	var now atomic.Int64
	const flows = 1000
	d := newTest(t, Config{Workers: 1, MaxFlows: flows, Clock: now.Load}, classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true
		v.Add(flow.Action{Op: flow.OpPopVLAN}) // of no interest
	}))
	in := add(t, d, newPort(t, "in"))
	for round := range uint64(3) {
		for i := range flows {
			f := packettest.UDP(packettest.From("02:00:00:00:00:01", "10.0.0.1", uint16(i)), packettest.To("02:00:00:00:00:02", "10.0.0.2", uint16(round)))
			d.Inject(in, f.Bytes())
			d.Inject(in, f.Bytes())
		}
		if w := d.WorkerCounters()[0]; w.FlowHits < (round+1)*flows*98/100 { // some find no place near their home
			t.Fatalf("second frames that met a flow in %d rounds of %d: %d", round+1, flows, w.FlowHits)
		}
		now.Add(int64(time.Minute))
	}
}

// A decision without an action and without a reason is a bug, and counted as one.
func TestNoReason(t *testing.T) {
	d := newTest(t, Config{Workers: 1}, classifierFunc(func(*packet.Frame, int64, *flow.Verdict) {}))
	in := add(t, d, newPort(t, "in"))
	d.Inject(in, packettest.UDP().Bytes())
	if c := d.PortCounters()[in]; c.Drops[packet.DropInternal] != 1 {
		t.Errorf("counters %+v", c)
	}
}
