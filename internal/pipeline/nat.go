package pipeline

import (
	"fmt"
	"net/netip"
	"strings"

	"vswitch/internal/acl"
	"vswitch/internal/packet"
	"vswitch/nat"
	"vswitch/router"
)

// NAT is what a network's gateway translates with. It never changes.
type NAT struct {
	Zone       uint16         // the router's number, from 1
	Network    uint32         // the network's, from 1: whose connections are counted
	Conns      *nat.Table     // of all routers
	Published  *nat.Published // likewise; nil: nothing is published
	Masquerade Masquerade     // whether what leaves the network for another one gets an address of that one's gateway
	Pools      [2]*nat.Pool   // IPv4's and IPv6's of this network's gateway: what comes from others is masqueraded as
}

// Masquerade says what of a network is hidden behind the gateways of others.
type Masquerade uint8

const (
	MasqueradeOff  Masquerade = iota
	MasqueradeAuto            // towards an uplink what could not come back by it: private addresses, and by a shared one all
	MasqueradeOn              // all, and towards all networks
)

// SetNAT gives the network what its gateway translates with, in place of what it has; nil: nothing is translated.
func (n *Network) SetNAT(t *NAT) {
	n.nat.Store(t)
	n.Bridge.Renew()
}

// translation is what a walk knows of the frame's connection.
type translation struct {
	nat       *NAT       // nil: nothing is translated here
	conns     *nat.Table // where the frame's connection is, or would be; nil: nobody asks for it
	zone      uint16     // in there
	owner     uint32     // the number of the network whose connection it would be
	dst       netip.Addr // where the frame goes: its destination, or what that becomes
	tuple     nat.Tuple
	signal    nat.Signal
	tupled    bool     // the frame has a tuple
	tracked   bool     // its connection is known
	met       nat.Conn // it, as stage 4 found it
	published *nat.Publication
	target    nat.Endpoint    // of the published port
	rewrite   *packet.Rewrite // what becomes of the frame; nil: it stays as it is
	quote     nat.Quoted      // of an ICMP error about a connection: what it quotes
	requote   bool            // quote is to be translated
	turned    bool            // a hairpin: far is of a connection too
	far       nat.Tuple       // the frame as it would be outside
}

// trackConn finds the frame's connection, or that of the datagram which it quotes.
func (w *walk) trackConn() bool {
	const stage = "4 track"
	if w.filter = w.net.judges(); w.fib == nil && (w.filter == nil || !w.filter.Deep()) {
		return true // nobody looks above Ethernet
	}
	if !w.reassemble(stage) {
		return false
	}
	if w.whoTracks(); w.conns == nil {
		return true
	}
	if w.f.Flags&packet.FlagICMPError != 0 {
		w.trackError(stage)
		return true
	}
	if w.tuple, w.signal, w.tupled = nat.Of(w.f, w.zone); !w.tupled {
		return true
	}
	c, ok := w.conns.Peek(&w.tuple, w.now) // a frame that is not forwarded moves nothing on: see snatRouted
	if !ok {
		return true
	}
	w.tracked, w.met = true, c
	w.belong(c.Reply)
	w.become(&c)
	if w.trace != nil {
		w.trace.step(stage, "connection, %s", c.State)
	}
	return true
}

// whoTracks finds where the connection of the frame would be: that of what is routed is its router's, others are the network's own, and asked for
// by its rules alone.
func (w *walk) whoTracks() {
	w.dst = w.f.Key.DstAddr()
	if w.fib != nil {
		if w.nat = w.net.nat.Load(); w.nat != nil {
			w.conns, w.zone, w.owner = w.nat.Conns, w.nat.Zone, w.nat.Network
		}
		return
	}
	if r := w.net.rules.Load(); r != nil && w.filter != nil && w.filter.Stateful() && !w.group() {
		w.conns, w.zone, w.owner = r.Conns, r.Zone, r.Network
	}
}

// belong notes which way of its connection the frame goes.
func (w *walk) belong(reply bool) {
	if w.state = acl.Original; reply {
		w.state = acl.Reply
	}
}

// trackError finds the connection that an ICMP error is about.
func (w *walk) trackError(stage string) {
	e, drop := w.conns.Error(w.f, w.zone, w.now)
	if drop != packet.DropNone {
		return
	}
	w.hairpinError(&e)
	w.tracked, w.quote = true, e
	w.belong(e.Reply)
	if e.Translated() {
		w.requote = true
		w.turn(&e.Outer)
	}
	if w.trace != nil {
		w.trace.step(stage, "error about a connection, for %s", w.dst)
	}
}

// become notes what the frame's connection makes of it.
func (w *walk) become(c *nat.Conn) {
	if c.Translated() {
		r := c.Rewrite // which the walk keeps
		w.rewrite = &r
		w.turn(&r)
	}
}

// leanOn makes the decision one about the connection. Where rules were asked before it was known that the frame is a reply in it, the next one
// is decided anew.
func (w *walk) leanOn(c *nat.Conn) {
	w.tracked = true
	w.v.LeanOnConn(c.Cell, c.Version)
	w.absent = w.absent || !c.Cacheable || c.Reply != (w.state == acl.Reply)
}

// turn notes where a rewritten frame goes.
func (w *walk) turn(r *packet.Rewrite) {
	if r.NewDst {
		w.dst = w.address(&r.Dst)
	}
}

