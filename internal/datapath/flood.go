package datapath

import (
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// floodSlice is how many members of flood sets larger than that a turn serves. What is left of a flood waits as a clone for the
// next turns:
//
//   - A port whose flood waits is not read, so its frames keep their order towards each receiver, and it has one flood waiting.
//   - Floods are finished in the order they began: those of several ports take turns.
//
// So floods delay other ports' frames by twice floodSlice writes at most, the first slice of one and the next of another, however
// large the networks and however many flood. Floods to smaller sets are written at once, and count as their copies.
const floodSlice = 64

// spread is a flood under way.
type spread struct {
	set    *flow.FloodSet
	in     packet.PortID
	tag    flow.TagOp // what the frame looks like now: members that want it so are served
	next   int        // the next member
	second bool       // the frame was changed for those that want it otherwise
	others bool       // there are such members
	sent   bool       // somebody was a receiver
}

// backlog is a worker's queue of floods under way, with their frames.
type backlog struct {
	*ring
	spreads [ringFrames]spread // by entry of the ring
}

func (b *backlog) push(p *spread, f *packet.Frame) bool {
	i := b.tail.Load() % ringFrames
	if !b.ring.push(f) {
		return false
	}
	b.spreads[i] = *p
	return true
}

func (b *backlog) front() (*spread, *packet.Frame) {
	return &b.spreads[b.head.Load()%ringFrames], b.ring.front()
}

// flood writes the frame to every member of the set but the ingress: first to those who want it as it is, tagged or not, then,
// changed once, to the others. Floods bypass the coalescer, after what is open from the same sender.
func (w *Worker) flood(set *flow.FloodSet, in *slot, f *packet.Frame) {
	w.co.flushSender(f)
	p := spread{set: set, in: in.id, tag: flow.Untagged}
	if f.Key.VLAN != 0 {
		p.tag = flow.Tagged
	}
	now := in.floods.Load() == 0 && (len(set.Members) <= floodSlice || w.floods.empty())
	if now && w.spread(&p, f, floodSlice) {
		w.spreadDone(&p, in, f)
		return
	}
	if !w.floods.push(&p, f) {
		w.drop(in, packet.DropQueueFull, f.Segs)
		return
	}
	in.floods.Add(1)
	w.copies += budgetFrames // ends the port's service
}

// spread goes on with a flood for at most n members and tells whether it is finished.
func (w *Worker) spread(p *spread, f *packet.Frame, n int) bool {
	for {
		for ; p.next < len(p.set.Members); p.next++ {
			if n == 0 {
				return false
			}
			n--
			w.copies++
			w.spreadTo(p, &p.set.Members[p.next], f)
		}
		if !p.others {
			return true
		}
		p.next, p.others, p.second = 0, false, true
		if p.tag == flow.Untagged {
			f.PushVLAN(p.set.VLAN)
			p.tag = flow.Tagged
		} else {
			f.PopVLAN()
			p.tag = flow.Untagged
		}
	}
}

func (w *Worker) spreadTo(p *spread, m *flow.FloodMember, f *packet.Frame) {
	if m.Port == p.in {
		return
	}
	if m.Tag != p.tag {
		p.others = !p.second
		return
	}
	s := w.dp.lookup(m.Port)
	if s == nil {
		return // its removal is under way: it never was a receiver of this frame
	}
	p.sent = true
	if f.L3Size > int(s.mtu.Load()) {
		w.drop(s, packet.DropOverMTU, f.Segs)
		return
	}
	w.write(s, f)
}

func (w *Worker) spreadDone(p *spread, in *slot, f *packet.Frame) {
	if !p.sent {
		w.drop(in, packet.DropNoReceiver, f.Segs)
	}
}

// continueFloods is the turn's share of floods that were begun in earlier ones.
func (w *Worker) continueFloods() {
	for end := w.copies + floodSlice; !w.floods.empty() && w.copies < end; {
		p, f := w.floods.front()
		if !w.spread(p, f, end-w.copies) {
			return
		}
		if in := w.dp.lookup(p.in); in != nil {
			w.spreadDone(p, in, f)
			in.floods.Add(-1)
		}
		p.set = nil
		w.floods.pop()
	}
}
