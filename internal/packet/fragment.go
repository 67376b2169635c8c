package packet

import "encoding/binary"

// Fragment is the place of a fragment in its datagram.
type Fragment struct {
	ID         uint32
	Start, End int  // which bytes of the datagram it has, counted behind the headers that all fragments repeat
	More       bool // it is not the last one
}

// Ports are what only the first fragment of a datagram tells, in the words of a Key: upper protocol, ports, ICMP type and identifier.
type Ports struct {
	Src, Dst uint16
	Proto    uint8
	Start    int // where the transport header is, counted as in Fragment
	Length   int // of the transport's packet, header and all; 0: not known, for only the last fragment tells
}

// Fragment returns the fragment's place. DropFragBad: no stack sends the like: it is empty, not the last one and of a length that is
// no multiple of 8, or reaches beyond the longest datagram (RFC 791 3.2, RFC 8200 4.5). The frame has FlagFragment.
func (f *Frame) Fragment() (p Fragment, drop DropReason) {
	var data, before int // bytes, and those of the headers that count as the datagram's
	if f.Key.EtherType == EtherTypeIPv4 {
		h := f.IPv4()
		offset, more := h.Fragment()
		p.ID, p.Start, p.More = uint32(h.ID()), 8*int(offset), more
		before, data = h.HeaderLen(), len(h)-h.HeaderLen()
	} else {
		h := f.IPv6()
		at := h.fragmentHeader()
		offset := binary.BigEndian.Uint16(h[at+2:])
		p.ID, p.Start, p.More = binary.BigEndian.Uint32(h[at+4:]), int(offset&^7), offset&1 != 0
		before, data = at-40, len(h)-at-8
	}
	p.End = p.Start + data
	if data == 0 || p.More && data%8 != 0 || before+p.End > 0xffff {
		return p, DropFragBad
	}
	return p, DropNone
}

// fragmentHeader returns where the first fragment header is that is not an atomic fragment's; there is one.
func (h IPv6) fragmentHeader() int {
	next, at := h.NextHeader(), 40
	for {
		n := 8
		switch next {
		case 44:
			if binary.BigEndian.Uint16(h[at+2:])&0xfff9 != 0 {
				return at
			}
		case 51:
			n = max(12, 8+4*int(h[at+1])) // as in parseExtensions
		default:
			n += 8 * int(h[at+1])
		}
		next, at = h[at], at+n
	}
}

// SameDatagram tells whether the frames are fragments of one datagram.
func (f *Frame) SameDatagram(o *Frame) bool {
	if f.Flags&o.Flags&FlagFragment == 0 || f.Key.EtherType != o.Key.EtherType || f.Key.Src != o.Key.Src || f.Key.Dst != o.Key.Dst {
		return false
	}
	a, _ := f.Fragment()
	b, _ := o.Fragment()
	return a.ID == b.ID
}

// upperHeader is how much of a transport's header a first fragment must have: what rules and translation go by, and nobody needs to
// send less (RFC 1858 3, RFC 7112 5). Of others it is 8 bytes.
var upperHeader = [256]int{ProtoTCP: 20, ProtoSCTP: 12}

// Ports returns what a first fragment tells of its datagram. DropFragBad: it ends within the headers, or is a fragment of a fragment.
func (f *Frame) Ports() (p Ports, drop DropReason) {
	proto, t, ok := f.Upper()
	if !ok || len(t) < max(8, upperHeader[proto]) {
		return p, DropFragBad
	}
	at, _ := f.Fragment()
	p.Proto, p.Start = proto, at.End-len(t)
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoDCCP, ProtoUDPLite:
		p.Src, p.Dst = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	case ProtoICMP, ProtoICMPv6:
		if (proto == ProtoICMP) != (f.Key.EtherType == EtherTypeIPv4) {
			break // as in parseTransport
		}
		p.Src = binary.BigEndian.Uint16(t)
		if request, reply := Echo(proto, t[0]); request || reply {
			p.Dst = binary.BigEndian.Uint16(t[4:])
		}
	}
	return p, DropNone
}

// SetPorts enters in the Key what the datagram's first fragment tells, and notes that as FlagPorts.
func (f *Frame) SetPorts(p Ports) {
	f.Key.Proto, f.Key.SrcPort, f.Key.DstPort = p.Proto, p.Src, p.Dst
	f.Flags |= FlagPorts
	f.Whole = p.Length
}
