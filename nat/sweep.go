package nat

import (
	"net/netip"
	"time"

	"vswitch/internal/packet"
)

// Sweep frees connections that have expired among the next n slots, and goes on there the next time. It tells how many slots there are,
// so that the caller sees to it that all are looked at within the time that an expired connection may stay.
func (t *Table) Sweep(n int, now int64) (slots int) {
	for n > 0 {
		t.mu.Lock()
		slots = int(t.conns.used)
		if t.n == 0 {
			n = 0
		}
		part := min(n, chunkSize, slots)
		for range part {
			if t.hand++; t.hand > t.conns.used {
				t.hand = 1
			}
			if c := t.at(t.hand); c.holder != 0 && t.expired(t.hand, now) {
				t.counters.Expired++
				t.remove(t.hand)
			}
		}
		t.mu.Unlock()
		if n -= part; part < chunkSize {
			break // these were all, or as many as wanted
		}
	}
	return slots
}

// Entry is a connection for people.
type Entry struct {
	Orig, Reply Tuple
	State       State
	Network     uint32
	Port, Peer  packet.PortID
	Age         time.Duration // to the second
	Idle        time.Duration
	Expires     time.Duration // when nothing comes
}

// Filter selects connections: all its fields that are not zero must hold. The zero Filter selects all.
type Filter struct {
	Zone       uint16
	Network    uint32
	Port       packet.PortID // on either side
	Proto      uint8
	State      State
	Src        netip.Prefix // of who opened it
	Dst        netip.Prefix // as it was opened, or as it was translated
	SrcPort    uint16
	DstPort    uint16 // likewise
	Translated bool   // only those with addresses or ports that differ
}

// match tells whether the filter selects the connection.
func (t *Table) match(f *Filter, c *conn) bool {
	h := t.holders[c.holder]
	q, r := &c.orig, &c.reply
	switch {
	case f.Zone != 0 && q.Zone != f.Zone,
		f.Network != 0 && h.net.id != f.Network,
		f.Port != 0 && h.port != f.Port && c.peer != f.Port,
		f.Proto != 0 && q.Proto != f.Proto,
		f.State != 0 && c.state != f.State,
		f.SrcPort != 0 && q.SrcPort != f.SrcPort,
		f.DstPort != 0 && q.DstPort != f.DstPort && r.SrcPort != f.DstPort,
		f.Src.IsValid() && !f.Src.Contains(q.SrcAddr()),
		f.Dst.IsValid() && !f.Dst.Contains(q.DstAddr()) && !f.Dst.Contains(r.SrcAddr()),
		f.Translated && q.Reverse() == *r:
		return false
	}
	return true
}

// List calls yield for each connection that the filter selects and that has not expired, until it returns false. Connections that come and
// go meanwhile are listed or not.
func (t *Table) List(f *Filter, now int64, yield func(*Entry) bool) {
	var found [chunkSize]Entry
	for slot, more := uint32(1), true; more; {
		n := 0
		more = t.chunk(&slot, func(slot uint32, c *conn) {
			if !t.expired(slot, now) && t.match(f, c) {
				found[n] = t.entry(slot, now)
				n++
			}
		})
		for i := range found[:n] {
			if !yield(&found[i]) {
				return
			}
		}
	}
}

func (t *Table) entry(slot uint32, now int64) Entry {
	c := t.at(slot)
	h, idle := t.holders[c.holder], now-t.cell(slot).LastUsed()
	return Entry{
		Orig: c.orig, Reply: c.reply, State: c.state, Network: h.net.id, Port: h.port, Peer: c.peer,
		Age:     time.Duration(now/1e9-int64(c.created)) * time.Second,
		Idle:    time.Duration(idle),
		Expires: time.Duration(t.timeouts[kindOf(c.orig.Proto)][c.state] - idle),
	}
}

// Remove ends the connections that the filter selects, and returns their number. Decisions that lean on them hold no longer.
func (t *Table) Remove(f *Filter) int {
	return t.removeIf(func(c *conn) bool { return t.match(f, c) })
}

// RemovePort ends the connections that the port has on either side.
func (t *Table) RemovePort(port packet.PortID) int {
	return t.Remove(&Filter{Port: port})
}

// RemovePublished ends the connections that came by ports of past, which are not published any more.
func (t *Table) RemovePublished(past *Published) int {
	return t.removeIf(func(c *conn) bool {
		to, p, _ := past.Lookup(&c.orig)
		return p != nil && to == Endpoint{c.reply.Src, c.reply.SrcPort}
	})
}

// RemoveNetwork ends the connections that the network's ports opened.
func (t *Table) RemoveNetwork(network uint32) int {
	return t.Remove(&Filter{Network: network})
}

func (t *Table) removeIf(match func(*conn) bool) (n int) {
	for slot, more := uint32(1), true; more; {
		more = t.chunk(&slot, func(i uint32, c *conn) {
			if match(c) {
				t.remove(i)
				n++
			}
		})
	}
	return n
}

// chunk calls visit for the connections of the next chunk, with the table locked, and tells whether there are more.
func (t *Table) chunk(slot *uint32, visit func(uint32, *conn)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for end := *slot | (chunkSize - 1); *slot <= end; *slot++ {
		if *slot > t.conns.used {
			return false
		}
		if c := t.at(*slot); c.holder != 0 {
			visit(*slot, c)
		}
	}
	return t.n > 0
}

// Memory returns the bytes that the table holds for connections and mappings.
func (t *Table) Memory() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns.chunks)*chunkSize*128 + t.index.bytes() + len(t.maps.chunks)*chunkSize*32 + t.maps.index.bytes()
}
