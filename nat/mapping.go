package nat

import (
	"unsafe"

	"vswitch/internal/packet"
)

// mappings say which external port an internal endpoint has: the same towards all destinations (endpoint-independent mapping, RFC 4787
// REQ-1, RFC 5382 REQ-1, RFC 5508 REQ-1), as long as one of its connections lives. Who may answer is decided by the connections
// (address-and-port-dependent filtering). When all ports are taken, mappings share ports: then a mapping may find its
// port taken towards one destination, and that one connection gets a port of its own, which no other finds.
type mappings struct {
	index *index
	slab[[chunkSize]mapping]
}

// mapping is a record of 32 bytes without pointers.
type mapping struct {
	mapKey
	out   uint16 // the external port
	owner bool   // the port is marked in the pool: not shared, or shared by others
	found bool   // it is in the index
	refs  uint32 // connections
}

// mapKey is an internal endpoint towards a pool. It has no padding.
type mapKey struct {
	addr             [16]byte
	port, zone, pool uint16
	proto, family    uint8
}

func (k *mapKey) hash() uint64 {
	return packet.HashBytes(unsafe.Slice((*byte)(unsafe.Pointer(k)), unsafe.Sizeof(*k)))
}

// start is where the search for the endpoint's external port begins: unpredictable to others (RFC 6056 3.3.3), and the same for a table that
// has the same secret.
func (t *Table) start(k *mapKey, p *Pool) uint16 {
	b := make([]byte, 0, 36)
	b = append(append(b, k.addr[:]...), p.addr[:]...)
	b = append(b, byte(k.port>>8), byte(k.port), k.proto, k.family)
	return uint16(packet.HashSeeded((*[3]uint64)(&t.secret), b) >> 16)
}

func (m *mappings) at(slot uint32) *mapping { return &m.chunks[slot/chunkSize][slot%chunkSize] }

// link is where a slot that was given back has the next one.
func (m *mappings) link(slot uint32) *uint32 { return &m.at(slot).refs }

// find returns the slot of the endpoint's mapping, or 0.
func (m *mappings) find(k *mapKey) uint32 {
	for c := m.index.seek(k.hash()); ; {
		slot := c.next()
		if slot == 0 || m.at(slot).mapKey == *k {
			return slot
		}
	}
}

// Foresee returns what masquerading makes of the source of a first frame with the tuple, if there is a mapping for it already.
func (t *Table) Foresee(p *Pool, q *Tuple) (r packet.Rewrite, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.maps.find(&mapKey{addr: q.Src, port: q.SrcPort, zone: q.Zone, pool: p.id, proto: q.Proto, family: q.Family})
	if slot == 0 {
		return r, false
	}
	return packet.Rewrite{Src: p.addr, SrcPort: t.maps.at(slot).out, NewSrc: true, IPv6: q.Family == 6}, true
}

// add makes a mapping with one connection.
func (m *mappings) add(k *mapKey, port uint16, owner, found bool) uint32 {
	slot := m.take(m.link)
	*m.at(slot) = mapping{*k, port, owner, found, 1}
	if found {
		m.index.insert(k.hash(), slot)
	}
	return slot
}

// release takes a connection from a mapping, which ends with its last one.
func (m *mappings) release(pools []*Pool, slot uint32) {
	if slot == 0 {
		return
	}
	p := m.at(slot)
	if p.refs--; p.refs > 0 {
		return
	}
	if p.found {
		m.index.remove(p.hash(), slot)
	}
	if p.owner {
		pools[p.pool].give(p.proto, p.out)
	}
	m.give(slot, m.link)
}
