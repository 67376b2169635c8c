package acl

import "slices"

// maxSegments is into how many segments a classifier cuts the range of ports. Where rules ask for more, a segment holds the ports of
// several rules and a lookup tries each.
const maxSegments = 1024

// segments finds the rules that ask for a port. The range of ports is cut where a rule's range begins or ends.
type segments struct {
	starts  []uint16 // of each segment; the first is 0
	sets    []*set
	unknown *set // the rules for frames whose port is not known: those that ask for ports and would refuse
}

func newSegments(rules []*rule, size int, of func(*match) []portRange) *segments {
	s := &segments{starts: []uint16{0}}
	unknown := make(plain, size)
	for i, r := range rules {
		ranges := of(&r.m)
		for _, x := range ranges {
			s.starts = append(s.starts, x.first)
			if x.last < 65535 {
				s.starts = append(s.starts, x.last+1)
			}
		}
		if len(ranges) > 0 && r.m.action != Allow {
			unknown.mark(i)
		}
	}
	s.unknown = newSet(unknown)
	slices.Sort(s.starts)
	s.starts = slices.Compact(s.starts)
	if each := (len(s.starts) + maxSegments - 1) / maxSegments; each > 1 {
		kept := s.starts[:0]
		for i := 0; i < len(s.starts); i += each {
			kept = append(kept, s.starts[i])
		}
		s.starts = slices.Clone(kept)
	}
	plains := make([]plain, len(s.starts))
	for i := range plains {
		plains[i] = make(plain, size)
	}
	for i, r := range rules {
		for _, x := range of(&r.m) {
			for at := s.at(x.first); at < len(plains) && s.starts[at] <= x.last; at++ {
				plains[at].mark(i)
			}
		}
	}
	s.sets = make([]*set, len(plains))
	for i, p := range plains {
		s.sets[i] = newSet(p)
	}
	return s
}

// at returns the segment that the port is in.
func (s *segments) at(port uint16) int {
	i, found := slices.BinarySearch(s.starts, port)
	if found {
		return i
	}
	return i - 1
}

// find returns the rules that may ask for the port.
func (s *segments) find(port uint16, unknown bool) *set {
	if unknown {
		return s.unknown
	}
	return s.sets[s.at(port)]
}
