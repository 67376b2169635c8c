package nat

import (
	"maps"
	"slices"
)

// Edit is a table in the making, which nobody looks up in. It copies the lists that it changes, each once.
type Edit struct {
	tree tree
	own  map[binding]bool // lists of tree.at that may be changed
}

// Edit begins with what the table has.
func (t *Published) Edit() *Edit {
	was := t.tree.Load()
	return &Edit{tree{maps.Clone(was.at), maps.Clone(was.to)}, make(map[binding]bool)}
}

// list returns a list that may be changed.
func (e *Edit) list(b binding) []*Publication {
	if !e.own[b] {
		e.own[b] = true
		e.tree.at[b] = slices.Clone(e.tree.at[b])
	}
	return e.tree.at[b]
}

// Add is Published.Add.
func (e *Edit) Add(p *Publication) error {
	if err := p.check(); err != nil {
		return err
	}
	if other := e.tree.conflict(p); other != nil {
		return &Conflict{p, other}
	}
	for _, b := range p.bindings() {
		list := e.list(b)
		i, _ := search(list, p.Low)
		e.tree.at[b] = slices.Insert(list, i, p)
	}
	e.aim(p)
	return nil
}

// Remove is Published.Remove.
func (e *Edit) Remove(p *Publication) (found bool) {
	for _, b := range p.bindings() {
		i, ok := search(e.tree.at[b], p.Low)
		if !ok || e.tree.at[b][i] != p {
			continue
		}
		found = true
		if list := slices.Delete(e.list(b), i, i+1); len(list) > 0 {
			e.tree.at[b] = list
		} else {
			delete(e.tree.at, b)
		}
	}
	e.forgo(p)
	return found
}

// conflict returns a publication that p would take a port from, or nil. One on all addresses collides with those on any.
func (t tree) conflict(p *Publication) *Publication {
	for b, list := range t.at {
		for _, own := range p.bindings() {
			wild := own.addr == [16]byte{} || b.addr == [16]byte{}
			if b.zone != own.zone || b.proto != own.proto || b.family != own.family || b.addr != own.addr && !wild {
				continue
			}
			if i, _ := search(list, p.High); i < len(list) && list[i].Low == p.High {
				return list[i]
			} else if i > 0 && list[i-1].High >= p.Low {
				return list[i-1]
			}
		}
	}
	return nil
}

// Choose returns the first of n ports side by side from low to high at which p could be published, and that busy, which tells of the host's
// own, does not know; false when there are none.
func (e *Edit) Choose(p Publication, n int, low, high uint16, busy func(port uint16) bool) (uint16, bool) {
	for at := int(low); at+n-1 <= int(high); at++ {
		p.Low, p.High = uint16(at), uint16(at+n-1)
		if other := e.tree.conflict(&p); other != nil {
			at = int(other.High)
			continue
		}
		free := true
		for i := at + n - 1; free && i >= at; i-- {
			if free = !busy(uint16(i)); !free {
				at = i
			}
		}
		if free {
			return uint16(at), true
		}
	}
	return 0, false
}
