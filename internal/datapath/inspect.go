package datapath

import (
	"math"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Counters of a port, of one worker or summed. Rx is what came in from the device. Packets and bytes count a super-frame as
// its segments, frames count reads and writes.
type Counters struct {
	RxFrames, RxPackets, RxBytes uint64
	TxFrames, TxPackets, TxBytes uint64
	Drops                        [packet.DropReasons]uint64
	_                            [64]byte // keeps workers off each other's cache lines
}

// Add adds the counts of another.
func (c *Counters) Add(o *Counters) {
	c.RxFrames += o.RxFrames
	c.RxPackets += o.RxPackets
	c.RxBytes += o.RxBytes
	c.TxFrames += o.TxFrames
	c.TxPackets += o.TxPackets
	c.TxBytes += o.TxBytes
	for i := range c.Drops {
		c.Drops[i] += o.Drops[i]
	}
}

func (s *slot) sum() Counters {
	var t Counters
	for i := range s.counters {
		t.Add(&s.counters[i])
	}
	return t
}

// PortCounters returns the counters of each port, as they were at the end of some turn.
func (d *Datapath) PortCounters() map[packet.PortID]Counters {
	var slots []*slot
	for n := range d.Slots() {
		if s := d.slots[n].Load(); s != nil {
			slots = append(slots, s)
		}
	}
	sums := make([]Counters, len(slots))
	for i, w := range d.workers {
		w.call(func() { // no more than the sums: frames wait meanwhile
			for j, s := range slots {
				sums[j].Add(&s.counters[i])
			}
		})
	}
	all := make(map[packet.PortID]Counters, len(slots))
	for j, s := range slots {
		all[s.id] = sums[j]
	}
	return all
}

// Slots returns how many slots of the table were ever used.
func (d *Datapath) Slots() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// WorkerOf returns the number of the worker that reads the port; -1 when there is no such port.
func (d *Datapath) WorkerOf(id packet.PortID) int {
	if s := d.lookup(id); s != nil {
		return s.worker.Load().id
	}
	return -1
}

// PortState is how a port is served.
type PortState struct {
	Worker int   // the number of the worker that reads it; -1 when there is no such port
	Slow   bool  // that is one for slow ports
	Moves  int   // how often the port was moved to one
	Err    error // why it is not read for now
}

// PortState returns how the port is served.
func (d *Datapath) PortState(id packet.PortID) PortState {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.lookup(id)
	if s == nil {
		return PortState{Worker: -1}
	}
	return PortState{Worker: s.worker.Load().id, Slow: s.flags.Load()&slotSlow != 0, Moves: s.moves, Err: s.fault}
}

// WorkerCounters returns each worker's counters, as they were at the end of some turn. Workers for slow ports that have none are
// left out.
func (d *Datapath) WorkerCounters() []WorkerCounters {
	var all []WorkerCounters
	d.mu.Lock()
	ports := make([]int, len(d.workers))
	for i, w := range d.workers {
		ports[i] = w.ports
	}
	d.mu.Unlock()
	for i, w := range d.workers {
		if w.quarantine() && ports[i] == 0 {
			continue
		}
		w.call(func() {
			c := w.stats
			c.ID, c.Ports, c.Quarantine, c.Flows = w.id, ports[i], w.quarantine(), w.table.Len()
			all = append(all, c)
		})
	}
	return all
}

// Flows returns copies of the cached flows for which keep is true, by worker.
func (d *Datapath) Flows(keep func(*flow.Flow) bool) [][]flow.Flow {
	all := make([][]flow.Flow, len(d.workers))
	for i, w := range d.workers {
		w.call(func() { all[i] = w.table.Copy(keep) })
	}
	return all
}

// Settle tells the tallies of cached flows what these have counted, some at a time.
func (d *Datapath) Settle() {
	for _, w := range d.workers {
		for left := math.MaxInt; left > 0; {
			w.call(func() { left = w.table.Settle(left) })
		}
	}
}

// FlushFlows empties the flow tables and returns how many flows they held.
func (d *Datapath) FlushFlows() int {
	n := 0
	for _, w := range d.workers {
		w.call(func() {
			n += w.table.Len()
			w.table.Flush()
			w.last = nil
		})
	}
	return n
}
