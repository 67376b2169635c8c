package pipeline

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// leg is what a walk knows of routing: the ingress network's gateway, and the way out.
type leg struct {
	gw     *Gateway         // nil: the network has none, or the frame is of another VLAN than the untagged one
	fib    *router.Snapshot // nil unless the frame is for the gateway's MAC
	mine   bool             // a group frame that the gateway answered: no loss when nobody else hears it
	routed bool
	to     *Network // where it leaves, when routed
	exit   *router.Interface
	hop    *flow.Hop
	mtu    int // of the way out
}

// meet notes the network's gateway. Nobody else may use its MAC.
func (w *walk) meet(stage string) bool {
	gw := w.net.gateway.Load()
	if gw == nil || w.vlan != 0 {
		return true
	}
	w.gw = gw
	if w.f.Key.SrcMAC == gw.If.MAC {
		return w.drop(stage, packet.DropGatewayMAC)
	}
	return true
}

func (w *walk) group() bool { return w.f.Flags&packet.FlagGroup != 0 }

// ours tells whether the frame is for the gateway's MAC, and if so reads the router's configuration, its generation first.
func (w *walk) ours() bool {
	if w.gw == nil || w.f.Key.DstMAC != w.gw.If.MAC && !w.linked() {
		return false
	}
	gen := w.gw.Router.Gen()
	w.v.Gens[1] = flow.GenRef{Gen: gen, Value: gen.Load()}
	w.fib = w.gw.Router.Snapshot()
	w.deep = true
	return true
}

// localRouter takes what is for the gateway itself, and passes on what is to be routed.
func (w *walk) localRouter() bool {
	const stage = "7 local"
	k := &w.f.Key
	if k.Inner != 0 {
		return w.fib == nil || w.drop(stage, packet.DropNotRoutable)
	}
	switch {
	case k.EtherType == packet.EtherTypeARP:
		return w.arp(stage)
	case k.EtherType == packet.EtherTypeIPv6 && k.Proto == packet.ProtoICMPv6 && w.f.L4 != 0 &&
		(k.SrcPort>>8 == ndSolicit || k.SrcPort>>8 == ndAdvertise):
		return w.nd(stage)
	case k.EtherType == packet.EtherTypeIPv6 && k.Proto == packet.ProtoICMPv6 && w.f.L4 != 0 && k.SrcPort>>8 == ndRouterSolicit &&
		w.net.advertiser.Load() != nil:
		return w.solicited(stage, w.net.advertiser.Load())
	case w.fib == nil:
		return true
	case k.EtherType != packet.EtherTypeIPv4 && k.EtherType != packet.EtherTypeIPv6:
		return w.drop(stage, packet.DropNotRoutable)
	}
	src, dst := k.SrcAddr(), w.dst
	if r := w.bogus(src, dst); r != packet.DropNone {
		return w.drop(stage, r)
	}
	i := w.gw.If
	own := i.Owns(dst)
	if i.Shared && !w.tracked && w.published == nil {
		return w.drop(stage, packet.DropForeign)
	}
	if !i.OnLink(src) && !w.fib.Reaches(src, i) || src.IsLinkLocalUnicast() && src.Is4() {
		return w.drop(stage, packet.DropReversePath)
	}
	if other := w.fib.Own(dst); !own && other != nil {
		if i.Internal || other.Internal {
			return w.refuse(stage, packet.DropInternalNetwork, prohibited)
		}
		own = true
	}
	if pool, outside := w.mapped(); pool != nil {
		return w.hairpin(stage, pool, outside)
	}
	if own {
		return w.toUs(stage)
	}
	w.routed = true
	return true
}

