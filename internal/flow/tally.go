package flow

import "sync/atomic"

// Tally counts the packets that something decided about, such as a rule: those of frames that were decided one by one, and those of
// cached flows, which are told when the flow ends or somebody asks (Table.Settle). So a hit costs no more than without.
type Tally struct {
	packets atomic.Uint64
	last    atomic.Int64
}

// Add counts n packets, the last at now in nanoseconds.
func (t *Tally) Add(n uint64, now int64) {
	t.packets.Add(n)
	t.last.Store(max(now, t.last.Load()))
}

// Packets returns how many packets were counted.
func (t *Tally) Packets() uint64 { return t.packets.Load() }

// Last returns when the last was, nanoseconds; 0: there was none.
func (t *Tally) Last() int64 { return t.last.Load() }

// First counts the frame that the decision was made about. Who decided has told the tallies.
func (f *Flow) First(packets, bytes int) {
	f.Packets += uint64(packets)
	f.Bytes += uint64(bytes)
	f.told += uint64(packets)
}

// settle tells the tallies of the packets since the last time.
func (f *Flow) settle() {
	n := f.Packets - f.told
	if n == 0 {
		return
	}
	f.told = f.Packets
	for _, t := range f.Tallies {
		if t != nil {
			t.Add(n, f.LastUsed)
		}
	}
}

// settleAtOnce is how many buckets are looked at in one go.
const settleAtOnce = 4096

// Settle tells the tallies of flows what these have counted, for some buckets from the one at on. It returns where to go on, 0 when there are no
// more.
func (t *Table) Settle(at int) int {
	end := min(at+settleAtOnce, len(t.buckets))
	for ; at < end; at++ {
		if b := t.buckets[at]; b.flow != 0 {
			t.at(b.flow - 1).settle()
		}
	}
	if at >= len(t.buckets) {
		return 0
	}
	return at
}
