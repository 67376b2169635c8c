package datapath

import (
	"sync"
	"sync/atomic"
	"testing"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// guarded is a port that must not be touched once it was removed.
type guarded struct {
	*mem.Port
	t       testing.TB
	removed atomic.Bool
	busy    atomic.Int32
}

func (g *guarded) touch(what string) func() {
	g.busy.Add(1)
	if g.removed.Load() {
		g.t.Errorf("%s after the port was removed", what)
	}
	return func() { g.busy.Add(-1) }
}

func (g *guarded) Read(f *packet.Frame) error {
	defer g.touch("Read")()
	return g.Port.Read(f)
}

func (g *guarded) Write(f *packet.Frame) error {
	defer g.touch("Write")()
	return g.Port.Write(f)
}

func (g *guarded) Flush() error {
	defer g.touch("Flush")()
	return nil
}

// After Remove no worker reads, writes or flushes the port, though frames to it keep coming in, by cached flows and floods
// that still name it, and super-frames to it are open.
func TestRemoveUnderTraffic(t *testing.T) {
	var victim atomic.Uint32
	var set atomic.Pointer[flow.FloodSet]
	set.Store(&flow.FloodSet{})
	d := newTest(t, Config{Workers: 2}, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true // although what it leans on goes: the worst case
		if f.Flags&packet.FlagGroup != 0 {
			v.Cacheable = false
			v.Add(flow.Action{Op: flow.OpFlood, Set: set.Load()})
			return
		}
		v.Add(flow.Action{Op: flow.OpOutput, Port: packet.PortID(victim.Load())})
	}))
	running(t, d)
	var senders sync.WaitGroup
	defer senders.Wait()
	var done atomic.Bool
	defer done.Store(true)
	var frames []*packet.Frame
	for i := range 8 {
		frames = append(frames, packettest.UDP(packettest.ID(uint16(i), false), packettest.Partial(), packettest.Size(100)))
	}
	frames = append(frames, packettest.ARPRequest())
	for range 2 {
		p := newPort(t, "sender")
		add(t, d, p)
		senders.Go(func() {
			for !done.Load() {
				for _, f := range frames {
					p.Inject(f.Vnet(), f.Bytes())
				}
				d.Quiesce() // or the test would be about a full queue
			}
		})
	}
	written := uint64(0)
	for i := 0; i < 300 || written < 100; i++ {
		if i == 100000 {
			t.Fatalf("only %d frames were written", written)
		}
		g := &guarded{Port: newPort(t, "victim"), t: t}
		id := add(t, d, g)
		set.Store(&flow.FloodSet{Members: []flow.FloodMember{{Port: id}}})
		victim.Store(uint32(id))
		g.Inject(nil, frames[0].Bytes())
		d.FlushFlows()
		d.Quiesce()
		c, err := d.Remove(id)
		if err != nil {
			t.Fatal(err)
		}
		g.removed.Store(true)
		if g.busy.Load() != 0 {
			t.Fatal("a worker is still in the port")
		}
		g.Close()
		written += c.TxPackets
	}
}

// Ports come and go from several goroutines while counters and flows are looked at.
func TestConcurrentControl(t *testing.T) {
	d := newTest(t, Config{Workers: 3}, dropAll)
	running(t, d)
	var g sync.WaitGroup
	f := packettest.UDP()
	for range 4 {
		g.Go(func() {
			for range 50 {
				p := newPort(t, "p")
				id := add(t, d, p)
				p.Inject(nil, f.Bytes())
				d.SetMTU(id, 900)
				d.PortCounters()
				if d.WorkerOf(id) < 0 {
					t.Error("no worker")
				}
				if _, err := d.Remove(id); err != nil {
					t.Error(err)
				}
			}
		})
		g.Go(func() {
			for range 50 {
				d.WorkerCounters()
				d.Flows(func(*flow.Flow) bool { return true })
				d.FlushFlows()
				d.Slots()
			}
		})
	}
	g.Wait()
	if n := len(d.PortCounters()); n != 0 {
		t.Errorf("%d ports left", n)
	}
}
