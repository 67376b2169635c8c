package flow

import (
	"encoding/binary"
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

// all calls yield for each flow of the group until it returns false, and tells whether it never did.
func (g *group) all(t *Table, yield func(*Flow) bool) bool {
	for p, i := range g.places {
		if g.tags[p] != 0 && !yield(t.at(i)) {
			return false
		}
	}
	return true
}
