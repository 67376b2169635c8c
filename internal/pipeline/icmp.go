package pipeline

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"vswitch/internal/packet"
)

// icmpKind is an ICMP error in both families: type and code of RFC 792 and of RFC 4443.
type icmpKind struct {
	name           string
	type4, code4   uint8
	type6, code6   uint8
	value4, value6 uint32 // the second word: MTU or pointer
}

var (
	netUnreachable  = icmpKind{name: "network unreachable", type4: 3, code4: 0, type6: 1, code6: 0}
	hostUnreachable = icmpKind{name: "host unreachable", type4: 3, code4: 1, type6: 1, code6: 3}
	portUnreachable = icmpKind{name: "port unreachable", type4: 3, code4: 3, type6: 1, code6: 4}
	beyondScope     = icmpKind{name: "beyond scope", type4: 3, code4: 0, type6: 1, code6: 2}
	prohibited      = icmpKind{name: "administratively prohibited", type4: 3, code4: 13, type6: 1, code6: 1}
	timeExceeded    = icmpKind{name: "time exceeded", type4: 11, code4: 0, type6: 3, code6: 0}
	// The pointer is to the next header field of the IPv6 header (RFC 4443 3.4).
	protoUnreachable = icmpKind{name: "protocol unreachable", type4: 3, code4: 2, type6: 4, code6: 1, value6: 6}
)

func tooBig(mtu int) icmpKind {
	return icmpKind{
		name: fmt.Sprintf("too big, MTU %d", mtu), type4: 3, code4: 4, type6: 2, code6: 0, value4: uint32(mtu), value6: uint32(mtu),
	}
}

// The longest errors: RFC 1812 4.3.2.3, RFC 4443 2.4 c.
const (
	maxError4 = 576
	maxError6 = 1280
)

// refuse drops the frame and tells its sender.
func (w *walk) refuse(stage string, r packet.DropReason, k icmpKind) bool {
	w.drop(stage, r)
	w.icmpError(k)
	return false
}

// icmpError tells the sender of the frame that it was not delivered, unless that must not be (RFC 1812 4.3.2.7, RFC 4443 2.4 e):
// about ICMP errors, later fragments, groups, and too often.
func (w *walk) icmpError(k icmpKind) {
	if !w.mayTell() {
		return
	}
	from := w.gw.If.Source(w.f.Key.SrcAddr())
	if from.IsValid() && (w.trace != nil || w.gw.Router.Errors().Take(w.now)) {
		w.tell(k, w.gw.If.MAC, from, min(w.gw.If.MTU, w.in.MTU))
	}
}

// tell sends the sender of the frame an ICMP error of limit bytes at most.
func (w *walk) tell(k icmpKind, mac [6]byte, from netip.Addr, limit int) {
	f := w.f
	to := f.Key.SrcAddr()
	w.answer("", "ICMP "+k.name+" from "+from.String(), func() []byte {
		dgram := f.Bytes()[f.L3:f.L3End]
		if to.Is4() {
			n := min(len(dgram), min(limit, maxError4)-28)
			b := newIPv4(f.Key.SrcMAC, mac, from, to, packet.ProtoICMP, 8+n)
			b[15] = 0xc0 // RFC 1812 4.3.2.5: internetwork control
			t := b[34:]
			t[0], t[1] = k.type4, k.code4
			binary.BigEndian.PutUint32(t[4:], k.value4)
			copy(t[8:], dgram[:n])
			finishICMPv4(b)
			return b
		}
		n := min(len(dgram), min(limit, maxError6)-48)
		b := newIPv6(f.Key.SrcMAC, mac, from, to, packet.ProtoICMPv6, 64, 8+n)
		t := b[54:]
		t[0], t[1] = k.type6, k.code6
		binary.BigEndian.PutUint32(t[4:], k.value6)
		copy(t[8:], dgram[:n])
		finishICMPv6(b)
		return b
	})
}

// ndRedirect is a type of ICMPv6 that no error is about, though it is none (RFC 4443 2.4 e.2).
const ndRedirect = 137

// mayTell says whether the frame is one about which errors may be sent.
func (w *walk) mayTell() bool {
	f := w.f
	src := f.Key.SrcAddr()
	redirect := f.Flags&packet.FlagND != 0 && f.Key.SrcPort>>8 == ndRedirect
	if w.group() || f.Flags&packet.FlagICMPError != 0 || redirect || !src.IsValid() || martianSource(src) {
		return false
	}
	if f.Flags&packet.FlagFragment == 0 {
		return true
	}
	proto, header, ok := f.Upper()
	if !ok || header == nil {
		return false
	}
	echo := proto == packet.ProtoICMP && (header[0] == 8 || header[0] == 0) || proto == packet.ProtoICMPv6 && header[0] >= 128
	return echo || proto != packet.ProtoICMP && proto != packet.ProtoICMPv6
}

