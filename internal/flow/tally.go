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
