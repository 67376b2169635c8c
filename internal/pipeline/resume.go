package pipeline

import (
	"vswitch/internal/packet"
	"vswitch/nat"
)

// resume takes a segment from a published port for the answer that it is, though its connection is not known, as after a restart of the
// daemon: masqueraded it would come from another port than the client knows, which would reset the connection.
func (w *walk) resume(pool *nat.Pool) bool {
	orig, ok := w.origin(pool)
	if !ok {
		return false
	}
	outside := w.to.nat.Load()
	if outside == nil { // since a moment
		return false
	}
	r := nat.Request{
		Tuple: orig, To: nat.Endpoint{Addr: w.tuple.Src, Port: w.tuple.SrcPort}, DNAT: true, Network: outside.Network, Port: w.out.ID, Peer: w.in.ID,
	}
	if _, drop := w.conns.Open(&r, w.now); drop != packet.DropNone {
		return false
	}
	c, ok := w.conns.Track(&w.tuple, w.signal, w.now)
	if !ok { // the client's port had to be changed, see Table.Open
		return false
	}
	w.become(&c)
	w.leanOn(&c)
	return true
}

// origin returns the tuple that a segment from a published port answers.
func (w *walk) origin(pool *nat.Pool) (orig nat.Tuple, ok bool) {
	if pool == nil || w.nat.Published == nil || w.published != nil || w.tuple.Proto != packet.ProtoTCP || w.signal == nat.Open || w.out == nil {
		return orig, false
	}
	return w.nat.Published.Origin(&w.tuple, pool.Addr())
}

// answersMasqueraded tells whether answers to the frame would be taken for connections of their own, and masqueraded.
func (w *walk) answersMasqueraded() bool {
	if !w.routed || w.to == w.net || w.poolOf(w.nat) == nil {
		return false
	}
	t := w.to.nat.Load()
	return t != nil && t.hides(w.dst, w.gw.If)
}

// aside tells whether the frame goes to a container's port, past what publishes that: its answers need a connection, or they could be taken
// for those of one that came by the published port, and that one's for them. So what comes from there without one is not cached. Where rules
// follow connections they say what opens one.
func (w *walk) aside() bool {
	if w.follows || !w.routed || w.nat.Published == nil {
		return false
	}
	from, to := w.nat.Published.Targets(&w.tuple)
	w.absent = w.absent || from
	return to
}

// foresee tells what a new connection would become; its external port is not known before there is one.
func (w *walk) foresee(stage string, pool *nat.Pool) bool {
	if orig, ok := w.origin(pool); ok {
		w.trace.step(stage, "connection by a published port, which is known again")
		w.rewrite = &packet.Rewrite{NewSrc: true, Src: orig.Dst, SrcPort: orig.DstPort, IPv6: orig.Family == 6}
		return true
	}
	plain := pool == nil && w.published == nil
	if w.signal == nat.Accept || w.signal == nat.Abort { // opens none
		return plain || w.drop(stage, packet.DropConnInvalid)
	}
	r := &packet.Rewrite{NewDst: w.published != nil, Dst: w.target.Addr, DstPort: w.target.Port, IPv6: w.tuple.Family == 6}
	if r.NewSrc = pool != nil; r.NewSrc {
		copy(r.Src[:], pool.Addr().AsSlice())
		w.trace.step(stage, "new connection, masqueraded as %s", pool.Addr())
	} else {
		w.trace.step(stage, "new connection")
	}
	if r.NewSrc || r.NewDst {
		w.rewrite = r
	}
	return true
}
