package pipeline

import (
	"net/netip"
	"slices"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// A network whose gateway's interface is point to point is a link: one port, and one peer behind it, as an uplink or the host. The router
// takes what it reads there whatever its MAC, and what it sends goes to the peer's; no table of MACs has a part in it.

// linked tells whether the frame came by a link.
func (w *walk) linked() bool { return w.gw != nil && w.gw.If.PointToPoint() }

// fromPeer tells whether a frame that came by a link is one for the router: IP to one station. Neighbors are not looked for there.
func (w *walk) fromPeer() bool {
	k := &w.f.Key
	return (k.EtherType == packet.EtherTypeIPv4 || k.EtherType == packet.EtherTypeIPv6) && !w.group() && w.f.Flags&packet.FlagND == 0
}

// ourEcho tells whether a source address is one that the router itself uses on the shared uplink by which the frame came.
func (w *walk) ourEcho(src netip.Addr) bool {
	return w.gw.If.Shared && slices.Contains(w.gw.If.External, src)
}

// homeOf returns the way by the uplink to which a translated frame is bound by its source address, when its way to dst is by another one. There
// is none, and home.If is nil, while that uplink is down.
func (w *walk) homeOf(way *router.Hop, dst netip.Addr) (home router.Hop, ok bool) {
	src, ok := w.newSource()
	if !ok || !way.If.Uplink {
		return home, false
	}
	i := w.fib.Own(src)
	if i == nil {
		i = w.fib.External(src)
	}
	switch {
	case i == nil || i == way.If || !i.Uplink:
		return home, false
	case i.Shared:
		return router.Hop{If: i}, true
	}
	home, _ = w.fib.LookupBy(dst, i)
	return home, true
}

// hidden tells whether the frame came by an uplink to an address in the network that is masqueraded there, and not as an answer, nor to
// a published port: nobody outside has a way to know it.
func (w *walk) hidden(to *Network, dst netip.Addr) bool {
	if !w.gw.If.Uplink || w.tracked || w.published != nil {
		return false
	}
	t := to.nat.Load()
	return t != nil && t.hides(dst, w.gw.If)
}

// newSource returns the source address that the frame's connection gives it; false when it keeps its own.
func (w *walk) newSource() (netip.Addr, bool) {
	switch {
	case w.rewrite != nil && w.rewrite.NewSrc:
		return w.address(&w.rewrite.Src), true
	case w.requote && w.quote.Outer.NewSrc:
		return w.address(&w.quote.Outer.Src), true
	}
	return netip.Addr{}, false
}

// carried tells whether answers to the frame's protocol come back by a shared uplink.
func carried(k *packet.Key) bool {
	switch k.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoICMP, packet.ProtoICMPv6:
		return true
	}
	return false
}

// sourceFits refuses what would leave by a shared uplink with another source than an address of the host's.
func (w *walk) sourceFits() bool {
	const stage = "10 snat"
	if !w.routed || !w.exit.Shared {
		return true
	}
	src, ok := w.newSource()
	if !ok {
		src = w.f.Key.SrcAddr()
	}
	if !slices.Contains(w.exit.External, src) {
		return w.refuse(stage, packet.DropUplinkRefused, prohibited)
	}
	return true
}

// leaveByLink is leave for the one port of a link.
func (w *walk) leaveByLink(stage string) bool {
	ports := w.outConf.Ports()
	if len(ports) == 0 {
		return w.drop(stage, packet.DropNoReceiver)
	}
	w.out, w.outTag, w.mtu = ports[0], flow.Untagged, min(w.mtu, ports[0].MTU)
	if w.trace != nil {
		w.trace.step(stage, "link: by port %s", w.out.Name)
	}
	return true
}
