package datapath

import (
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// carryOut executes the fresh decision about the frame, and does what else it left to do.
func (w *Worker) carryOut(in *slot, f *packet.Frame) {
	made := w.verdict.Made
	w.execute(&w.verdict.Decision, &w.verdict.Conn, in, f)
	w.made(made)
}

// made does what decisions left to do. The frame they were about has been executed: the hot buffer is free.
func (w *Worker) made(m *flow.Made) {
	for ; m != nil; m = m.Next {
		switch {
		case m.Frame == nil:
			w.writeMade(m)
		case m.Drop != packet.DropNone:
			if s := w.dp.lookup(m.Frame.Key.InPort); s != nil {
				w.drop(s, m.Drop, m.Frame.Segs)
			}
		default:
			w.resume(m.Frame)
		}
	}
}

// writeMade writes a frame of the switch's own.
func (w *Worker) writeMade(m *flow.Made) {
	w.hot.Reset()
	w.hot.Load(nil, m.Bytes)
	w.hot.Key = packet.Key{}
	if w.hot.Parse() != packet.DropNone {
		return // it was never received, so it is not lost
	}
	if m.Port == 0 {
		w.floodMade(m.Set, w.hot)
		return
	}
	if s := w.dp.lookup(m.Port); s != nil {
		w.co.flushPair(s, w.hot)
		w.write(s, w.hot)
	}
}

// floodMade is flood for a frame that no port sent.
func (w *Worker) floodMade(set *flow.FloodSet, f *packet.Frame) {
	w.co.flushSender(f)
	p := spread{set: set, tag: flow.Untagged}
	if now := len(set.Members) <= floodSlice || w.floods.empty(); now && w.spread(&p, f, floodSlice) {
		return
	}
	w.floods.push(&p, f) // when it is full, so are the receivers: who asked asks again
}

// resume goes on with a frame that waited: it was counted when it came in.
func (w *Worker) resume(f *packet.Frame) {
	in := w.dp.lookup(f.Key.InPort)
	if in == nil {
		return // its port is no more, and neither are its counters
	}
	f.CopyInto(w.hot)
	w.decide(w.hot)
	w.carryOut(in, w.hot)
}

// Do lets a worker do what a decision left to do. It returns at once.
func (d *Datapath) Do(m *flow.Made) {
	if m == nil {
		return
	}
	w := d.workers[0]
	w.post(func() {
		w.now = d.Now()
		w.made(m)
		w.co.flushAll()
		w.flushPorts()
	})
}
