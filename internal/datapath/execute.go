package datapath

import (
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// execute does what the decision says with a parsed frame of the connection: one executor for cached and fresh decisions. The frame may be
// changed, and its buffer kept by the coalescer (then w.hot is another).
func (w *Worker) execute(d *flow.Decision, c *flow.Conn, in *slot, f *packet.Frame) {
	n := int(d.NActions)
	if n == 0 {
		r := d.Drop
		if r == packet.DropNone && d.Taken {
			return
		}
		if r == packet.DropNone {
			r = packet.DropInternal
		}
		w.drop(in, r, f.Segs)
		w.dead++
		return
	}
	for i := range d.Actions[:n] {
		a := &d.Actions[i]
		switch a.Op {
		case flow.OpOutput:
			w.output(a.Port, in, f, i == n-1)
		case flow.OpFlood:
			w.flood(a.Set, in, f)
		case flow.OpPushVLAN:
			f.PushVLAN(a.VLAN)
		case flow.OpPopVLAN:
			f.PopVLAN()
		case flow.OpSetVLAN:
			f.SetVLAN(a.VLAN)
		case flow.OpRewrite:
			r := d.Translation(c)
			f.Rewrite(&r)
		case flow.OpRoute:
			f.Route(&a.Hop.Dst, &a.Hop.Src)
		case flow.OpMeter:
			if !a.Meter.Take(w.now, f.Segs) {
				w.drop(in, a.Meter.Kind.Reason(), f.Segs)
				w.dead++
				w.copies += budgetFrames // ends the port's service: a storm waits for others, in a queue of its own
				return
			}
		}
	}
}

// drop counts a frame that ends here, on the port it is to be blamed on.
func (w *Worker) drop(s *slot, r packet.DropReason, packets int) {
	s.counters[w.id].Drops[r] += uint64(packets)
}

// output sends the frame out of one port. Nothing follows it when last is true, so that the coalescer may keep its buffer.
func (w *Worker) output(id packet.PortID, in *slot, f *packet.Frame, last bool) {
	s := w.dp.lookup(id)
	switch {
	case s == nil:
		w.drop(in, packet.DropEgressGone, f.Segs)
	case f.L3Size > int(s.mtu.Load()):
		w.drop(in, packet.DropOverMTU, f.Segs)
	case w.co.on && last:
		w.co.output(s, f)
	default:
		w.co.flushPair(s, f)
		w.write(s, f)
	}
}

// write hands the frame to the port, finished as far as the port's device does not finish it itself, or to the worker that
// alone may write to it.
func (w *Worker) write(s *slot, f *packet.Frame) {
	if s.flags.Load() != 0 && w.handOver(s, f) {
		return
	}
	if f.Vnet().NeedsCsum() || f.Flags&packet.FlagGSO != 0 {
		if need := needs(f); need&^s.offload != 0 {
			w.writeFinished(s, f)
			return
		}
	}
	w.put(s, f)
}

// needs returns what the device has to do with the frame.
func needs(f *packet.Frame) port.Offload {
	switch f.Vnet().GSOType() &^ packet.GSOECN {
	case packet.GSOTCPv4:
		return port.OffloadTSO4 | port.OffloadCsum
	case packet.GSOTCPv6:
		return port.OffloadTSO6 | port.OffloadCsum
	case packet.GSOUDPL4:
		return port.OffloadUSO | port.OffloadCsum
	}
	return port.OffloadCsum
}

// writeFinished cuts a super-frame and completes checksums in software, for a device that cannot.
func (w *Worker) writeFinished(s *slot, f *packet.Frame) {
	if f.Flags&packet.FlagGSO == 0 {
		f.CopyInto(w.scratch)
		w.scratch.CompleteChecksum()
		w.put(s, w.scratch)
		return
	}
	partial := s.offload&port.OffloadCsum != 0
	for i := range f.Segs {
		f.Segment(w.scratch, i, partial)
		w.put(s, w.scratch)
	}
}

// put writes and counts.
func (w *Worker) put(s *slot, f *packet.Frame) {
	c := &s.counters[w.id]
	var err error
	if w.sampler.left--; w.sampler.left > 0 {
		err = s.port.Write(f)
	} else {
		err = w.timedWrite(s, f)
	}
	switch err {
	case nil:
		c.TxFrames++
		c.TxPackets += uint64(f.Segs)
		c.TxBytes += uint64(f.WireBytes())
		if n := len(w.dirty); s.flusher != nil && (n == 0 || w.dirty[n-1] != s) {
			w.dirty = append(w.dirty, s)
		}
	case port.ErrFull:
		c.Drops[packet.DropEgressFull] += uint64(f.Segs)
	case port.ErrDown:
		c.Drops[packet.DropEgressDown] += uint64(f.Segs)
	case port.ErrGone:
		c.Drops[packet.DropEgressGone] += uint64(f.Segs)
	default:
		c.Drops[packet.DropEgressRefused] += uint64(f.Segs)
	}
}

// flushPorts ends the turn for ports that batch their writes, and for workers to whom frames were handed over.
func (w *Worker) flushPorts() {
	for i, s := range w.dirty {
		_ = s.flusher.Flush() // what it could not send, the port counts itself
		w.dirty[i] = nil
	}
	w.dirty = w.dirty[:0]
	if len(w.wake) > 0 {
		w.wakeOwners()
	}
}
