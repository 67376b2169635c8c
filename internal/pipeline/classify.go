package pipeline

import (
	l2switch "vswitch/switch"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// walk is one frame's way through the stages. It lives on the stack of whoever decides.
type walk struct {
	p     *Pipeline
	f     *packet.Frame
	now   int64 // nanoseconds
	v     *flow.Verdict
	trace *Trace // nil but for what-if: then nothing is learned

	net  *Network
	conf *l2switch.Snapshot
	in   *l2switch.PortConf
	vlan uint16 // VLAN of the network that the frame belongs to; 0 is the untagged one

	leg
	translation
	judgement
	out     *l2switch.PortConf // the one egress; nil when flooded
	outConf *l2switch.Snapshot // the network's that it leaves by
	egress  *flow.Cell         // of that network's configuration, when routed
	outTag  flow.TagOp
	set     *flow.FloodSet
	absent  bool // the decision leans on something that is not there: never cached
	deep    bool // the decision leans on more of the frame than Key.L2: a stage that looks there sets it
	held    bool // the decision leans on a source that is held elsewhere for a while: never cached either
	self    bool // what-if, where nothing is learned: the source would be found behind the ingress
}

// Classify decides the fate of a parsed frame. It is the slow path: the first frame of each flow, and those that are never
// cached. now is in nanoseconds.
func (p *Pipeline) Classify(f *packet.Frame, now int64, v *flow.Verdict) {
	p.walk(f, now, v, nil)
}

// walk runs the stages in their order; each tells whether to go on. A stage that ends the walk has named the reason or
// added the actions.
func (p *Pipeline) walk(f *packet.Frame, now int64, v *flow.Verdict, t *Trace) {
	w := walk{p: p, f: f, now: now, v: v, trace: t}
	_ = w.admit() && //     1  port up? VLAN rules, source guard
		w.learn() && //     2  (VLAN, MAC) -> port
		w.split() && //     3  ours, others', or both
		w.track() && //     4  connection of the tuple
		w.dnat() && //      5  published ports
		w.filterIn() && //  6  rules of the ingress
		w.local() && //     7  what we answer ourselves
		w.decide() && //    8  bridge or route: the egress is known
		w.filterOut() && // 9  rules of the egress, isolation
		w.snat() && //      10 masquerade
		w.output() //       11 tags; port or flood set
}

// drop ends the walk. Drops are not cached: they cost no more than the walk so far.
func (w *walk) drop(stage string, r packet.DropReason) bool {
	made := w.v.Made // what was answered stays answered
	w.v.Reset()
	w.v.Drop, w.v.Made = r, made
	if w.trace != nil {
		w.trace.step(stage, "drop: %s (%s)", r, r.Sentence())
	}
	return false
}

// admit finds the ingress port's network and configuration and refuses what may not come in by it.
func (w *walk) admit() bool {
	const stage = "1 admit"
	w.net = w.p.network(w.f.Key.InPort)
	if w.net == nil {
		return w.drop(stage, packet.DropPortDown)
	}
	gen := w.net.Bridge.Gen()
	w.v.Gens[0] = flow.GenRef{Gen: gen, Value: gen.Load()} // before the snapshot, see flow.GenRef
	w.conf = w.net.Bridge.Snapshot()
	w.outConf = w.conf
	w.in = w.conf.Port(w.f.Key.InPort)
	if w.in == nil {
		return w.drop(stage, packet.DropPortDown)
	}
	k := &w.f.Key
	if k.SrcMAC[0]&1 != 0 || k.SrcMAC == [6]byte{} {
		return w.drop(stage, packet.DropBadSourceMAC)
	}
	if l2switch.BPDU(k.DstMAC) {
		return w.drop(stage, packet.DropBPDU)
	}
	if l2switch.ReservedGroup(k.DstMAC) {
		return w.drop(stage, packet.DropReservedGroup)
	}
	var ok bool
	if w.vlan, ok = w.in.Member.Ingress(k.VLAN); !ok {
		return w.drop(stage, packet.DropVLANNotMember)
	}
	if w.ownProbe() {
		return w.drop(stage, packet.DropLoopProbe)
	}
	if w.in.Blocked {
		return w.drop(stage, packet.DropPortBlocked)
	}
	if !w.meet(stage) {
		return false
	}
	if w.f.L3Size > w.in.MTU {
		return w.drop(stage, packet.DropOverMTU)
	}
	if w.trace != nil {
		w.trace.step(stage, "port %s of network %s, %s", w.in.Name, w.net.Name, vlanText(w.vlan))
	}
	return w.guard(stage)
}

// learn notes behind which port the source is. The flow leans on that, and its use keeps the entry from ageing.
func (w *walk) learn() bool {
	const stage = "2 learn"
	if w.linked() {
		return true
	}
	k := &w.f.Key
	fdb := w.net.Bridge.FDB()
	if w.trace != nil {
		what, old := fdb.Peek(w.vlan, k.SrcMAC, w.in.ID, w.now)
		w.held = what == l2switch.Damped || what == l2switch.Held
		w.self = what != l2switch.RefusedStatic && what != l2switch.RefusedGone && !w.held
		w.trace.step(stage, "%s", w.learnText(what, old))
		return true
	}
	cell, version, what, old := fdb.Learn(w.vlan, k.SrcMAC, w.in.ID, w.now)
	w.v.Lean(cell, version, !what.Elsewhere() || what == l2switch.Moved)
	w.held = what == l2switch.Damped || what == l2switch.Held
	if what.Elsewhere() {
		suspicious := w.net.Bridge.Loops().Suspect(w.vlan, w.in.ID, old, w.now)
		if suspicious || what == l2switch.Damped {
			w.p.Wake()
		}
	}
	return true
}

// split tells frames for the network's gateway from those for others. Groups are for both.
func (w *walk) split() bool {
	const stage = "3 split"
	if w.linked() && !w.fromPeer() {
		return w.drop(stage, packet.DropNotRoutable)
	}
	ours := w.ours()
	switch {
	case w.trace == nil:
	case ours:
		w.trace.step(stage, "for the gateway, router %s", w.gw.Router.Name())
	case w.group():
		w.trace.step(stage, "group address: for everybody in the VLAN")
	}
	return true
}

// track finds the connection of the tuple, when rules or NAT ask for it.
func (w *walk) track() bool { return w.trackConn() }

// dnat applies published ports and virtual addresses.
func (w *walk) dnat() bool { return w.dnatPublished() }

// filterIn applies the rules of the ingress.
func (w *walk) filterIn() bool { return w.judgeIn("6 filter-in") }

// local takes what the switch answers itself: ARP and ND, echo requests to its own addresses, services.
func (w *walk) local() bool { return w.gw == nil || w.localRouter() }

// decide finds the egress: that of the route; else the FDB's port for a known address, everybody for the others.
func (w *walk) decide() bool {
	const stage = "8 decide"
	k := &w.f.Key
	if w.routed {
		return w.route()
	}
	if w.f.Flags&packet.FlagGroup != 0 {
		return w.flood(stage, "group address")
	}
	id, cell, version, ok := w.net.Bridge.FDB().Lookup(w.vlan, k.DstMAC, w.now)
	if w.self && k.DstMAC == k.SrcMAC {
		return w.drop(stage, packet.DropSamePort)
	}
	if !ok {
		w.absent = true
		return w.flood(stage, "unknown destination")
	}
	out := w.conf.Port(id)
	if out == nil { // the port was removed after we took the snapshot, or before its entry was
		w.absent = true
		return w.flood(stage, "destination's port is being removed")
	}
	w.v.Lean(cell, version, false)
	if id == k.InPort {
		return w.drop(stage, packet.DropSamePort)
	}
	tag, ok := out.Member.Egress(w.vlan)
	if !ok { // learned before its port left the VLAN
		w.absent = true
		return w.flood(stage, "destination's port left the VLAN")
	}
	if out.Blocked { // the other end of its loop leads there too
		w.absent = true
		return w.flood(stage, "destination's port is blocked")
	}
	w.out, w.outTag = out, tag
	if w.trace != nil {
		w.trace.step(stage, "bridge: %s is behind port %s", macText(k.DstMAC), out.Name)
	}
	return true
}

func (w *walk) flood(stage, why string) bool {
	if w.alone {
		return w.nobody(stage, packet.DropICCOff)
	}
	w.set = w.conf.Flood(w.vlan, w.in.Isolated)
	if !w.reaches(w.set) {
		if w.in.Isolated && w.reaches(w.conf.Flood(w.vlan, false)) {
			return w.nobody(stage, packet.DropIsolated)
		}
		return w.nobody(stage, packet.DropNoReceiver)
	}
	if w.trace != nil {
		w.trace.step(stage, "bridge: %s %s, flood in %s", why, macText(w.f.Key.DstMAC), vlanText(w.vlan))
	}
	return true
}

// nobody ends a flood that no port hears. It is no loss when the gateway did.
func (w *walk) nobody(stage string, r packet.DropReason) bool {
	if w.mine {
		return w.take(stage, "no port hears it")
	}
	return w.drop(stage, r)
}

// reaches tells whether anybody but the ingress is in the set.
func (w *walk) reaches(s *flow.FloodSet) bool {
	return len(s.Members) > 1 || len(s.Members) == 1 && s.Members[0].Port != w.in.ID
}

// filterOut applies what the egress forbids. The flood set has left out who is isolated.
func (w *walk) filterOut() bool {
	const stage = "9 filter-out"
	switch {
	case w.routed:
		return (w.to != w.net || w.mayHairpin(stage)) && w.judgeOut(stage) && w.fit(stage)
	case w.out == nil:
	case w.in.Isolated && w.out.Isolated:
		return w.drop(stage, packet.DropIsolated)
	case w.f.L3Size > w.out.MTU:
		return w.drop(stage, packet.DropOverMTU)
	}
	return w.judgeOut(stage)
}

// snat masquerades, and opens the connection that the answers will belong to.
func (w *walk) snat() bool { return w.snatRouted() && w.sourceFits() }

// output turns the decision into actions and says whether they may be replayed. A priority tag belongs to no VLAN (IEEE
// 802.1Q 6.9) and ends here, but its priority goes on where the frame leaves with a tag.
func (w *walk) output() bool {
	v, k := w.v, &w.f.Key
	tagged := k.VLAN != 0
	priority := tagged && k.VLAN&packet.VLANMask == 0
	v.MaxL3 = int32(w.in.MTU)
	if w.routed {
		w.outputRouted()
	} else if w.out == nil {
		w.meter()
		if priority && w.vlan == 0 {
			v.Add(flow.Action{Op: flow.OpPopVLAN})
		} else if priority {
			v.Add(flow.Action{Op: flow.OpSetVLAN, VLAN: w.vlan})
		}
		v.Add(flow.Action{Op: flow.OpFlood, Set: w.set})
	} else {
		switch {
		case tagged && w.outTag == flow.Untagged:
			v.Add(flow.Action{Op: flow.OpPopVLAN})
		case priority:
			v.Add(flow.Action{Op: flow.OpSetVLAN, VLAN: w.vlan})
		case !tagged && w.outTag == flow.Tagged:
			v.Add(flow.Action{Op: flow.OpPushVLAN, VLAN: w.vlan})
		}
		v.Add(flow.Action{Op: flow.OpOutput, Port: w.out.ID})
		v.MaxL3 = int32(min(w.in.MTU, w.out.MTU))
	}
	if w.tracked { // its connection has to see them
		v.Slow |= packet.FlagSYN | packet.FlagFIN | packet.FlagRST
	}
	if w.gw != nil { // which hears them, whomever they are for
		v.Slow |= packet.FlagND
	}
	v.L2 = !w.deep
	v.Cacheable = !w.absent && !w.held && w.trace == nil && w.f.Flags&v.Slow == 0 && !neverCached(w.f) && v.Made == nil
	w.guardAgain()
	if w.trace != nil {
		w.trace.output(w)
	}
	return true
}

// neverCached tells whether each frame of the kind is decided on its own: those that tables learn from, those about other
// flows, and our own probes among the ARP packets.
func neverCached(f *packet.Frame) bool {
	return f.Key.EtherType == packet.EtherTypeARP || f.Flags&(packet.FlagICMPError|packet.FlagND) != 0
}
