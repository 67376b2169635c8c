package nat

import (
	"fmt"
	"math/bits"
	"net/netip"

	"vswitch/internal/packet"
)

// Pool is an external address, and the ports of it that masquerading hands out: one of each protocol that has ports, and identifiers of
// ICMP echoes. It belongs to a Table, whose mutex guards it.
type Pool struct {
	id        uint16
	addr      [16]byte
	family    uint8
	low, high uint16
	protos    map[uint8]*ports
	removed   bool
}

// ports says which ports of a protocol are in use; a bit each, those of 64 ports that begin at a multiple of 64 in a word.
type ports struct {
	first uint16   // word of the lowest port
	own   []uint64 // mapped, by the mapping that came first
	kept  []uint64 // not to be handed out
	free  int
}

const (
	evenPorts = 0x5555555555555555
	allPorts  = ^uint64(0)
)

// Addr returns the external address.
func (p *Pool) Addr() netip.Addr { return addrOf(&p.addr, p.family) }

// Contains tells whether the port is one that masquerading hands out, unless it is kept.
func (p *Pool) Contains(port uint16) bool { return p.low <= port && port <= p.high }

// NewPool adds an external address with the ports from low to high. Mappings to it live as long as their connections, see RemovePool.
func (t *Table) NewPool(addr netip.Addr, low, high uint16) (*Pool, error) {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil, fmt.Errorf("masquerade as %v: not an address that a host can have", addr)
	}
	if low == 0 || low > high {
		return nil, fmt.Errorf("masquerade with ports %d-%d: give a range from 1 to 65535, the lower one first", low, high)
	}
	p := &Pool{low: low, high: high, protos: map[uint8]*ports{}}
	p.addr, p.family = bytesOf(addr.Unmap())
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.pools {
		if other == nil {
			p.id, t.pools[i] = uint16(i), p
			return p, nil
		}
	}
	if len(t.pools) > 0xffff {
		return nil, fmt.Errorf("masquerade as %v: there are %d external addresses already", addr, len(t.pools))
	}
	p.id = uint16(len(t.pools))
	t.pools = append(t.pools, p)
	return p, nil
}

// RemovePool ends the connections that use the pool, and forgets it.
func (t *Table) RemovePool(p *Pool) {
	t.mu.Lock()
	p.removed = true
	t.mu.Unlock()
	t.removeIf(func(c *conn) bool {
		if c.mapping != 0 {
			return t.maps.at(c.mapping).pool == p.id
		}
		return !ported(c.orig.Proto) && c.reply.Dst == p.addr && c.orig.Src != p.addr
	})
	t.mu.Lock()
	if t.pools[p.id] == p { // else it was removed before
		t.pools[p.id] = nil
	}
	t.mu.Unlock()
}

// Keep takes ports of a protocol out of the pool, or puts them back: published ones, those of the host's sockets. Connections that use them
// go on. Ports beyond the pool don't matter.
func (t *Table) Keep(p *Pool, proto uint8, low, high uint16, keep bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := p.of(proto)
	for port := int(max(low, p.low)); port <= int(min(high, p.high)); port++ {
		word, bit := port/64-int(s.first), uint64(1)<<(port%64)
		if was := s.kept[word]&bit != 0; was == keep {
			continue
		}
		s.kept[word] ^= bit
		if s.own[word]&bit != 0 {
			continue // it is not free either way
		}
		if keep {
			s.free--
		} else {
			s.free++
		}
	}
}

// Mapped tells whether an external port of the pool is in use.
func (t *Table) Mapped(p *Pool, proto uint8, port uint16) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := p.protos[proto]
	return s != nil && p.Contains(port) && s.own[port/64-s.first]>>(port%64)&1 != 0
}

// of returns the ports of a protocol. Those of ICMP are identifiers.
func (p *Pool) of(proto uint8) *ports {
	s := p.protos[proto]
	if s == nil {
		first, last := p.low/64, p.high/64
		s = &ports{
			first: first, own: make([]uint64, last-first+1), kept: make([]uint64, last-first+1),
			free: int(p.high) - int(p.low) + 1,
		}
		p.protos[proto] = s
	}
	return s
}

// take hands out a free port for the mapping of an internal one: the same if it can be had, else one on the same side of 1024 and of the
// same parity, then of the other one, then any (RFC 4787 REQ-3, REQ-4). Where the search begins is the caller's to make
// unpredictable (RFC 6056). It looks at 1024 words at most for each.
func (p *Pool) take(proto uint8, inside, start uint16) (port uint16, ok bool) {
	s := p.of(proto)
	if s.free == 0 {
		return 0, false
	}
	if inside >= p.low && inside <= p.high && s.isFree(inside) {
		s.use(inside)
		return inside, true
	}
	low, high := max(p.low, 1024), p.high
	if inside < 1024 {
		low, high = p.low, min(p.high, 1023)
	}
	parity := uint64(evenPorts)
	if inside&1 != 0 {
		parity = ^parity
	}
	for _, w := range [...]struct {
		low, high uint16
		parity    uint64
	}{{low, high, parity}, {low, high, allPorts}, {p.low, p.high, allPorts}} {
		if w.low > w.high {
			continue
		}
		if port, ok = s.search(w.low, w.high, w.parity, start); ok {
			s.use(port)
			return port, true
		}
	}
	return 0, false
}

// search finds a free port from low to high among those of the parity, from somewhere near start on.
func (s *ports) search(low, high uint16, parity uint64, start uint16) (uint16, bool) {
	first, n := low/64, int(high/64-low/64)+1
	at := int(start) % n
	for range n {
		word := int(first) + at
		free := parity &^ s.own[word-int(s.first)] &^ s.kept[word-int(s.first)]
		if word == int(first) {
			free &= allPorts << (low % 64)
		}
		if word == int(high/64) {
			free &= allPorts >> (63 - high%64)
		}
		if free != 0 {
			turn := int(start>>8) % 64
			bit := (bits.TrailingZeros64(bits.RotateLeft64(free, -turn)) + turn) % 64
			return uint16(word*64 + bit), true
		}
		if at++; at == n {
			at = 0
		}
	}
	return 0, false
}

func (s *ports) isFree(port uint16) bool {
	word := port/64 - s.first
	return (s.own[word]|s.kept[word])>>(port%64)&1 == 0
}

func (s *ports) isKept(port uint16) bool { return s.kept[port/64-s.first]>>(port%64)&1 != 0 }

func (s *ports) use(port uint16) {
	s.own[port/64-s.first] |= 1 << (port % 64)
	s.free--
}

// give takes a port back that take handed out.
func (p *Pool) give(proto uint8, port uint16) {
	s := p.of(proto)
	s.own[port/64-s.first] &^= 1 << (port % 64)
	if !s.isKept(port) {
		s.free++
	}
}

// ported tells whether the protocol has ports, or identifiers, that can be translated.
func ported(proto uint8) bool {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoDCCP, packet.ProtoUDPLite, packet.ProtoICMP, packet.ProtoICMPv6:
		return true
	}
	return false
}