// toUs handles a datagram to one of the router's own addresses: echo requests are answered, nothing else is there.
func (w *walk) toUs(stage string) bool {
	f, k := w.f, &w.f.Key
	request, icmp := uint8(8), uint8(packet.ProtoICMP)
	if k.EtherType == packet.EtherTypeIPv6 {
		request, icmp = 128, packet.ProtoICMPv6
	}
	if f.Flags&packet.FlagFragment != 0 {
		return w.fragmentToUs(stage, icmp, request)
	}
	switch {
	case k.Proto == icmp && f.L4 != 0 && k.SrcPort == uint16(request)<<8:
		if !f.VerifyTransport() {
			return w.drop(stage, packet.DropBadICMP)
		}
		return w.echo(stage, f.Transport(), nil, true)
	case k.Proto == icmp || f.Flags&packet.FlagOptions != 0:
		return w.drop(stage, packet.DropNoService)
	case k.Proto == packet.ProtoTCP || k.Proto == packet.ProtoUDP:
		return w.refuse(stage, packet.DropNoService, portUnreachable)
	}
	return w.refuse(stage, packet.DropNoService, protoUnreachable)
}

// fragmentToUs answers the fragments of an echo request one by one: what differs in the answer's first one is the type, and the
// checksum of the whole by as much. Nothing has to be put together.
func (w *walk) fragmentToUs(stage string, icmp, request uint8) bool {
	k := &w.f.Key
	at, drop := w.f.Fragment()
	if k.Proto != icmp || k.SrcPort != uint16(request)<<8 || drop != packet.DropNone {
		return w.drop(stage, packet.DropNoService)
	}
	if k.EtherType == packet.EtherTypeIPv4 {
		h := w.f.IPv4()
		return w.echo(stage, h[h.HeaderLen():], h[4:8], at.Start == 0)
	}
	h := w.f.IPv6()
	if h.NextHeader() != 44 {
		return w.drop(stage, packet.DropNoService)
	}
	return w.echo(stage, h[48:], h[40:48], at.Start == 0)
}

// echo sends data back: an ICMP message, or a fragment of one with what its header says of that. first: it begins with the type.
func (w *walk) echo(stage string, data, fragment []byte, first bool) bool {
	k := &w.f.Key
	w.answer(stage, "echo reply", func() []byte {
		var b, t []byte
		reply := uint16(0)
		if k.EtherType == packet.EtherTypeIPv4 {
			b = newIPv4(k.SrcMAC, k.DstMAC, k.DstAddr(), k.SrcAddr(), packet.ProtoICMP, len(data))
			b[15] = w.f.IPv4().TOS()
			if fragment != nil {
				copy(b[18:22], fragment)
			}
			finishIPv4(b)
			t = b[34:]
		} else {
			next := uint8(packet.ProtoICMPv6)
			if fragment != nil {
				next = 44
			}
			b = newIPv6(k.SrcMAC, k.DstMAC, k.DstAddr(), k.SrcAddr(), next, 64, len(fragment)+len(data))
			h := w.f.IPv6() // whose traffic class it has
			b[14], b[15] = h[0], h[1]&0xf0
			copy(b[54:], fragment)
			t = b[54+len(fragment):]
			reply = 129 << 8
		}
		copy(t, data)
		if first {
			was := binary.BigEndian.Uint16(t)
			binary.BigEndian.PutUint16(t, reply)
			binary.BigEndian.PutUint16(t[2:], packet.UpdateSum(binary.BigEndian.Uint16(t[2:]), was, reply))
		}
		return b
	})
	return w.take(stage, "echo request")
}

// newIPv4 makes a frame with a datagram of n bytes of payload, whose checksums are to be made.
func newIPv4(dst, src [6]byte, from, to netip.Addr, proto uint8, n int) []byte {
	b := make([]byte, 34+n)
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeIPv4)
	b[14] = 0x45
	binary.BigEndian.PutUint16(b[16:], uint16(20+n))
	b[20] = 0x40 // DF: the identification means nothing (RFC 6864 4.1)
	b[22], b[23] = 64, proto
	copy(b[26:], from.AsSlice())
	copy(b[30:], to.AsSlice())
	return b
}

func finishIPv4(b []byte) {
	binary.BigEndian.PutUint16(b[24:], 0)
	binary.BigEndian.PutUint16(b[24:], ^packet.Fold(packet.Sum(b[14:34], 0)))
}

func finishICMPv4(b []byte) {
	finishIPv4(b)
	binary.BigEndian.PutUint16(b[36:], ^packet.Fold(packet.Sum(b[34:], 0)))
}

// newIPv6 is newIPv4 for IPv6.
func newIPv6(dst, src [6]byte, from, to netip.Addr, next, hops uint8, n int) []byte {
	b := make([]byte, 54+n)
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeIPv6)
	b[14] = 0x60
	binary.BigEndian.PutUint16(b[18:], uint16(n))
	b[20], b[21] = next, hops
	copy(b[22:], from.AsSlice())
	copy(b[38:], to.AsSlice())
	return b
}

func finishICMPv6(b []byte) {
	t := b[54:]
	binary.BigEndian.PutUint16(t[2:], ^packet.Fold(packet.Sum(t, packet.PseudoSum(b[22:38], b[38:54], packet.ProtoICMPv6, len(t)))))
}
