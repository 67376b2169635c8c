package datapath

import (
	"fmt"
	"slices"
	"sync/atomic"

	"vswitch/internal/packet"
)

// handover is how frames reach a port that only its own worker writes to: a port.Serial, or one whose receiver is slow. Each
// of the other workers has a ring of its own to that worker, so it waits for nobody, keeps the order of its frames, and cannot
// use up the room of others. A worker that finds frames in a ring writes them in its turn; one about to sleep says so, and is
// woken by who pushes next, at the end of that one's turn.
type handover struct {
	owner    *Worker
	rings    []*ring     // by pushing worker; the owner's own is nil
	draining atomic.Bool // from now on a worker whose ring is empty writes by itself
	first    int         // the ring that is served first in the next turn; the owner's own
}

// Flags of a slot; zero for ports whose frames are simply written.
const (
	slotHandover uint32 = 1 << iota // slot.handover is set
	slotSuspect                     // a write took long: the next ones are timed
	slotSlow                        // writes take long: it is served by a worker for such ports, and each write is timed
)

// newHandover makes the rings to the owner, of all other workers.
func (d *Datapath) newHandover(owner *Worker) (*handover, error) {
	h := &handover{owner: owner, rings: make([]*ring, len(d.workers))}
	for i, w := range d.workers {
		if w == owner {
			continue
		}
		var err error
		if h.rings[i], err = newRing(); err != nil {
			h.close()
			return nil, fmt.Errorf("queue from worker %d to %d: %w", i, owner.id, err)
		}
	}
	return h, nil
}

// close frees the rings. No worker uses them any more.
func (h *handover) close() {
	for _, r := range h.rings {
		r.close()
	}
}

// empty tells whether nothing waits to be written.
func (h *handover) empty() bool {
	for _, r := range h.rings {
		if r != nil && !r.empty() {
			return false
		}
	}
	return true
}

// begin makes the owner serve the rings from its next turn on, and the others push to them.
func (h *handover) begin(s *slot) {
	s.handover.Store(h)
	h.owner.call(func() { h.owner.serial = append(h.owner.serial, s) })
	s.flags.Or(slotHandover)
}

// end makes the owner serve the rings no more. Who pushes to them still has to be waited for.
func (h *handover) end(s *slot) {
	w := h.owner
	w.call(func() { w.serial = slices.DeleteFunc(w.serial, func(o *slot) bool { return o == s }) })
}

// abandon counts what is left in the rings as lost: the port is no more.
func (h *handover) abandon(s *slot) {
	for i, r := range h.rings {
		for r != nil && !r.empty() {
			s.counters[i].Drops[packet.DropEgressGone] += uint64(r.front().Segs)
			r.pop()
		}
	}
}

// handOver takes a frame for a port that has flags, if this worker may not write it; else it sees to the write being timed.
func (w *Worker) handOver(s *slot, f *packet.Frame) bool {
	h := s.handover.Load()
	if h == nil || h.owner == w || h.draining.Load() && h.rings[w.id].empty() {
		if s.flags.Load()&(slotSuspect|slotSlow) != 0 {
			w.sampler.left = 0
		}
		return false
	}
	if !h.rings[w.id].push(f) {
		w.drop(s, packet.DropQueueFull, f.Segs)
	} else if !slices.Contains(w.wake, h.owner) {
		w.wake = append(w.wake, h.owner)
	}
	return true
}

// wakeOwners wakes the workers to whom this turn handed frames over.
func (w *Worker) wakeOwners() {
	for _, owner := range w.wake {
		if owner.asleep.Swap(false) {
			owner.mail.wake()
		}
	}
	w.wake = w.wake[:0]
}

// serveRings writes what others handed over for the ports that only this worker writes to, each within a turn's budget.
func (w *Worker) serveRings() {
	if len(w.serial) == 0 {
		return
	}
	w.asleep.Store(false)
	for _, s := range w.serial {
		h := s.handover.Load()
		n, bytes := 0, 0
		w.sampler.spent = 0
		for idle := 0; idle < len(h.rings) && n < budgetFrames && bytes < budgetBytes && w.sampler.spent < budgetTime; {
			r := h.rings[h.first]
			h.first = (h.first + 1) % len(h.rings)
			if r == nil || r.empty() {
				idle++
				continue
			}
			f := r.front()
			idle = 0
			n++
			bytes += f.Len()
			w.write(s, f)
			r.pop()
		}
	}
}

// await is wait, but returns at once when the turn before left work.
func (w *Worker) await() (int, error) {
	if w.floods.empty() && !w.handedOver() {
		return w.wait()
	}
	n, err := w.epollWait(0)
	w.now = w.dp.Now()
	return n, err
}

// handedOver tells whether frames wait in a ring. When none do, whoever pushes one from now on wakes this worker.
func (w *Worker) handedOver() bool {
	if len(w.serial) == 0 {
		return false
	}
	w.asleep.Store(true)
	for _, s := range w.serial {
		if !s.handover.Load().empty() {
			w.asleep.Store(false)
			return true
		}
	}
	return false
}
