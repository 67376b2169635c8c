package flow

import "vswitch/internal/packet"

// Table is a worker's exact-match cache.
//
//	maps     packet.Key -> Flow; a decision about L2 alone is under the key's L2 part, once for all flows between two MACs
//	writes   its worker, in Insert; and reads, in Lookup. Nobody else touches it: it has no lock
//	limit    Max flows; when it is full the next flow behind the new one's bucket goes; when there is no place near the bucket,
//	         the one there that was unused longest
//	ageing   flows that are stale or idle for longer than an hour are dropped when the table would grow; stale ones are replaced when
//	         met
//	memory   buckets of 16 bytes, doubled from 1024 on as they fill to one half; flows in chunks of 256 that never move
type Table struct {
	buckets []bucket
	mask    uint64
	chunks  []*[chunkSize]Flow
	free    []uint32 // indices of flows given back
	used    uint32   // flows taken from chunks so far
	live    int
	max     int
}

// MaxFlows is the default limit of a worker's table.
const MaxFlows = 262144

const (
	chunkSize  = 256
	minBuckets = 1024
	maxProbe   = 16
)

type bucket struct {
	hash uint64
	flow uint32 // index + 1; 0 is empty
}

// Flow is a cached decision with its counters.
type Flow struct {
	Key      packet.Key // of L2 alone when the Verdict is
	Packets  uint64     // super-frames count as their segments
	Bytes    uint64
	LastUsed int64 // when the worker last used it, nanoseconds
	touched  int64
	told     uint64 // of Packets, to the tallies
	hash     uint64
	Verdict
}

// Covers tells whether the decision is about frames with that key.
func (f *Flow) Covers(k *packet.Key) bool {
	if f.L2 {
		return k.SameL2(&f.Key)
	}
	return f.Key == *k
}

// touchInterval is how often at most a hit is told to the table entries below it, nanoseconds.
const touchInterval = 1e9

// NewTable makes a table for at most limit flows; it is positive.
func NewTable(limit int) *Table {
	return &Table{buckets: make([]bucket, minBuckets), mask: minBuckets - 1, max: limit}
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

// find returns the flow stored under that key, or nil. An empty bucket does not end the search, since flows are removed at
// any place: a miss costs maxProbe looks. It is about to cost a decision anyway, or it is that of an L2 key, which is shared by many
// frames, so that the looks are at warm memory.
func (t *Table) find(k *packet.Key, hash uint64) *Flow {
	for i := range uint64(maxProbe) {
		b := &t.buckets[(hash+i)&t.mask]
		if b.hash == hash && b.flow != 0 {
			if f := t.at(b.flow - 1); f.Key == *k {
				return f
			}
		}
	}
	return nil
}

// Hit counts n packets of the given bytes and keeps what the flow leans on from ageing.
func (f *Flow) Hit(now int64, packets, bytes int) {
	f.Packets += uint64(packets)
	f.Bytes += uint64(bytes)
	f.LastUsed = now
	if now-f.touched >= touchInterval {
		f.touched = now
		f.Touch(now)
	}
}

// Insert caches v for k, or for what it shares with others when v is about L2 alone, and returns the flow, replacing what was
// there.
func (t *Table) Insert(key *packet.Key, v *Verdict, now int64) *Flow {
	k := *key
	if v.L2 {
		k = key.L2()
	}
	hash := k.Hash()
	if f := t.find(&k, hash); f != nil {
		f.settle()
		f.Verdict = *v
		f.LastUsed, f.touched = now, now
		return f
	}
	if t.live*2 >= len(t.buckets) && len(t.buckets) < 2*t.max {
		t.grow(now)
	}
	b := t.place(hash)
	i := t.take()
	*b = bucket{hash, i + 1}
	f := t.at(i)
	*f = Flow{Key: k, Verdict: *v, LastUsed: now, touched: now, hash: hash}
	return f
}

// place finds a bucket for the hash: an empty one near it, else that of the flow unused longest there. When the table is at
// its limit, the next flow behind goes first.
func (t *Table) place(hash uint64) *bucket {
	if t.live >= t.max {
		t.evictFrom(hash)
	}
	var victim *bucket
	var oldest int64
	for i := range uint64(maxProbe) {
		b := &t.buckets[(hash+i)&t.mask]
		if b.flow == 0 {
			return b
		}
		if f := t.at(b.flow - 1); victim == nil || f.LastUsed < oldest {
			victim, oldest = b, f.LastUsed
		}
	}
	t.give(victim.flow - 1)
	return victim
}

func (t *Table) evictFrom(hash uint64) {
	for i := hash; ; i++ {
		if b := &t.buckets[i&t.mask]; b.flow != 0 {
			t.give(b.flow - 1)
			*b = bucket{}
			return
		}
	}
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
	t.at(i).settle()
	*t.at(i) = Flow{}
	t.free = append(t.free, i)
	t.live--
}

const maxIdle = 3600e9

// grow doubles the buckets, unless there is room enough without the flows that are invalid or idle: a flood of addresses that
// come and go costs no memory.
func (t *Table) grow(now int64) {
	t.weed(now)
	if 4*t.live < len(t.buckets) {
		return
	}
	old := t.buckets
	t.buckets = make([]bucket, 2*len(old))
	t.mask = uint64(len(t.buckets) - 1)
	for _, b := range old {
		if b.flow != 0 {
			*t.place(b.hash) = b
		}
	}
}

// weed drops the flows that are invalid or idle.
func (t *Table) weed(now int64) {
	for i := range t.buckets {
		b := &t.buckets[i]
		if b.flow == 0 {
			continue
		}
		if f := t.at(b.flow - 1); !f.Valid() || now-f.LastUsed > maxIdle {
			t.give(b.flow - 1)
			*b = bucket{}
		}
	}
}

// All calls yield for each flow until it returns false.
func (t *Table) All(yield func(*Flow) bool) {
	for _, b := range t.buckets {
		if b.flow != 0 && !yield(t.at(b.flow-1)) {
			return
		}
	}
}

// Flush empties the table and gives its memory back.
func (t *Table) Flush() {
	for f := range t.All {
		f.settle()
	}
	*t = *NewTable(t.max)
}
