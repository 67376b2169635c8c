package l2switch

import (
	"cmp"
	"slices"

	"vswitch/internal/packet"
)

// PortUp asks whether a port that was added or came up has brought a loop. Tend follows.
func (b *Bridge) PortUp(id packet.PortID, now int64) {
	if c := b.Snapshot().Port(id); c != nil {
		b.loops.up(id, c.Member.any(), now)
	}
}

// Tend carries out what the search for loops asks for at now: probes are sent by send, which must not block, ports are
// blocked and let go on. It returns what to tell, and when it wants to be called again: math.MaxInt64 when only Suspect,
// Heard, PortUp or RemovePort can give it something to do. One goroutine calls it.
func (b *Bridge) Tend(now int64, send func(id packet.PortID, frame []byte)) (news []LoopNews, next int64) {
	s, next := b.loops.step(now)
	b.setBlocked(s.discard, true)
	b.setBlocked(s.forward, false)
	for _, n := range s.news {
		if n.Blocked { // what was learned over the loop is wrong by now, at both of its ends
			b.fdb.Flush(n.Port, true)
			b.fdb.Flush(n.Peer, true)
		}
	}
	conf := b.Snapshot()
	for i := range s.probes {
		p := &s.probes[i]
		c := conf.Port(p.Port)
		if c == nil {
			continue
		}
		if tag, ok := c.Member.Egress(p.VLAN); ok {
			send(p.Port, p.frame(b.loops.mac(), tag))
		}
	}
	return s.news, next
}

// setBlocked says whether the ports carry frames. Ports that were removed meanwhile are left out.
func (b *Bridge) setBlocked(ids []packet.PortID, on bool) {
	if len(ids) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.Snapshot()
	ports := slices.Clone(s.ports)
	for _, id := range ids {
		i, ok := slices.BinarySearchFunc(ports, id, func(p *PortConf, id packet.PortID) int { return cmp.Compare(p.ID, id) })
		if ok {
			c := *ports[i]
			c.Blocked = on
			ports[i] = &c
		}
	}
	b.publish(ports)
}
