package acl

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// prefixes finds the rules that ask for an address. A prefix's set has the rules of all prefixes around it too, so the longest one is
// all that has to be found.
type prefixes struct {
	table bart.Table[*set]
}

func newPrefixes(asking map[netip.Prefix][]int, size int) *prefixes {
	t := &prefixes{}
	p := make(plain, size)
	byLength := func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) }
	for _, prefix := range slices.SortedFunc(maps.Keys(asking), byLength) {
		clear(p)
		if around, ok := t.table.LookupPrefix(prefix); ok {
			around.addTo(p)
		}
		for _, i := range asking[prefix] {
			p.mark(i)
		}
		t.table.Insert(prefix, newSet(p))
	}
	return t
}

// find returns the rules that ask for a prefix with the address in it; nil: none.
func (t *prefixes) find(a netip.Addr) *set {
	s, _ := t.table.Lookup(a)
	return s
}
