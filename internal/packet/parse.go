package packet

import "encoding/binary"

// Flags say what a frame is beyond its Key: what a cached decision may not be applied to.
type Flags uint32

const (
	FlagTTL       Flags = 1 << iota // TTL or hop limit <= 1
	FlagSYN                         // TCP SYN, SCTP INIT and INIT ACK
	FlagFIN                         // TCP FIN, SCTP SHUTDOWN and what follows it
	FlagRST                         // TCP RST, SCTP ABORT
	FlagFragment                    // any fragment of a datagram; its ports are not in the Key, unless SetPorts put them there
	FlagOptions                     // IPv4 options or IPv6 extension headers
	FlagICMPError                   // an ICMP error that quotes another datagram
	FlagGroup                       // destination MAC is multicast or broadcast
	FlagGSO                         // a super-frame
	FlagND                          // Neighbor Discovery: ICMPv6 types 133 to 137 (RFC 4861 4)
	FlagPorts                       // a fragment with its datagram's ports in the Key; not set by Parse
)

const (
	maxTags       = 3 // VLAN tags looked through to find the IP header
	maxExtensions = 8 // IPv6 extension headers, as many as any stack sends
)

// Parse validates the frame once, for all that comes after: bounds, lengths, the vnet header. It sets the offsets, the Key
// (whose InPort, VNI and Remote it leaves alone) and the Flags, and returns DropNone or why the frame must die.
//
//  1. Ethernet and VLAN tags
//  2. IP: lengths, fragments, extension headers
//  3. transport: ports or ICMP type
//  4. vnet header: is it true of this frame? From then on NEEDS_CSUM means the TCP or UDP checksum and nothing else, and
//     GSO means NEEDS_CSUM and more than one segment.
func (f *Frame) Parse() DropReason {
	if f.end-f.off < 14 {
		return DropRunt
	}
	if f.end-f.off > MaxFrame {
		return DropOversize
	}
	b := f.buf[f.off:f.end]
	k := &f.Key
	*k = Key{InPort: k.InPort, VNI: k.VNI, Remote: k.Remote}
	copy(k.DstMAC[:], b[0:6])
	copy(k.SrcMAC[:], b[6:12])
	f.Flags = 0
	if b[0]&1 != 0 {
		f.Flags = FlagGroup
	}
	et, l3, r := f.parseTags(b)
	if r != DropNone {
		return r
	}
	f.L3, f.L4, f.Payload, f.L3End = l3, 0, 0, len(b)
	f.L3Size, f.Segs, f.Whole = len(b)-l3, 1, 0
	switch et {
	case EtherTypeIPv4:
		r = f.parseIPv4(b)
	case EtherTypeIPv6:
		r = f.parseIPv6(b)
	case EtherTypeARP:
		r = f.parseARP(b)
	}
	if r != DropNone {
		return r
	}
	if v := f.Vnet(); binary.LittleEndian.Uint32(v) != 0 { // flags, GSO type, header length
		return f.parseVnet(v)
	}
	return DropNone
}

// parseTags finds the EtherType behind all tags. Only an outermost 802.1Q tag is ours to judge (Key.VLAN), all others are opaque.
func (f *Frame) parseTags(b []byte) (et uint16, l3 int, r DropReason) {
	et, l3 = binary.BigEndian.Uint16(b[12:]), 14
	for n := 0; n < maxTags && (et == EtherTypeVLAN || et == EtherTypeQinQ || et == EtherTypeQinQ1); n++ {
		if len(b) < l3+4 {
			return 0, 0, DropBadVLAN
		}
		vid := binary.BigEndian.Uint16(b[l3:])&VLANMask | VLANPresent
		switch {
		case n == 0 && et == EtherTypeVLAN:
			f.Key.VLAN = vid
		case n == 0:
			f.Key.Inner = vid | vlanService
		case f.Key.Inner == 0:
			f.Key.Inner = vid
		}
		et, l3 = binary.BigEndian.Uint16(b[l3+2:]), l3+4
	}
	if et < 0x600 {
		return 0, l3, DropNone // IEEE 802.3 length, LLC follows
	}
	f.Key.EtherType = et
	return et, l3, DropNone
}

func (f *Frame) parseARP(b []byte) DropReason {
	a := ARP(b[f.L3:])
	// Hardware type Ethernet, protocol IPv4, lengths 6 and 4 (RFC 826).
	if len(a) < ARPLen || binary.BigEndian.Uint64(a)>>16 != 0x000108000604 {
		return DropBadARP
	}
	f.Key.SrcPort = a.Op()
	copy(f.Key.Src[:], a.SenderIP())
	copy(f.Key.Dst[:], a.TargetIP())
	return DropNone
}

func (f *Frame) parseIPv4(b []byte) DropReason {
	h := IPv4(b[f.L3:])
	if len(h) < 20 || h[0]>>4 != 4 {
		return DropBadIPv4
	}
	hl, total := h.HeaderLen(), int(h.TotalLen())
	if hl < 20 || total < hl || total > len(h) {
		return DropBadIPv4
	}
	f.L3End = f.L3 + total
	k := &f.Key
	copy(k.Src[:4], h[12:16])
	copy(k.Dst[:4], h[16:20])
	k.Proto = h[9]
	if h[8] <= 1 {
		f.Flags |= FlagTTL
	}
	if hl > 20 {
		f.Flags |= FlagOptions
	}
	offset, more := h.Fragment()
	if offset != 0 || more {
		f.Flags |= FlagFragment
		return DropNone
	}
	return f.parseTransport(b, f.L3+hl, k.Proto)
}

