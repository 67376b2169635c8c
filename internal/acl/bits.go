package acl

import "math/bits"

// set is a set of rules, by their place in the order: a bitmap of which only the words that are not zero are stored. Words are in
// groups of 64; a group's mask tells which of them there are.
type set struct {
	groups []group
	words  []uint64
}

type group struct {
	mask  uint64 // bit w: word w of the group is stored
	first uint32 // where the group's words begin
}

// newSet packs a plain bitmap.
func newSet(plain []uint64) *set {
	s := &set{groups: make([]group, (len(plain)+63)/64)}
	n := 0
	for _, w := range plain {
		if w != 0 {
			n++
		}
	}
	s.words = make([]uint64, 0, n)
	for i, w := range plain {
		g := &s.groups[i/64]
		if i%64 == 0 {
			g.first = uint32(len(s.words))
		}
		if w != 0 {
			g.mask |= 1 << (i % 64)
			s.words = append(s.words, w)
		}
	}
	return s
}

// word returns word w of group g.
func (s *set) word(g, w int) uint64 {
	p := &s.groups[g]
	bit := uint64(1) << w
	if p.mask&bit == 0 {
		return 0
	}
	return s.words[int(p.first)+bits.OnesCount64(p.mask&(bit-1))]
}

// addTo puts the set's rules into a plain bitmap.
func (s *set) addTo(plain []uint64) {
	for i := range plain {
		plain[i] |= s.word(i/64, i%64)
	}
}
