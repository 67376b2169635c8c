package l2switch

import (
	"cmp"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/packet"
)

// SetLimits changes the limits. What is over them is evicted as if by learning: on each port over its limit the oldest, then
// the oldest of the port that has most.
func (t *FDB) SetLimits(l Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = l.withDefaults()
	for _, q := range t.ports {
		t.shrink(q)
	}
	for t.learned > t.limits.MACs {
		t.counters.EvictedTable++
		t.remove(t.oldest(t.ranks.first()))
	}
}

// SetPort makes port one on which addresses are learned, at most limit of them; 0 is Limits.PerPort.
func (t *FDB) SetPort(port packet.PortID, limit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.ports[port]
	if q == nil {
		q = &queue{port: port}
		t.ports[port] = q
		t.ranks.enter(q)
	}
	q.limit = limit
	t.shrink(q)
}

func (t *FDB) shrink(q *queue) {
	for q.learned.n > t.limit(q) {
		t.makeRoom(q)
	}
}

// ForgetPort removes port and its entries, static ones too. Nothing is learned on it any more.
func (t *FDB) ForgetPort(port packet.PortID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.ports[port]
	if q == nil {
		return
	}
	t.removeAll(&q.learned)
	t.removeAll(&q.static)
	t.ranks.leave(q)
	delete(t.ports, port)
}

func (t *FDB) removeAll(l *list) (n int) {
	for ; l.head != 0; n++ {
		t.remove(l.head)
	}
	return n
}

// forgetVLANs removes what was learned on port in VLANs that m does not carry.
func (t *FDB) forgetVLANs(port packet.PortID, m *Membership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.ports[port]
	if q == nil {
		return
	}
	for slot := q.learned.head; slot != 0; {
		e := t.at(slot)
		next := e.next
		if _, ok := m.Egress(e.key.vlan()); !ok {
			t.remove(slot)
		}
		slot = next
	}
}

// AddStatic places mac in vlan behind port for good. A learned entry makes way; the same static entry is no error. Errors
// are *api.Error: CodeInvalid, CodeNotFound when the port is not one of the FDB's, CodeConflict when a static entry places
// the address elsewhere, CodeExhausted over MaxStatic.
func (t *FDB) AddStatic(vlan uint16, mac [6]byte, port packet.PortID) error {
	switch {
	case vlan > MaxVLAN:
		return api.Errorf(api.CodeInvalid, "VLAN %d does not exist: use 1 to %d, or 0 for the network's untagged VLAN", vlan, MaxVLAN)
	case mac[0]&1 != 0 || mac == [6]byte{}:
		return api.Errorf(api.CodeInvalid, "MAC address % x is a group address or zero: an entry needs the address of one interface", mac)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.ports[port]
	if q == nil {
		return api.Errorf(api.CodeNotFound, "the port is not one of this network's")
	}
	key := makeKey(vlan, mac)
	slot := t.index.find(key)
	if slot != 0 && t.at(slot).static {
		if t.at(slot).owner == q {
			return nil
		}
		return api.Errorf(api.CodeConflict, "a static entry for the MAC address in VLAN %d points to another port: delete it first", vlan)
	}
	if t.static >= MaxStatic {
		return api.Errorf(api.CodeExhausted, "the network has %d static entries already: delete some first", MaxStatic)
	}
	if slot != 0 {
		t.remove(slot)
	}
	t.take(key, q, true)
	return nil
}

// DeleteEntry removes the entry of mac in vlan, learned or static, and tells whether there was one.
func (t *FDB) DeleteEntry(vlan uint16, mac [6]byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.index.find(makeKey(vlan, mac))
	if slot != 0 {
		t.remove(slot)
	}
	return slot != 0
}

// Flush removes the entries of port, or of AllPorts, and returns how many. Static ones stay if keepStatic.
func (t *FDB) Flush(port packet.PortID, keepStatic bool) (n int) {
	for _, q := range t.queues(port) {
		t.mu.Lock()
		n += t.removeAll(&q.learned)
		if !keepStatic {
			n += t.removeAll(&q.static)
		}
		t.mu.Unlock()
	}
	return n
}

func (t *FDB) queues(port packet.PortID) (qs []*queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, q := range t.ports {
		if port == AllPorts || id == port {
			qs = append(qs, q)
		}
	}
	return qs
}

// Sweep removes the entries that have expired at now and returns how many. It looks at the whole table.
func (t *FDB) Sweep(now int64) (n int) {
	t.chunkwise(func(chunk *[chunkSize]entry, first uint32) {
		for i := range chunk {
			if e := &chunk[i]; e.owner != nil && t.expired(e, now) {
				t.counters.Expired++
				t.remove(first + uint32(i))
				n++
			}
		}
	})
	return n
}

// chunkwise calls f for each chunk with the lock held, and lets go of it in between, so that no decision waits for long.
func (t *FDB) chunkwise(f func(chunk *[chunkSize]entry, first uint32)) {
	for i := 0; ; i++ {
		t.mu.Lock()
		if i >= len(t.chunks) {
			t.mu.Unlock()
			return
		}
		f(t.chunks[i], uint32(i*chunkSize))
		t.mu.Unlock()
	}
}

// Len returns the number of entries, learned and static.
func (t *FDB) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.learned + t.static
}

// PerPort returns how many entries were learned on port.
func (t *FDB) PerPort(port packet.PortID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.ports[port]; q != nil {
		return q.learned.n
	}
	return 0
}

// Counters returns what the FDB did so far.
func (t *FDB) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counters
}

// Entry is one row of an FDB.
type Entry struct {
	VLAN     uint16
	MAC      [6]byte
	Port     packet.PortID
	Static   bool
	LastUsed int64 // nanoseconds of the datapath's monotonic clock; 0 for static ones
}

// Entries returns all entries by VLAN and address, with those that have expired but were not yet swept. An entry that comes
// or goes meanwhile may be missing.
func (t *FDB) Entries() []Entry {
	type row struct {
		key fdbKey
		Entry
	}
	rows := make([]row, 0, t.Len())
	t.chunkwise(func(chunk *[chunkSize]entry, _ uint32) {
		for i := range chunk {
			e := &chunk[i]
			if e.owner == nil {
				continue
			}
			r := row{e.key, Entry{VLAN: e.key.vlan(), MAC: e.key.mac(), Port: e.owner.port, Static: e.static}}
			if !e.static {
				r.LastUsed = e.cell.LastUsed()
			}
			rows = append(rows, r)
		}
	})
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.key, b.key) })
	// An entry that was deleted and learned again between two chunks was met twice.
	rows = slices.CompactFunc(rows, func(a, b row) bool { return a.key == b.key })
	entries := make([]Entry, len(rows))
	for i := range rows {
		entries[i] = rows[i].Entry
	}
	return entries
}
