package pipeline

import (
	"vswitch/internal/acl"
	"vswitch/internal/packet"
	"vswitch/nat"
	"vswitch/router"
)

// mapped returns the pool of the frame's destination when that is an external port which masquerading has handed out, and the interface
// that has the address.
func (w *walk) mapped() (*nat.Pool, *router.Interface) {
	if w.nat == nil || !w.tupled || w.published != nil {
		return nil, nil
	}
	switch w.tuple.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoDCCP, packet.ProtoUDPLite:
	default:
		return nil, nil
	}
	i := w.gw.If
	if other := w.fib.External(w.dst); other != nil {
		i = other
	} else if other := w.fib.Own(w.dst); other != nil {
		i = other
	}
	n, ok := i.Segment.(*Network)
	if !ok {
		return nil, nil
	}
	t := n.nat.Load()
	if t == nil {
		return nil, nil
	}
	pool := t.Pools[w.tuple.Family/6] // 4 or 6
	if pool == nil || pool.Addr() != w.dst || !pool.Contains(w.tuple.DstPort) {
		return nil, nil
	}
	if !w.conns.Mapped(pool, w.tuple.Proto, w.tuple.DstPort) {
		w.absent = true // it may be handed out at any time
		return nil, nil
	}
	return pool, i
}

// hairpin is for what a masqueraded container sends to the external port of another one, or of itself: it comes from the sender's own
// external port (RFC 4787 REQ-9, RFC 5382 REQ-8), and passes if the other one has sent something there before, as from anybody else. So it
// belongs to two connections, each of which sees one end as what is outside. All others are refused: who has been spoken to is known by
// its connection, at stage 4.
func (w *walk) hairpin(stage string, pool *nat.Pool, outside *router.Interface) bool {
	if outside.Segment == any(w.net) || !w.nat.hides(w.f.Key.SrcAddr(), outside) {
		return w.drop(stage, packet.DropNATFiltered)
	}
	near, ok := w.conns.Peek(&w.tuple, w.now)
	switch {
	case ok:
	case w.trace != nil:
		w.trace.step(stage, "new connection, masqueraded as %s", pool.Addr())
		if near.Rewrite, ok = w.conns.Foresee(pool, &w.tuple); !ok { // a new external port, where nobody has sent anything yet
			return w.drop(stage, packet.DropNATFiltered)
		}
	default:
		r := nat.Request{Tuple: w.tuple, Signal: w.signal, Pool: pool, Network: w.owner, Port: w.in.ID}
		var drop packet.DropReason
		if near, drop = w.conns.Open(&r, w.now); drop != packet.DropNone {
			return w.drop(stage, drop)
		}
	}
	w.far = w.tuple.After(&near.Rewrite)
	far, ok := w.conns.Peek(&w.far, w.now)
	if !ok || !far.Reply {
		return w.drop(stage, packet.DropNATFiltered)
	}
	r := near.Rewrite
	r.Dst, r.DstPort, r.NewDst = far.Rewrite.Dst, far.Rewrite.DstPort, true
	w.rewrite, w.dst = &r, w.address(&r.Dst)
	if w.asked { // rules of the way out are asked about who gets it: to him it is an answer
		w.query.Dst, w.query.DstPort = w.dst, r.DstPort
	}
	w.state = acl.Reply
	w.routed, w.tracked, w.turned = true, true, true
	w.absent = true // leans on more than a verdict has room for
	if w.trace != nil {
		w.trace.step(stage, "hairpin: to the external port of %s", w.dst)
	}
	return true
}

// hairpinError completes the translation of an ICMP error about what came by a hairpin: it goes back through the other connection as well
// (RFC 5508 REQ-7).
func (w *walk) hairpinError(e *nat.Quoted) {
	if !e.Outer.NewSrc || e.Outer.NewDst {
		return
	}
	is := &e.Quoted // as it was outside
	q := nat.Tuple{
		Src: is.Dst, SrcPort: is.DstPort, Dst: is.Src, DstPort: is.SrcPort, Zone: w.zone, Proto: e.Quote.Proto, Family: 4,
	}
	if w.f.Key.EtherType == packet.EtherTypeIPv6 {
		q.Family = 6
	}
	near, ok := w.conns.Peek(&q, w.now)
	if !ok || !near.Reply || !near.Rewrite.NewDst {
		return
	}
	e.Outer.Dst, e.Outer.NewDst = near.Rewrite.Dst, true
	is.Src, is.SrcPort, is.NewSrc = near.Rewrite.Dst, near.Rewrite.DstPort, true
}
