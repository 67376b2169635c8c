package nat

import "vswitch/internal/packet"

// Request asks for a connection: all that was decided about its first frame.
type Request struct {
	Tuple   Tuple    // as the frame came in
	Signal  Signal   //
	To      Endpoint // with DNAT: its new destination
	DNAT    bool
	Pool    *Pool         // nil: its source stays; of the tuple's family
	Network uint32        // counted from 1: of the port that the frame came by: what limits go by
	Port    packet.PortID // that port: the connection ends with it
	Peer    packet.PortID // the port that it leaves by, likewise; 0: not one port, or not known
}

// Open makes the connection that a first frame asks for, before the frame is written, so that an answer on another worker finds it. When
// another worker was faster, that one's is returned. What opens nothing is refused as DropConnInvalid: answers, resets, a datagram to its own
// sender; DropConnFull and DropNATPorts say what there is none of. Safe for concurrent use.
func (t *Table) Open(r *Request, now int64) (Conn, packet.DropReason) {
	orig := &r.Tuple
	hash := orig.hash()
	reply := orig.Reverse()
	if r.DNAT {
		reply.Src, reply.SrcPort = r.To.Addr, r.To.Port
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.track(orig, hash, r.Signal, now); ok {
		return c, packet.DropNone
	}
	if r.Signal == Accept || r.Signal == Abort {
		return Conn{}, packet.DropConnInvalid
	}
	mapping, drop := t.translate(r, &reply, now)
	if drop != packet.DropNone {
		return Conn{}, drop
	}
	switch {
	case reply == *orig || reply == reply.Reverse():
		drop = packet.DropConnInvalid
	case !t.room(t.networks[r.Network], now):
		t.counters.Refused++
		drop = packet.DropConnFull
	}
	if drop != packet.DropNone {
		t.maps.release(t.pools, mapping)
		return Conn{}, drop
	}
	slot := t.insert(orig, &reply, t.holderOf(r.Network, r.Port), mapping, now)
	c := t.at(slot)
	c.peer = r.Peer
	c.step(kindOf(orig.Proto), false, r.Signal)
	t.counters.Opened++
	return t.meet(slot << 1), packet.DropNone
}

// translate finds the tuple of answers, which no connection may have yet, and the mapping that it comes from.
func (t *Table) translate(r *Request, reply *Tuple, now int64) (mapping uint32, drop packet.DropReason) {
	if r.Pool != nil {
		if r.Pool.removed { // by a decision that did not know
			t.counters.NoPort++
			return 0, packet.DropNATPorts
		}
		reply.Dst = r.Pool.addr
		if ported(reply.Proto) {
			return t.masquerade(r, reply, now)
		}
	}
	begins := r.DNAT || r.Tuple.Proto != packet.ProtoTCP || r.Signal == Open // what is under way already knows its port
	if t.vacate(reply, true, now) || begins && ported(reply.Proto) && t.shift(reply, uint32(r.Tuple.hash()), now) {
		return 0, packet.DropNone
	}
	t.counters.NoPort++
	return 0, packet.DropNATPorts
}

// maxShared is how many ports are tried for a connection when all of the pool are taken; after sharedTries of them, one whose connection
// to the same destination is closed will do.
const (
	maxShared   = 128
	sharedTries = 16
)

// masquerade gives the connection an external port: that of its mapping; a free one; or, when the pool is used up, one that is not in use
// towards this destination.
func (t *Table) masquerade(r *Request, reply *Tuple, now int64) (uint32, packet.DropReason) {
	p, inside := r.Pool, r.Tuple.SrcPort
	k := mapKey{addr: r.Tuple.Src, port: inside, zone: reply.Zone, pool: p.id, proto: reply.Proto, family: reply.Family}
	mapped := t.maps.find(&k)
	if mapped != 0 {
		m := t.maps.at(mapped)
		reply.DstPort = m.out
		m.refs++ // before vacate, which may end the last connection that it has
		if t.vacate(reply, false, now) {
			return mapped, packet.DropNone
		}
		t.maps.release(t.pools, mapped)
	} else if port, ok := p.take(k.proto, inside, t.start(&k, p)); ok {
		reply.DstPort = port
		if t.vacate(reply, true, now) {
			return t.maps.add(&k, port, true, true), packet.DropNone
		}
		p.give(k.proto, port) // somebody shares it, and is there already
	}
	if !t.share(p, reply, uint32(r.Tuple.hash()), now) {
		t.counters.NoPort++
		return 0, packet.DropNATPorts
	}
	t.counters.Shared++
	return t.maps.add(&k, reply.DstPort, false, mapped == 0), packet.DropNone
}

// share finds a port that is taken, but not towards the destination of reply. The search is bounded: a destination that has nearly all
// ports already is refused rather than searched for long. A small pool is tried port by port, a large one here and there, since the
// ports of one destination like to lie side by side.
func (t *Table) share(p *Pool, reply *Tuple, start uint32, now int64) bool {
	s, n := p.of(reply.Proto), uint32(p.high-p.low)+1
	at := start % n
	for i := range uint32(min(maxShared, n)) {
		reply.DstPort = p.low + uint16(at)
		if !s.isKept(reply.DstPort) && t.vacate(reply, i >= sharedTries || n <= sharedTries, now) {
			return true
		}
		if n <= maxShared {
			at = (at + 1) % n
		} else {
			start = start*1664525 + 1013904223 // Knuth's and Lewis' generator
			at = uint32(uint64(start) * uint64(n) >> 32)
		}
	}
	return false
}

// shift gives a connection another source port, when its client has one from the same port to the same container by another address, its own
// or one where it is published: the container could not tell them apart.
func (t *Table) shift(reply *Tuple, start uint32, now int64) bool {
	for range maxShared {
		start = start*1664525 + 1013904223
		reply.DstPort = 1024 + uint16(uint64(start)*(65536-1024)>>32)
		if t.vacate(reply, false, now) {
			return true
		}
	}
	return false
}

// vacate tells whether no connection has the tuple, after ending one that has expired or, if closed will do, is closed.
func (t *Table) vacate(q *Tuple, closed bool, now int64) bool {
	ref := t.find(q, q.hash())
	if ref == 0 {
		return true
	}
	switch {
	case t.expired(ref>>1, now):
		t.counters.Expired++
	case closed && t.at(ref>>1).state.closed():
		t.counters.Replaced++
	default:
		return false
	}
	t.remove(ref >> 1)
	return true
}
