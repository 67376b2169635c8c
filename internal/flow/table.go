package flow

import (
	"math"
	"math/bits"

	"vswitch/internal/packet"
)

// Table is a worker's exact-match cache.
//
//	maps     packet.Key -> Flow; a decision about L2 alone is under the key's L2 part, once for all flows between two MACs
//	writes   its worker, in Insert; and reads, in Lookup. Nobody else touches it: it has no lock
//	limit    Max flows; when it is full and MakeRoom finds none, the next flow behind the new one's home goes; when there is no place near it,
//	         the one there that was unused longest
//	ageing   flows that are stale or idle for longer than an hour are dropped when the table would grow, those idle for ten seconds when it is
//	         full, by MakeRoom; stale ones are replaced when met
//	memory   groups of 64 bytes for 12 flows, doubled from 64 on as they fill to two thirds; flows of 128 bytes in chunks of 256 that
//	         never move; decisions of 512 bytes, those that are equal once
//	cache    a hit looks at four lines: a group, a flow, which is a pair of lines, and the cell of its connection; and at its decision, which
//	         others have too
type Table struct {
	groups    []group
	mask      uint64
	chunks    []*[chunkSize]Flow
	free      []uint32 // indices of flows given back
	used      uint32   // flows taken from chunks so far
	live      int
	max       int
	hand      uint32 // the flow that MakeRoom looked at last
	pause     uint32 // calls until it looks again
	decisions decisions
}

// MaxFlows is the default limit of a worker's table.
const MaxFlows = 262144

const (
	chunkSize = 256
	minGroups = 64
	fill      = 8 // flows of a group, on average, at which a table grows
)

// Flow is a cached decision with its counters.
type Flow struct {
	Key       packet.Key // of L2 alone when the decision is
	Packets   uint64     // super-frames count as their segments
	Bytes     uint64
	LastUsed  int64 // when the worker last used it, nanoseconds
	Conn      Conn
	*Decision // also of other flows
}

// Covers tells whether the decision is about frames with that key.
func (f *Flow) Covers(k *packet.Key) bool {
	if f.L2 {
		return k.SameL2(&f.Key)
	}
	return f.Key == *k
}

// Valid tells whether all that the flow leans on is as it was.
func (f *Flow) Valid() bool { return f.Decision.Valid() && f.Conn.Valid() }

// NewTable makes a table for at most limit flows; it is positive.
func NewTable(limit int) *Table {
	return &Table{groups: make([]group, minGroups), mask: minGroups - 1, max: limit, decisions: decisions{by: map[uint64]*Decision{}}}
}

// Len returns the number of flows in the table.
func (t *Table) Len() int { return t.live }

func (t *Table) at(i uint32) *Flow { return &t.chunks[i/chunkSize][i%chunkSize] }

// Lookup returns a valid flow that covers the key, or nil and whether there was one that is not valid any more.
func (t *Table) Lookup(k *packet.Key) (f *Flow, stale bool) {
	l2 := k.L2()
	if f = t.find(&l2, l2.Hash()); f != nil && f.L2 {
		if f.Valid() {
			return f, false
		}
		stale = true
	}
	if f = t.find(k, k.Hash()); f != nil && !f.L2 {
		if f.Valid() {
			return f, false
		}
		stale = true
	}
	return nil, stale
}

// find returns the flow stored under that key, or nil.
func (t *Table) find(k *packet.Key, hash uint64) *Flow {
	tag := tagOf(hash)
	for i := range uint64(probes) {
		g := &t.groups[(hash+i)&t.mask]
		for at := 0; at < places; at += word {
			for m := g.match(at, tag); m != 0; m &= m - 1 {
				if f := t.at(g.places[at+bits.TrailingZeros64(m)/8]); f.Key == *k {
					return f
				}
			}
		}
		if g.tags[passed] == 0 {
			return nil
		}
	}
	return nil
}

// Hit counts packets of so many bytes in all.
func (f *Flow) Hit(now int64, packets, bytes int) {
	f.Packets += uint64(packets)
	f.Bytes += uint64(bytes)
	f.packets += uint64(packets)
	if f.LastUsed != now { // the clock is read once a turn
		f.use(now)
	}
}