// route finds the way of a datagram that is not for the router itself.
func (w *walk) route() bool {
	const stage = "8 decide"
	k := &w.f.Key
	src, dst := k.SrcAddr(), w.dst
	switch {
	case dst.IsLinkLocalUnicast():
		return w.drop(stage, packet.DropMartian)
	case src.IsLinkLocalUnicast():
		return w.refuse(stage, packet.DropMartian, beyondScope)
	case w.f.Flags&packet.FlagTTL != 0:
		return w.refuse(stage, packet.DropTTL, timeExceeded)
	}
	r := w.fib.Lookup(dst)
	if r == nil {
		return w.refuse(stage, packet.DropNoRoute, netUnreachable)
	}
	way, via := w.choose(r, dst)
	if home, ok := w.homeOf(&way, dst); ok {
		if home.If == nil {
			return w.refuse(stage, packet.DropNoRoute, netUnreachable)
		}
		if way, via = home, home.Via; !via.IsValid() {
			via = dst
		}
	}
	if way.If.Internal || w.gw.If.Internal {
		return w.refuse(stage, packet.DropInternalNetwork, prohibited)
	}
	to, ok := way.If.Segment.(*Network)
	if !ok {
		return w.drop(stage, packet.DropInternal)
	}
	if to == w.net && w.linked() || way.If.Shared && slices.Contains(way.If.External, dst) { // there is nobody else; nor is the host behind its own uplink
		return w.refuse(stage, packet.DropNoRoute, netUnreachable)
	}
	w.egress = to.Bridge.Config()
	egressVersion := w.egress.Version() // before all that is read of the network, as with generations
	if w.hidden(to, dst) {
		return w.drop(stage, packet.DropForeign)
	}
	if way.If.Shared && !carried(k) {
		return w.refuse(stage, packet.DropUplinkRefused, prohibited)
	}
	w.to, w.exit, w.mtu = to, way.If, way.If.MTU
	w.outConf = to.Bridge.Snapshot()
	if w.trace != nil {
		w.trace.step(stage, "route: %s", wayText(r, &way, via))
	}
	a := w.neighbor(stage, way.If, via)
	if a.Hop == nil {
		return false
	}
	w.hop = a.Hop
	if a.Cell != nil {
		w.v.Lean(a.Cell, a.Version, true)
	}
	w.v.Lean(w.egress, egressVersion, false)
	return w.leave(stage)
}

// leave finds the port behind which the next hop is.
func (w *walk) leave(stage string) bool {
	if w.exit.PointToPoint() {
		return w.leaveByLink(stage)
	}
	out, cell, version := w.to.toPort(w.outConf, w.hop.Dst, w.now)
	if out == nil {
		w.absent = true
		if w.set = w.outConf.Flood(0, false); !w.reaches(w.set) {
			return w.drop(stage, packet.DropNoReceiver)
		}
		if w.trace != nil {
			w.trace.step(stage, "flood in network %s: nobody knows where %s is", w.to.Name, macText(w.hop.Dst))
		}
		return true
	}
	w.v.Lean(cell, version, false)
	w.out, w.outTag, w.mtu = out, flow.Untagged, min(w.mtu, out.MTU)
	if w.trace != nil {
		w.trace.step(stage, "bridge: %s is behind port %s", macText(w.hop.Dst), out.Name)
	}
	return true
}

// fit holds the frame against the MTU of its way out. A super-frame is as large as its segments.
func (w *walk) fit(stage string) bool {
	f := w.f
	switch {
	case f.L3Size <= w.mtu:
		return true
	case f.Key.EtherType == packet.EtherTypeIPv6 || f.IPv4().DontFragment():
		return w.refuse(stage, packet.DropFragNeeded, tooBig(w.mtu))
	}
	if !w.snat() { // what leaves here passes no further stage
		return false
	}
	w.v.Taken = true
	if w.trace != nil {
		w.trace.step(stage, "fragmented to fit an MTU of %d", w.mtu)
		w.trace.Outputs = w.egresses()
	} else {
		w.fragment()
	}
	return false
}

// choose picks one of a route's ways by the flow, so that a flow stays on one. While that one's next hop is not known, or dead, it is
// asked for, and the flow takes the next way whose is.
func (w *walk) choose(r *router.Route, dst netip.Addr) (way router.Hop, via netip.Addr) {
	n := len(r.Hops)
	if n == 1 {
		if way = r.Hops[0]; way.Via.IsValid() {
			return way, way.Via
		}
		return way, dst
	}
	t := w.gw.Router.Neighbors()
	first := int(w.flowHash() % uint64(n))
	for i := range n {
		way = r.Hops[(first+i)%n]
		if t.Peek(way.If, way.Via, w.now).Hop != nil {
			return way, way.Via
		}
		w.absent = true // leans on a next hop that is not there
		if w.trace == nil && t.Want(way.If, way.Via, w.in.ID, w.now) {
			solicit(w.v, &router.Solicit{If: way.If, Addr: way.Via}, w.now)
		}
	}
	for i := range n {
		if way = r.Hops[(first+i)%n]; t.Peek(way.If, way.Via, w.now).State != router.Failed {
			break
		}
	}
	return way, way.Via
}

