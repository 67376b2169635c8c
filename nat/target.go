package nat

import (
	"net/netip"
	"slices"
)

// targets returns where a publication leads.
func (p *Publication) targets() (all []binding) {
	for _, a := range p.To {
		addr, family := bytesOf(a.Unmap())
		all = append(all, binding{addr, p.Zone, p.Proto, family})
	}
	return all
}

// aim notes where a publication leads.
func (e *Edit) aim(p *Publication) {
	for _, b := range p.targets() {
		e.tree.to[b] = append(slices.Clip(e.tree.to[b]), p)
	}
}

// forgo undoes aim.
func (e *Edit) forgo(p *Publication) {
	for _, b := range p.targets() {
		list := slices.DeleteFunc(slices.Clone(e.tree.to[b]), func(q *Publication) bool { return q == p })
		if e.tree.to[b] = list; len(list) == 0 {
			delete(e.tree.to, b)
		}
	}
}

// leadsTo tells whether the publication leads to the port of its container.
func (p *Publication) leadsTo(port uint16) bool {
	return port >= p.ToPort && port-p.ToPort <= p.High-p.Low
}

// Targets tells whether a published port leads to the source, and to the destination, of the tuple: without a connection such frames are not
// told from those of one that came by the published port.
func (t *Published) Targets(q *Tuple) (src, dst bool) {
	tree := t.tree.Load()
	b := binding{q.Src, q.Zone, q.Proto, q.Family}
	src = slices.ContainsFunc(tree.to[b], func(p *Publication) bool { return p.leadsTo(q.SrcPort) })
	b.addr = q.Dst
	dst = slices.ContainsFunc(tree.to[b], func(p *Publication) bool { return p.leadsTo(q.DstPort) })
	return src, dst
}

// Origin returns the tuple of the connection that the tuple would answer, from a published port at one of our addresses; false when there is no
// such port, or more than one.
func (t *Published) Origin(q *Tuple, ours netip.Addr) (orig Tuple, ok bool) {
	orig = q.Reverse()
	orig.Dst, _ = bytesOf(ours)
	for _, p := range t.tree.Load().to[binding{q.Src, q.Zone, q.Proto, q.Family}] {
		if !p.leadsTo(q.SrcPort) || p.Addr.IsValid() && p.Addr.Unmap() != ours.Unmap() {
			continue
		}
		if ok {
			return orig, false
		}
		orig.DstPort, ok = p.Low+q.SrcPort-p.ToPort, true
	}
	return orig, ok
}
