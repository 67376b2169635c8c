package router

import (
	"cmp"
	"container/list"
	"slices"

	"vswitch/internal/packet"
)

// datagram is one that comes in fragments.
type datagram struct {
	key   fragmentKey
	from  *fragmentsFrom
	place *list.Element
	since int64
	parts []part // in their order
	got   int    // bytes
	end   int    // where the last one ends; 0: not known
	known bool   // the first one came
	ports packet.Ports
	dead  packet.DropReason // why nothing more of it passes
	held  []*packet.Frame   // in the order in which they came, but the first one before all others
	bytes int               // of held
}

// part is what one fragment has of a datagram, in bytes.
type part struct{ start, end int }

// take notes that a part has come.
func (d *datagram) take(at packet.Fragment) packet.DropReason {
	i, same := slices.BinarySearchFunc(d.parts, at.Start, func(p part, start int) int { return cmp.Compare(p.start, start) })
	last := d.end != 0 && at.End == d.end
	switch {
	case same && d.parts[i].end == at.End && last == !at.More:
		return packet.DropFragDuplicate
	case same, i > 0 && d.parts[i-1].end > at.Start, i < len(d.parts) && d.parts[i].start < at.End:
		return packet.DropFragOverlap
	case d.end != 0 && (at.End > d.end || !at.More || last), !at.More && i < len(d.parts):
		return packet.DropFragOverlap // two last ones, or something behind the last one
	case len(d.parts) >= MaxFragments:
		return packet.DropFragMany
	}
	d.parts = slices.Insert(d.parts, i, part{at.Start, at.End})
	d.got += at.End - at.Start
	if !at.More {
		d.end = at.End
	}
	return packet.DropNone
}