// flowHash mixes what makes a flow of transport; of fragments it is addresses and protocol.
func (w *walk) flowHash() uint64 {
	k := &w.f.Key
	var b [40]byte
	copy(b[:], k.Src[:])
	copy(b[16:], k.Dst[:])
	b[32] = k.Proto
	binary.BigEndian.PutUint16(b[34:], k.SrcPort)
	binary.BigEndian.PutUint16(b[36:], k.DstPort)
	return packet.HashBytes(b[:])
}

// neighbor asks the router's table for the next hop's MAC. Without one the walk ends: the frame waits, or its sender is told.
func (w *walk) neighbor(stage string, i *router.Interface, via netip.Addr) router.Answer {
	t := w.gw.Router.Neighbors()
	if w.trace != nil {
		a := t.Peek(i, via, w.now)
		switch {
		case i.PointToPoint():
		case a.Hop != nil:
			w.trace.step(stage, "neighbor: %s is at %s (%s)", via, macText(a.Hop.Dst), a.State)
		case a.State == router.Failed:
			w.refuse(stage, packet.DropNeighborFailed, hostUnreachable)
		default:
			if a.Ask {
				w.traceAsk(stage, via)
			}
			waits := "waits until " + via.String() + " has told its MAC"
			if mac := w.trace.ownerOf(w.to, via); mac != [6]byte{} {
				w.trace.step(stage, "it %s, and goes on if that is %s, the port's that has the address", waits, macText(mac))
				a.Hop = &flow.Hop{Dst: mac, Src: i.MAC}
				return a
			}
			w.v.Taken = true
			w.trace.Verdict = waits
			w.trace.step(stage, "it %s", waits)
		}
		return a
	}
	a := t.Resolve(i, via, w.f, w.now)
	if a.Ask {
		solicit(w.v, &router.Solicit{If: i, Addr: via}, w.now)
	}
	switch {
	case a.Hop != nil:
	case a.State == router.Failed:
		w.refuse(stage, a.Drop, hostUnreachable)
	case a.Drop != packet.DropNone:
		w.drop(stage, a.Drop)
	default:
		w.v.Taken = true
	}
	return a
}

// traceAsk tells whom a solicitation would reach.
func (w *walk) traceAsk(stage string, via netip.Addr) {
	w.trace.step(stage, "ask network %s for the MAC of %s", w.to.Name, via)
	for _, m := range w.outConf.Flood(0, false).Members {
		if c := w.outConf.Port(m.Port); c != nil {
			w.trace.Answers = append(w.trace.Answers, c.Name)
		}
	}
}

// egresses returns the names of the ports by which a routed frame leaves.
func (w *walk) egresses() (names []string) {
	if w.out != nil {
		return []string{w.out.Name}
	}
	for _, m := range w.set.Members {
		if c := w.outConf.Port(m.Port); c != nil {
			names = append(names, c.Name)
		}
	}
	return names
}

// mayHairpin holds a frame that leaves by the network it came from against what its ports may not do there.
func (w *walk) mayHairpin(stage string) bool {
	switch {
	case w.unruled && w.filter.NoICC():
		return w.drop(stage, packet.DropICCOff)
	case w.in.Isolated && (w.out == nil || w.out.Isolated):
		return w.drop(stage, packet.DropIsolated)
	}
	return true
}

// outputRouted is output for a frame that was routed.
func (w *walk) outputRouted() {
	v := w.v
	if w.f.Key.VLAN != 0 {
		v.Add(flow.Action{Op: flow.OpPopVLAN})
	}
	w.translate()
	w.clamp()
	v.Add(flow.Action{Op: flow.OpRoute, Hop: w.hop})
	if w.out != nil {
		v.Add(flow.Action{Op: flow.OpOutput, Port: w.out.ID})
	} else {
		v.Add(flow.Action{Op: flow.OpFlood, Set: w.set})
	}
	v.MaxL3 = int32(min(w.in.MTU, w.mtu))
	v.Slow |= packet.FlagTTL | packet.FlagOptions | packet.FlagFragment
}
