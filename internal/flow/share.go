package flow

import (
	"math/bits"
	"unsafe"
)

// shared is what a table knows of a decision that flows of it have in common.
type shared struct {
	hash    uint64
	flows   int32
	at      int32  // where in decisions.all
	touched int64  // when the entries below were told last that they are in use, nanoseconds
	packets uint64 // of hits, not yet told to the tallies
	last    int64  // when a flow was used last, nanoseconds
}

// touchInterval is how often at most a hit is told to the table entries below it, nanoseconds.
const touchInterval = 1e9

// use keeps what the decision leans on from ageing.
func (d *Decision) use(now int64) {
	d.last = now
	if now-d.touched >= touchInterval {
		d.touched = now
		d.Touch(now)
	}
}

// settle tells the tallies of the packets since the last time.
func (d *Decision) settle() {
	if d.packets == 0 {
		return
	}
	for _, t := range d.Tallies {
		if t != nil {
			t.Add(d.packets, d.last)
		}
	}
	d.packets = 0
}

// decisions are those of a table's flows, each once. So 100,000 connections of a container are as many small records and one decision, which
// stays in the processor's cache.
type decisions struct {
	by  map[uint64]*Decision // by hash; of two with the same one is not found, and thus not shared
	all []*Decision          // behind the first n: to be used again
	n   int
}

// share returns a decision equal to d that lives as long as its flows. The caller adds one.
func (s *decisions) share(d *Decision, now int64) *Decision {
	hash := d.digest()
	same := s.by[hash]
	if same != nil && same.equal(d) {
		same.flows++
		same.last = now
		return same
	}
	if s.n == len(s.all) {
		s.all = append(s.all, new(Decision))
	}
	own := s.all[s.n]
	*own = *d
	own.shared = shared{hash: hash, flows: 1, at: int32(s.n), touched: now, last: now}
	s.n++
	if same == nil {
		s.by[hash] = own
	}
	return own
}

// release takes one flow from d, and its last one ends it.
func (s *decisions) release(d *Decision) {
	if d.flows--; d.flows > 0 {
		return
	}
	d.settle()
	if s.by[d.hash] == d {
		delete(s.by, d.hash)
	}
	s.n--
	last, at := s.all[s.n], d.at
	s.all[at], s.all[s.n], last.at = last, d, at
	*d = Decision{}
}

// settleAtOnce is how many decisions are settled in one go, for which frames wait.
const settleAtOnce = 4096

// settle settles the last of those before at, and returns before which to go on. From the end, since the place of one that ends
// meanwhile goes to the last one, which is settled then.
func (s *decisions) settle(at int) int {
	at = min(at, s.n)
	from := max(at-settleAtOnce, 0)
	for _, d := range s.all[from:at] {
		d.settle()
	}
	return from
}

// equal tells whether two decisions are the same.
func (d *Decision) equal(o *Decision) bool {
	if d.Slow != o.Slow || d.MaxL3 != o.MaxL3 || d.Drop != o.Drop || d.Taken != o.Taken || d.L2 != o.L2 || d.NActions != o.NActions ||
		d.NRefs != o.NRefs || d.Gens != o.Gens || d.Tallies != o.Tallies || d.Rewrite != o.Rewrite {
		return false
	}
	for i := range d.Refs[:d.NRefs] {
		if d.Refs[i] != o.Refs[i] {
			return false
		}
	}
	for i := range d.Actions[:d.NActions] {
		if d.Actions[i] != o.Actions[i] {
			return false
		}
	}
	return true
}

// digest mixes what tells decisions apart most: the entries they lean on, ways out and translation. A sender can't choose any of the values
// but addresses, and equal digests do no harm.
func (d *Decision) digest() uint64 {
	h := uint64(d.NActions)<<8 | uint64(d.Drop)
	mix := func(a, b uint64) {
		hi, lo := bits.Mul64(h^a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
		h = hi ^ lo
	}
	for i := range d.Gens {
		mix(d.Gens[i].Value, uint64(i))
	}
	for i := range d.Refs[:d.NRefs] {
		mix(uint64(uintptr(unsafe.Pointer(d.Refs[i].Cell))), d.Refs[i].Version)
	}
	for i := range d.Actions[:d.NActions] {
		a := &d.Actions[i]
		mix(uint64(a.Op)<<48|uint64(a.VLAN)<<32|uint64(a.Port), uint64(uintptr(unsafe.Pointer(a.Hop))))
	}
	for _, addr := range [][16]byte{d.Rewrite.Src, d.Rewrite.Dst} {
		w := (*[2]uint64)(unsafe.Pointer(&addr))
		mix(w[0], w[1])
	}
	return h
}
