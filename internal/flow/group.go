package flow

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// group is a line of the processor's cache: places for flows, each with a byte of its hash, so that other flows are seldom looked at.
type group struct {
	tags   [16]uint8 // of a place; 0 is an empty one. The last byte counts the flows that passed by, this group being full
	places [places]uint32
}

const (
	places = 12
	passed = 15
	probes = 4 // how many groups a flow may be in, from its home on
	word   = 8 // tags that are looked at together
)

func tagOf(hash uint64) uint8 { return uint8(hash>>56) | 0x80 }

// match returns the high bit of each of the tags from the one at on that is the given one; and perhaps, right behind such a one, of one that
// differs in the lowest bit.
func (g *group) match(at int, tag uint8) uint64 {
	const ones = 0x0101010101010101
	w := binary.LittleEndian.Uint64(g.tags[at:]) ^ uint64(tag)*ones
	return (w - ones) &^ w & (ones << 7)
}

// free returns an empty place, or -1.
func (g *group) free() int {
	for at := 0; at < places; at += word {
		if m := g.match(at, 0); m != 0 {
			if p := at + bits.TrailingZeros64(m)/8; p < places {
				return p
			}
		}
	}
	return -1
}

// place enters flow i near the home of its hash: at an empty place, else at that of the flow unused longest there.
func (t *Table) place(hash uint64, i uint32) {
	if t.placeEmpty(hash, i) {
		return
	}
	home := hash & t.mask
	victim, at, oldest := home, 0, int64(math.MaxInt64)
	for n := range uint64(probes) {
		j := (home + n) & t.mask
		for p, i := range t.groups[j].places {
			if used := t.at(i).LastUsed; used < oldest {
				victim, at, oldest = j, p, used
			}
		}
	}
	t.remove(victim, at)
	t.placeEmpty(hash, i)
}

func (t *Table) placeEmpty(hash uint64, i uint32) bool {
	home := hash & t.mask
	for n := range uint64(probes) {
		g := &t.groups[(home+n)&t.mask]
		p := g.free()
		if p < 0 {
			continue
		}
		g.tags[p], g.places[p] = tagOf(hash), i
		t.pass(home, n, 1)
		return true
	}
	return false
}

// pass counts a flow that is, or is no more, n groups behind its home.
func (t *Table) pass(home, n uint64, by uint8) {
	for i := range n {
		t.groups[(home+i)&t.mask].tags[passed] += by
	}
}

// remove takes the flow at place p of group j out.
func (t *Table) remove(j uint64, p int) {
	g := &t.groups[j]
	i := g.places[p]
	g.tags[p] = 0
	home := t.at(i).Key.Hash() & t.mask
	t.pass(home, (j-home)&t.mask, ^uint8(0))
	t.give(i)
}

// drop takes flow i out.
func (t *Table) drop(i uint32) {
	for j := t.at(i).Key.Hash() & t.mask; ; j = (j + 1) & t.mask {
		for p, at := range t.groups[j].places {
			if at == i && t.groups[j].tags[p] != 0 {
				t.remove(j, p)
				return
			}
		}
	}
}

// evictFrom removes the next flow from the home of the hash on.
func (t *Table) evictFrom(hash uint64) {
	for j := hash & t.mask; ; j = (j + 1) & t.mask {
		for p := range places {
			if t.groups[j].tags[p] != 0 {
				t.remove(j, p)
				return
			}
		}
	}
}

// How long flows are kept unused, nanoseconds.
const (
	maxIdle     = 3600e9 // when the table would grow
	maxIdleFull = 10e9   // when it is full: one that comes again is decided anew, which takes a microsecond or two
)

// grow doubles the groups, unless there is room enough without the flows that are invalid or idle: a flood of addresses that
// come and go costs no memory.
func (t *Table) grow(now int64) {
	t.weed(now)
	if 2*t.live < fill*len(t.groups) {
		return
	}
	old := t.groups
	t.groups = make([]group, 2*len(old))
	t.mask = uint64(len(t.groups) - 1)
	for j := range old {
		for p, i := range old[j].places {
			if old[j].tags[p] != 0 {
				t.place(t.at(i).Key.Hash(), i)
			}
		}
	}
}

// weed drops the flows that are invalid or idle.
func (t *Table) weed(now int64) {
	for j := range t.groups {
		for p, i := range t.groups[j].places {
			if t.groups[j].tags[p] == 0 {
				continue
			}
			if f := t.at(i); !f.Valid() || now-f.LastUsed > maxIdle {
				t.remove(uint64(j), p)
			}
		}
	}
}
