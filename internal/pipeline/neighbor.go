package pipeline

import (
	"encoding/binary"
	"net/netip"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// Types of Neighbor Discovery (RFC 4861 4.3, 4.4) and its options for link-layer addresses (4.6.1).
const (
	ndSolicit   = 135
	ndAdvertise = 136

	ndSourceLL = 1
	ndTargetLL = 2

	naRouter, naSolicited, naOverride = 0x80, 0x40, 0x20
)

// arp answers requests for the gateway's addresses and learns what a neighbor says of itself.
func (w *walk) arp(stage string) bool {
	a := packet.ARP(w.f.Bytes()[w.f.L3:])
	i := w.gw.If
	sender, target := netip.AddrFrom4([4]byte(a.SenderIP())), netip.AddrFrom4([4]byte(a.TargetIP()))
	if i.Owns(sender) {
		return w.drop(stage, packet.DropGatewaySpoof)
	}
	mac := [6]byte(a.SenderMAC())
	w.hear(router.Saying{Addr: sender, MAC: mac, Answer: a.Op() == 2 && w.fib != nil, Override: true})
	if a.Op() == 1 && w.forUs() && i.Owns(target) && (sender.IsUnspecified() || i.OnLink(sender)) && mac[0]&1 == 0 {
		w.mine = true
		w.answer(stage, "ARP reply: "+target.String()+" is at "+macText(i.MAC), func() []byte {
			b := make([]byte, 60)
			copy(b, w.f.Key.SrcMAC[:])
			copy(b[6:], i.MAC[:])
			binary.BigEndian.PutUint16(b[12:], packet.EtherTypeARP)
			copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 2})
			copy(b[22:], i.MAC[:])
			copy(b[28:], a.TargetIP())
			copy(b[32:], a.SenderMAC())
			copy(b[38:], a.SenderIP())
			return b
		})
	}
	return w.fib == nil || w.take(stage, "ARP")
}

// forUs tells whether the frame was sent to the gateway's MAC or to a group.
func (w *walk) forUs() bool { return w.fib != nil || w.group() }

// nd is arp for Neighbor Discovery: solicitations and advertisements that are valid (RFC 4861 7.1).
func (w *walk) nd(stage string) bool {
	h, t := w.f.IPv6(), w.f.Transport()
	if h.HopLimit() != 255 || t[1] != 0 || len(t) < 24 || !w.f.VerifyTransport() {
		return w.fib == nil || w.drop(stage, packet.DropNotRoutable)
	}
	i := w.gw.If
	src, target := netip.AddrFrom16([16]byte(h.Src())), netip.AddrFrom16([16]byte(t[8:24]))
	ll, ok := ndOption(t[24:], map[uint8]uint8{ndSolicit: ndSourceLL, ndAdvertise: ndTargetLL}[t[0]])
	if !ok || target.IsMulticast() {
		return w.fib == nil || w.drop(stage, packet.DropNotRoutable)
	}
	switch {
	case t[0] == ndAdvertise && i.Owns(target) || i.Owns(src):
		return w.drop(stage, packet.DropGatewaySpoof)
	case t[0] == ndAdvertise:
		if ll == nil { // without the option it is whom we asked (RFC 4861 4.4)
			ll = w.f.Key.SrcMAC[:]
		}
		w.hear(router.Saying{Addr: target, MAC: [6]byte(ll), Answer: t[4]&naSolicited != 0 && w.fib != nil, Override: t[4]&naOverride != 0})
	case src.IsUnspecified() && ll != nil:
		return w.fib == nil || w.drop(stage, packet.DropNotRoutable)
	default:
		if ll != nil {
			w.hear(router.Saying{Addr: src, MAC: [6]byte(ll), Override: true})
		}
		if w.forUs() && i.Owns(target) && (src.IsUnspecified() || i.OnLink(src)) {
			w.mine = true
			w.answer(stage, "neighbor advertisement: "+target.String()+" is at "+macText(i.MAC), func() []byte {
				return advertise(i, target, src, w.f.Key.SrcMAC)
			})
		}
	}
	return w.fib == nil || w.take(stage, "neighbor discovery")
}

// ndOption finds the link-layer address option of a kind. ok is false when the options are malformed.
func ndOption(b []byte, kind uint8) (ll []byte, ok bool) {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || len(b) < 8*int(b[1]) {
			return nil, false
		}
		if b[0] == kind && ll == nil {
			ll = b[2:8]
		}
		b = b[8*int(b[1]):]
	}
	return ll, true
}

// hear tells the neighbor table, and lets the frames go on that have waited for it.
func (w *walk) hear(s router.Saying) {
	if w.trace != nil {
		return
	}
	for _, f := range w.gw.Router.Neighbors().Hear(w.gw.If, s, w.now) {
		w.v.Make(&flow.Made{Frame: f})
	}
}

// answer sends a frame of our own back to where this one came from.
func (w *walk) answer(stage, what string, frame func() []byte) {
	if w.trace != nil {
		w.trace.step(stage, "answer to %s: %s", w.in.Name, what)
		w.trace.Answers = append(w.trace.Answers, w.in.Name)
		return
	}
	w.v.Make(&flow.Made{Bytes: w.tagged(frame()), Port: w.in.ID})
}

// take ends the walk of a frame that was for the router itself.
func (w *walk) take(stage, what string) bool {
	w.v.Taken = true
	if w.trace != nil {
		w.trace.step(stage, "for the gateway itself: %s", what)
	}
	return false
}

// solicitation is the ARP request or neighbor solicitation, to one MAC or, when that is zero, to all that might have the address.
func solicitation(s *router.Solicit) []byte {
	src := s.If.Source(s.Addr)
	if s.Addr.Is4() {
		b := gratuitousARP(s.If.MAC, src)
		t := s.Addr.As4()
		copy(b[38:], t[:])
		if s.MAC != [6]byte{} {
			copy(b, s.MAC[:])
		}
		return b
	}
	t := s.Addr.As16()
	dst, mac := s.Addr, s.MAC
	if mac == [6]byte{} { // the solicited-node group (RFC 4291 2.7.1)
		dst = netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
		mac = [6]byte{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	}
	b := newIPv6(mac, s.If.MAC, src, dst, packet.ProtoICMPv6, 255, 32)
	m := b[54:]
	m[0] = ndSolicit
	copy(m[8:], t[:])
	m[24], m[25] = ndSourceLL, 1
	copy(m[26:], s.If.MAC[:])
	finishICMPv6(b)
	return b
}

// advertise is the answer to a solicitation (RFC 4861 7.2.4).
func advertise(i *router.Interface, target, to netip.Addr, mac [6]byte) []byte {
	flags := byte(naRouter | naOverride)
	if to.IsUnspecified() { // somebody tries whether the address is free: all shall know that it is not
		to, mac = netip.IPv6LinkLocalAllNodes(), [6]byte{0x33, 0x33, 0, 0, 0, 1}
	} else {
		flags |= naSolicited
	}
	b := newIPv6(mac, i.MAC, target, to, packet.ProtoICMPv6, 255, 32)
	m := b[54:]
	m[0], m[4] = ndAdvertise, flags
	t := target.As16()
	copy(m[8:], t[:])
	m[24], m[25] = ndTargetLL, 1
	copy(m[26:], i.MAC[:])
	finishICMPv6(b)
	return b
}