// address is one of the frame's family.
func (w *walk) address(a *[16]byte) netip.Addr {
	if w.f.Key.EtherType == packet.EtherTypeIPv4 {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(*a)
}

// atOurs tells whether the frame is to an address where ports can be published.
func (w *walk) atOurs() bool {
	return w.fib.Own(w.dst) != nil || w.gw.If.Owns(w.dst) || w.fib.External(w.dst) != nil
}

// dnatPublished finds where a connection to a published port goes.
func (w *walk) dnatPublished() bool {
	const stage = "5 dnat"
	if w.nat == nil || w.nat.Published == nil || w.tracked || !w.tupled || !w.atOurs() {
		return true
	}
	to, p, drop := w.nat.Published.Lookup(&w.tuple)
	if drop != packet.DropNone {
		return w.drop(stage, drop)
	}
	if p != nil {
		w.published, w.target, w.dst = p, to, w.address(&to.Addr)
		if w.trace != nil {
			w.trace.step(stage, "published by %s: to %s", p.Owner, netip.AddrPortFrom(w.dst, to.Port))
		}
	}
	return true
}

// snatRouted opens the connection of a frame that is to be translated, or whose answers would be, or refused, now that it is known to leave; and
// translates ICMP errors.
func (w *walk) snatRouted() bool {
	const stage = "10 snat"
	if w.conns == nil {
		w.absent = w.absent || w.follows
		return true
	}
	if w.tracked {
		return w.trace != nil || w.moveOn(stage)
	}
	pool := w.pool()
	plain := pool == nil && w.published == nil
	switch {
	case plain && (!w.tupled || (!w.follows || !w.begins()) && !w.answersMasqueraded() && !w.aside()):
		w.absent = w.absent || w.follows
		return true
	case !w.tupled:
		return w.drop(stage, packet.DropConnInvalid)
	}
	if w.trace != nil {
		return w.foresee(stage, pool)
	}
	if w.resume(pool) {
		return true
	}
	r := nat.Request{
		Tuple: w.tuple, Signal: w.signal, To: w.target, DNAT: w.published != nil, Pool: pool, Network: w.owner, Port: w.in.ID,
	}
	if w.out != nil {
		r.Peer = w.out.ID
	}
	c, drop := w.conns.Open(&r, w.now)
	if plain && (drop == packet.DropConnInvalid || drop == packet.DropConnFull && !w.leans && !w.answersMasqueraded()) {
		w.absent = true // it opens nothing that could be answered, or nobody needs to know; what comes next may
		return true
	}
	if drop != packet.DropNone {
		return w.drop(stage, drop)
	}
	w.become(&c)
	w.leanOn(&c)
	w.absent = w.absent || c.Reply // another worker was faster, and rules have not seen it as one
	return true
}

// moveOn lets the connection see its frame, and translates an ICMP error, which is never cached and which no connection sees.
func (w *walk) moveOn(stage string) bool {
	if !w.tupled {
		if e := &w.quote; w.requote {
			w.f.RewriteError(&e.Outer, &e.Quoted, &e.Quote)
		}
		return true
	}
	c, ok := w.conns.Track(&w.tuple, w.signal, w.now)
	if !ok || !w.turned && (c.Reply != w.met.Reply || c.Rewrite != w.met.Rewrite) { // it ended meanwhile, and another one may be in its place
		return w.drop(stage, packet.DropConnInvalid)
	}
	w.leanOn(&c)
	if w.turned {
		if _, ok := w.conns.Track(&w.far, w.signal, w.now); !ok {
			return w.drop(stage, packet.DropNATFiltered)
		}
	}
	return true
}

// hides tells whether a source address in the network is masqueraded towards the interface.
func (t *NAT) hides(src netip.Addr, exit *router.Interface) bool {
	return t.Masquerade == MasqueradeOn || t.Masquerade == MasqueradeAuto && exit.Uplink && (exit.Shared || private(src))
}

// sharedSpace is for addresses behind a carrier's NAT (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// private tells whether an address means something else elsewhere (RFC 1918, RFC 4193, RFC 6598).
func private(a netip.Addr) bool { return a.IsPrivate() || sharedSpace.Contains(a) }

// pool returns what the frame's source is masqueraded as, or nil: an address of the network that it leaves by, when the one that it came
// from wants that, or when it came by a published port from the same network: the answer has to come back here.
func (w *walk) pool() *nat.Pool {
	if !w.routed {
		return nil
	}
	hairpin := w.to == w.net
	if hairpin && w.published == nil || !hairpin && !w.nat.hides(w.f.Key.SrcAddr(), w.exit) {
		return nil
	}
	return w.poolOf(w.to.nat.Load())
}

// poolOf returns what sources of the frame's family are masqueraded as towards the network that translates so, or nil.
func (w *walk) poolOf(t *NAT) *nat.Pool {
	switch {
	case t == nil:
		return nil
	case w.f.Key.EtherType == packet.EtherTypeIPv4:
		return t.Pools[0]
	}
	return t.Pools[1]
}

// translate adds the rewriting of a routed frame to its actions.
func (w *walk) translate() {
	if w.rewrite != nil {
		w.v.Translate(w.rewrite)
	}
}

// rewriteText tells what becomes of the endpoints, as in "set(ip_src=192.0.2.1,tp_src=61000)". A port of 0 is none, or not known yet.
func rewriteText(r *packet.Rewrite) string {
	var set []string
	add := func(side string, a *[16]byte, port uint16) {
		name, addr := "ip_", netip.AddrFrom4([4]byte(a[:4]))
		if r.IPv6 {
			name, addr = "ipv6_", netip.AddrFrom16(*a)
		}
		set = append(set, fmt.Sprintf("%s%s=%s", name, side, addr))
		if port != 0 {
			set = append(set, fmt.Sprintf("tp_%s=%d", side, port))
		}
	}
	if r.NewSrc {
		add("src", &r.Src, r.SrcPort)
	}
	if r.NewDst {
		add("dst", &r.Dst, r.DstPort)
	}
	return "set(" + strings.Join(set, ",") + ")"
}
