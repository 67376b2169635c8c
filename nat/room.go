package nat

import "time"

// Spared is how long an established connection must have been unused to make room for a new one; maxSpared is how many connections are
// looked at for one.
const (
	Spared    = 60 * time.Second
	maxSpared = 64
)

// room makes room for one more connection of the network, nil being one without any; false when there is none to be made.
func (t *Table) room(net *network, now int64) bool {
	if net != nil && net.n >= t.limits.PerNetwork && !t.evict(net, now) {
		return false
	}
	return t.n < t.limits.Connections || t.evict(t.biggest[0].of.(*network), now)
}

// evict ends a connection of the network.
func (t *Table) evict(net *network, now int64) bool {
	slot := t.victim(net, now)
	if slot == 0 {
		return false
	}
	t.counters.Evicted++
	t.remove(slot)
	return true
}

// victim returns the connection of the network that goes first, or 0.
func (t *Table) victim(net *network, now int64) uint32 {
	if k := net.most[0][0]; k.n > 0 {
		return k.of.(*holder).lists[0].head
	}
	if k := net.most[1][0]; k.n > 0 {
		return t.longestIdle(k.of.(*holder), now)
	}
	return 0
}

// longestIdle returns the first of the holder's established connections, unless it was used since it was last looked at; then it goes to
// the back, and so on (second chance). When all that it looks at are in use, there is none. Each step is paid for by a use.
func (t *Table) longestIdle(h *holder, now int64) uint32 {
	for range maxSpared {
		slot := h.lists[1].head
		c := t.at(slot)
		if now-t.cell(slot).LastUsed() >= int64(Spared) {
			return slot
		}
		if used := t.recent(slot); used != c.seen {
			c.seen = used
			t.unlink(h, 1, slot)
			t.pushBack(h, 1, slot)
			continue
		}
		return 0
	}
	return 0
}

// recent is when the connection was last used, in milliseconds that wrap around: good for telling times apart, not for more.
func (t *Table) recent(slot uint32) uint32 { return uint32(t.cell(slot).LastUsed() >> 20) }