// use keeps what the flow leans on from ageing.
func (f *Flow) use(now int64) {
	if now/touchInterval != f.LastUsed/touchInterval && f.Conn.Cell != nil {
		f.Conn.Cell.Touch(now)
	}
	f.LastUsed = now
	f.Decision.use(now)
}

// First counts the frame that the decision was made about. Who decided has told the tallies.
func (f *Flow) First(packets, bytes int) {
	f.Packets += uint64(packets)
	f.Bytes += uint64(bytes)
}

// Insert caches v for k, or for what it shares with others when v is about L2 alone, and returns the flow, replacing what was
// there.
func (t *Table) Insert(key *packet.Key, v *Verdict, now int64) *Flow {
	k := *key
	if v.L2 {
		k = key.L2()
	}
	hash := k.Hash()
	d := t.decisions.share(&v.Decision, now)
	if f := t.find(&k, hash); f != nil {
		t.decisions.release(f.Decision)
		f.Decision, f.Conn, f.LastUsed = d, v.Conn, now
		return f
	}
	if t.live >= fill*len(t.groups) && fill*len(t.groups) < t.max {
		t.grow(now)
	}
	if t.live >= t.max {
		t.evictFrom(hash)
	}
	i := t.take()
	t.place(hash, i)
	f := t.at(i)
	*f = Flow{Key: k, Decision: d, Conn: v.Conn, LastUsed: now}
	return f
}

// MakeRoom tells whether there is room for another flow. A full table looks at some of its flows, others each time, and drops those that are idle:
// what came and went would keep those out that come now. When none are, it looks no more for a while. Memory is read in order and much of it at once:
// one at a time, each look would wait for memory that no cache holds.
func (t *Table) MakeRoom(now int64) bool {
	const looks, drops, pause = 64, 16, 32 // 8 KiB; 5 us
	if t.live < t.max {
		return true
	}
	if t.pause > 0 {
		t.pause--
		return false
	}
	for i := 0; i < looks && t.live > t.max-drops; i++ {
		if t.hand++; t.hand >= t.used {
			t.hand = 0
		}
		if f := t.at(t.hand); f.Decision != &none && now-f.LastUsed > maxIdleFull {
			t.drop(t.hand)
		}
	}
	if t.live < t.max {
		return true
	}
	t.pause = pause
	return false
}

func (t *Table) take() uint32 {
	t.live++
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	if int(t.used) == len(t.chunks)*chunkSize {
		t.chunks = append(t.chunks, new([chunkSize]Flow))
	}
	t.used++
	return t.used - 1
}

func (t *Table) give(i uint32) {
	f := t.at(i)
	t.decisions.release(f.Decision)
	*f = Flow{Decision: &none}
	t.free = append(t.free, i)
	t.live--
}

// none is the decision of a flow that was given back, which a worker may have as its last one.
var none Decision

// All calls yield for each flow until it returns false.
func (t *Table) All(yield func(*Flow) bool) {
	for j := range t.groups {
		for p, i := range t.groups[j].places {
			if t.groups[j].tags[p] != 0 && !yield(t.at(i)) {
				return
			}
		}
	}
}

// Copy returns copies of the flows for which keep is true, with copies of their decisions.
func (t *Table) Copy(keep func(*Flow) bool) (all []Flow) {
	decisions := map[*Decision]*Decision{}
	for f := range t.All {
		if !keep(f) {
			continue
		}
		all = append(all, *f)
		d := decisions[f.Decision]
		if d == nil {
			d = new(*f.Decision)
			decisions[f.Decision] = d
		}
		all[len(all)-1].Decision = d
	}
	return all
}

// Settle tells the tallies of decisions what their flows have counted, for some of the decisions: the last ones when left is
// math.MaxInt, else those before the ones of a Settle that returned left. When it returns 0 these were all.
func (t *Table) Settle(left int) int { return t.decisions.settle(left) }

// Flush empties the table and gives its memory back.
func (t *Table) Flush() {
	for left := math.MaxInt; left > 0; {
		left = t.Settle(left)
	}
	*t = *NewTable(t.max)
}
