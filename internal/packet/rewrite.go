package packet

import (
	"encoding/binary"
	"hash/crc32"
)

// Rewrite is what address translation makes of a frame: other endpoints. It is immutable once frames are given it. The port is that of
// TCP, UDP, SCTP, DCCP or UDP-Lite; of an ICMP echo request the source port is its identifier, of a reply the destination port is.
type Rewrite struct {
	Src, Dst         [16]byte // IPv4 as its first four bytes
	SrcPort, DstPort uint16
	NewSrc, NewDst   bool // which of the two endpoints is replaced
	IPv6             bool // what the addresses are, for people
}

// Rewrite gives the frame other endpoints, and its key with them. Checksums are updated, not made anew, so that a wrong one stays wrong
// (RFC 3022 4.1, RFC 1624): that of the IP header, and that of the transport, where a NEEDS_CSUM frame has the sum of its
// pseudo-header and UDP may have none. Fragments are rewritten as far as they go: the first one has the ports, the others addresses only.
func (f *Frame) Rewrite(r *Rewrite) {
	k := &f.Key
	ip := f.ip()
	proto, t, ok := f.Upper()
	if !ok {
		t = nil // a first fragment without ports, which no stack sends
	}
	length := len(t)
	if f.Flags&FlagFragment != 0 {
		length = f.Whole
	}
	ports := rewritePorts(proto, t, length, r)
	addresses := ip.rewrite(r)
	if t != nil {
		fixTransport(proto, t, addresses, ports, f.Vnet().NeedsCsum())
	}
	if r.NewSrc {
		k.Src = r.Src
	}
	if r.NewDst {
		k.Dst = r.Dst
	}
	if f.L4 != 0 {
		f.rekey(t)
	}
}

// rekey takes the ports, or the identifier of an echo, from the frame.
func (f *Frame) rekey(t []byte) {
	switch k := &f.Key; k.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoDCCP, ProtoUDPLite:
		k.SrcPort, k.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	case ProtoICMP, ProtoICMPv6:
		if request, reply := Echo(k.Proto, t[0]); request || reply {
			k.DstPort = binary.BigEndian.Uint16(t[4:])
		}
	}
}

// Echo tells whether an ICMP or ICMPv6 message of that type is an echo request or reply (RFC 792, RFC 4443 4).
func Echo(proto, icmpType uint8) (request, reply bool) {
	if proto == ProtoICMP {
		return icmpType == 8, icmpType == 0
	}
	return icmpType == 128, icmpType == 129
}

// change is what happened to words under a checksum, in the form of RFC 1624, equation 3: the sum of what is and of the
// complement of what was. It fits 32 bits by far.
type change uint32

// replaced is the change by other bytes in the place of those of which was is the sum: its complement is taken off by addition.
func replaced(was uint64, is []byte) change { return change(Fold(Sum(is, ^was))) }

// update returns the checksum after the change.
func (c change) update(checksum uint16) uint16 { return ^c.updatePartial(^checksum) }

// updatePartial returns a sum that is not complemented, as that of a pseudo-header, after the change.
func (c change) updatePartial(sum uint16) uint16 {
	s := uint32(sum) + uint32(c)
	s = s&0xffff + s>>16
	return uint16(s&0xffff + s>>16)
}

// ipHeader is a view of an IPv4 or IPv6 header, whole or quoted in an ICMP error.
type ipHeader []byte

func (f *Frame) ip() ipHeader { return ipHeader(f.buf[f.off+f.L3 : f.off+f.L3End]) }

// pair returns source and destination, which lie side by side.
func (h ipHeader) pair() []byte {
	if h[0]>>4 == 4 {
		return h[12:20]
	}
	return h[8:40]
}

// rewrite replaces the addresses, and returns the change, which IPv4's header checksum follows.
func (h ipHeader) rewrite(r *Rewrite) change {
	p := h.pair()
	n := len(p) / 2
	was := Sum(p, 0)
	if r.NewSrc {
		copy(p[:n], r.Src[:])
	}
	if r.NewDst {
		copy(p[n:], r.Dst[:])
	}
	c := replaced(was, p)
	if n == 4 {
		binary.BigEndian.PutUint16(h[10:], c.update(binary.BigEndian.Uint16(h[10:])))
	}
	return c
}

// rewritePorts replaces the ports, or the identifier of an echo, in a transport header of at least 8 bytes, and returns the change. The
// packet has length bytes, of which t may be the first ones only.
func rewritePorts(proto uint8, t []byte, length int, r *Rewrite) (c change) {
	if t == nil {
		return 0
	}
	set := func(at int, is uint16) {
		c += change(^binary.BigEndian.Uint16(t[at:])) + change(is)
		binary.BigEndian.PutUint16(t[at:], is)
	}
	switch proto {
	case ProtoSCTP:
		rewriteSCTP(t, length, r)
	case ProtoTCP, ProtoUDP, ProtoDCCP, ProtoUDPLite:
		if r.NewSrc {
			set(0, r.SrcPort)
		}
		if r.NewDst {
			set(2, r.DstPort)
		}
	case ProtoICMP, ProtoICMPv6:
		request, reply := Echo(proto, t[0])
		if request && r.NewSrc {
			set(4, r.SrcPort)
		}
		if reply && r.NewDst {
			set(4, r.DstPort)
		}
	}
	return c
}

// rewriteSCTP replaces the ports and carries the CRC32c along, which covers them and no addresses (RFC 9260 6.8). A CRC is linear: what it changes
// by depends on what changed and on how many bytes follow that, not on these. So the length alone is needed where the rest of the
// packet is in other fragments, or was not quoted; and what was broken on the way stays so.
func rewriteSCTP(t []byte, length int, r *Rewrite) {
	was := binary.LittleEndian.Uint32(t)
	if r.NewSrc {
		binary.BigEndian.PutUint16(t, r.SrcPort)
	}
	if r.NewDst {
		binary.BigEndian.PutUint16(t[2:], r.DstPort)
	}
	if len(t) < 12 {
		return // an ICMP error need not quote more (RFC 792)
	}
	c := was ^ binary.LittleEndian.Uint32(t) // zeros through a register that holds four bytes, or these through an empty one: the same
	for n := length; n > 0; n -= len(zeros) {
		c = ^crc32.Update(^c, castagnoli, zeros[:min(n, len(zeros))])
	}
	binary.LittleEndian.PutUint32(t[8:], binary.LittleEndian.Uint32(t[8:])^c)
}

// zeros are what a CRC runs over where the bytes don't matter.
var zeros [2048]byte

// fixTransport updates a transport checksum after a change of ports and of the addresses in its pseudo-header. It leaves alone one that
// lies beyond the end of a quoted header.
func fixTransport(proto uint8, t []byte, addresses, ports change, partial bool) {
	at := csumOffset(proto)
	if proto == ProtoDCCP || proto == ProtoUDPLite {
		at = 6 // RFC 4340 5.1, RFC 3828 3.1
	}
	if proto == ProtoSCTP || at < 0 || len(t) < at+2 {
		return
	}
	field := binary.BigEndian.Uint16(t[at:])
	c := ports
	switch {
	case partial: // the ports are summed up later
		binary.BigEndian.PutUint16(t[at:], addresses.updatePartial(field))
		return
	case proto == ProtoUDP && field == 0:
		return // none was made (RFC 768)
	case proto != ProtoICMP:
		c += addresses
	}
	field = c.update(field)
	if field == 0 && proto == ProtoUDP {
		field = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], field)
}