func (f *Frame) parseIPv6(b []byte) DropReason {
	h := IPv6(b[f.L3:])
	if len(h) < 40 || h[0]>>4 != 6 || 40+int(h.PayloadLen()) > len(h) {
		return DropBadIPv6
	}
	f.L3End = f.L3 + 40 + int(h.PayloadLen())
	k := &f.Key
	copy(k.Src[:], h[8:24])
	copy(k.Dst[:], h[24:40])
	if h[7] <= 1 {
		f.Flags |= FlagTTL
	}
	next, at, r := f.parseExtensions(b[:f.L3End], h.NextHeader(), f.L3+40)
	k.Proto = next
	if r != DropNone || f.Flags&FlagFragment != 0 {
		return r
	}
	return f.parseTransport(b, at, next)
}

// parseExtensions walks the extension headers (RFC 8200 4.1) and returns the upper protocol and where its header is.
func (f *Frame) parseExtensions(b []byte, next uint8, at int) (uint8, int, DropReason) {
	for range maxExtensions {
		var n int
		switch next {
		case 0, 43, 60, 135: // hop-by-hop, routing, destination options, mobility
			if len(b) < at+8 {
				return next, at, DropBadIPv6
			}
			n = 8 + 8*int(b[at+1])
		case 51: // authentication header (RFC 4302 2.2)
			if len(b) < at+8 {
				return next, at, DropBadIPv6
			}
			n = max(12, 8+4*int(b[at+1]))
		case 44: // fragment
			if len(b) < at+8 {
				return next, at, DropBadIPv6
			}
			f.Flags |= FlagOptions
			if binary.BigEndian.Uint16(b[at+2:])&0xfff9 != 0 {
				f.Flags |= FlagFragment
				return b[at], at + 8, DropNone
			}
			n = 8 // an atomic fragment (RFC 6946)
		default:
			return next, at, DropNone
		}
		f.Flags |= FlagOptions
		if len(b) < at+n {
			return next, at, DropBadIPv6
		}
		next, at = b[at], at+n
	}
	return next, at, DropBadIPv6
}

func (f *Frame) parseTransport(b []byte, at int, proto uint8) DropReason {
	t := b[at:f.L3End]
	k := &f.Key
	switch proto {
	case ProtoTCP:
		if len(t) < 20 {
			return DropBadTCP
		}
		n := int(t[12]>>4) * 4
		if n < 20 || n > len(t) {
			return DropBadTCP
		}
		// SYN, FIN and RST lie in the order of their Flags: one shift each.
		c := Flags(t[13])
		f.Flags |= c&TCPSyn>>1*FlagSYN | c&TCPFin*FlagFIN | c&TCPRst>>2*FlagRST
		f.L4, f.Payload = at, at+n
	case ProtoUDP:
		if len(t) < 8 {
			return DropBadUDP
		}
		if n := int(binary.BigEndian.Uint16(t[4:])); n < 8 || n > len(t) {
			return DropBadUDP
		}
		f.L4, f.Payload = at, at+8
	case ProtoICMP, ProtoICMPv6:
		if (proto == ProtoICMP) != (k.EtherType == EtherTypeIPv4) {
			return DropNone // no stack heeds the other family's ICMP
		}
		if len(t) < 8 {
			return DropBadICMP
		}
		f.L4, f.Payload = at, at+8
		k.SrcPort = binary.BigEndian.Uint16(t)
		f.parseICMP(t, proto)
		return DropNone
	case ProtoSCTP, ProtoDCCP, ProtoUDPLite: // have their ports where TCP has them
		if len(t) < 8 {
			return DropNone
		}
		f.L4, f.Payload = at, at+8
		if proto == ProtoSCTP && len(t) > 12 {
			f.Flags |= sctpFlags(t[12])
		}
	default:
		return DropNone
	}
	k.SrcPort = binary.BigEndian.Uint16(t)
	k.DstPort = binary.BigEndian.Uint16(t[2:])
	return DropNone
}

// sctpFlags tells from the type of an SCTP packet's first chunk what it does to the association (RFC 9260 3.2), in the words of TCP.
func sctpFlags(chunk uint8) Flags {
	switch chunk {
	case 1, 2: // INIT, INIT ACK
		return FlagSYN
	case 6: // ABORT
		return FlagRST
	case 7, 8, 14: // SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE
		return FlagFIN
	}
	return 0
}

func (f *Frame) parseICMP(t []byte, proto uint8) {
	var echo, isError bool
	if proto == ProtoICMP {
		echo = t[0] == 8 || t[0] == 0
		isError = t[0] == 3 || t[0] == 4 || t[0] == 5 || t[0] == 11 || t[0] == 12 // RFC 792
	} else {
		echo = t[0] == 128 || t[0] == 129
		isError = t[0] < 128 // RFC 4443 2.1
		if t[0] >= 133 && t[0] <= 137 {
			f.Flags |= FlagND
		}
	}
	if echo {
		f.Key.DstPort = binary.BigEndian.Uint16(t[4:])
	}
	if isError {
		f.Flags |= FlagICMPError
	}
}
