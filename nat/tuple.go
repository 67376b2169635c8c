package nat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"vswitch/internal/packet"
)

// Tuple is what a frame tells of its connection: the router that it goes through, the protocol, and its endpoints. An ICMP echo has its
// identifier as the port of who asks, and no port on the other side: as source port in a request, as destination port in a reply. It has
// neither pointers nor padding, so it is compared and hashed as memory.
type Tuple struct {
	Src, Dst         [16]byte // IPv4 as its first four bytes
	SrcPort, DstPort uint16
	Zone             uint16 // the router, counted from 1: the same addresses may be in use behind another one
	Proto            uint8
	Family           uint8 // 4 or 6
}

// Endpoint is an address and a port.
type Endpoint struct {
	Addr [16]byte // IPv4 as its first four bytes
	Port uint16
}

// The array has a negative length, and so does not compile, when the size is not 40.
var _, _ = [40 - unsafe.Sizeof(Tuple{})]byte{}, [unsafe.Sizeof(Tuple{}) - 40]byte{}

// NewTuple makes the tuple of a first frame from one endpoint to another.
func NewTuple(zone uint16, proto uint8, src, dst netip.AddrPort) *Tuple {
	q := &Tuple{SrcPort: src.Port(), DstPort: dst.Port(), Zone: zone, Proto: proto}
	q.Src, _ = bytesOf(src.Addr())
	q.Dst, q.Family = bytesOf(dst.Addr())
	return q
}

// AddrPort returns the endpoint for people and sockets.
func (e *Endpoint) AddrPort(ipv6 bool) netip.AddrPort {
	family := uint8(4)
	if ipv6 {
		family = 6
	}
	return netip.AddrPortFrom(addrOf(&e.Addr, family), e.Port)
}

// Reverse is the tuple of an answer.
func (q *Tuple) Reverse() Tuple {
	return Tuple{
		Src: q.Dst, Dst: q.Src, SrcPort: q.DstPort, DstPort: q.SrcPort, Zone: q.Zone, Proto: q.Proto, Family: q.Family,
	}
}

// After is the tuple of a frame that was rewritten.
func (q *Tuple) After(r *packet.Rewrite) Tuple {
	is := *q
	if r.NewSrc {
		is.Src, is.SrcPort = r.Src, r.SrcPort
	}
	if r.NewDst {
		is.Dst, is.DstPort = r.Dst, r.DstPort
	}
	return is
}

func (q *Tuple) hash() uint64 {
	return packet.HashBytes(unsafe.Slice((*byte)(unsafe.Pointer(q)), unsafe.Sizeof(*q)))
}

// SrcAddr and DstAddr return the addresses for people.
func (q *Tuple) SrcAddr() netip.Addr { return addrOf(&q.Src, q.Family) }

// DstAddr is SrcAddr's twin.
func (q *Tuple) DstAddr() netip.Addr { return addrOf(&q.Dst, q.Family) }

func addrOf(a *[16]byte, family uint8) netip.Addr {
	if family == 4 {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(*a)
}

// String is as in "6 10.0.0.2:4000 > 1.1.1.1:80".
func (q *Tuple) String() string {
	return fmt.Sprintf("%d %s > %s", q.Proto, netip.AddrPortFrom(q.SrcAddr(), q.SrcPort), netip.AddrPortFrom(q.DstAddr(), q.DstPort))
}

// bytesOf returns an address as tables have it, and its family, 4 or 6.
func bytesOf(a netip.Addr) (b [16]byte, family uint8) {
	if a.Is4() {
		copy(b[:], a.AsSlice())
		return b, 4
	}
	return a.As16(), 6
}

// Signal is what a frame does to its connection, beyond being one more of its frames. SCTP's chunks have TCP's meanings.
type Signal uint8

// The signals.
const (
	Data   Signal = iota // nothing: a datagram, a segment with no flag that matters
	Open                 // TCP SYN, SCTP INIT
	Accept               // TCP SYN ACK, SCTP INIT ACK, ICMP echo reply: opens nothing
	Close                // TCP FIN, SCTP SHUTDOWN and what follows it
	Abort                // TCP RST, SCTP ABORT
)

// Of returns the tuple of a parsed frame, in the zone, and what it does to its connection. ok is false for what has none: fragments without
// FlagPorts, ICMP but echoes, other protocols' packets that are cut off, and what is not IP.
func Of(f *packet.Frame, zone uint16) (q Tuple, s Signal, ok bool) {
	k := &f.Key
	q = Tuple{Src: k.Src, Dst: k.Dst, Zone: zone, Proto: k.Proto, Family: 4}
	switch k.EtherType {
	case packet.EtherTypeIPv4:
	case packet.EtherTypeIPv6:
		q.Family = 6
	default:
		return q, 0, false
	}
	ports := f.L4 != 0
	if f.Flags&packet.FlagFragment != 0 {
		if ports = f.Flags&packet.FlagPorts != 0; !ports {
			return q, 0, false
		}
	}
	switch k.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if _, reply := packet.Echo(k.Proto, uint8(k.SrcPort>>8)); reply {
			s = Accept
		}
		return q, s, ports && q.echo(uint8(k.SrcPort>>8), k.DstPort)
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoDCCP, packet.ProtoUDPLite:
		q.SrcPort, q.DstPort = k.SrcPort, k.DstPort
		return q, signal(f), ports
	}
	return q, 0, true
}

// echo sets the ports of an ICMP echo; false for other messages.
func (q *Tuple) echo(icmpType uint8, id uint16) bool {
	request, reply := packet.Echo(q.Proto, icmpType)
	if request {
		q.SrcPort = id
	} else if reply {
		q.DstPort = id
	}
	return request || reply
}

// signal reads a frame's flags. RST goes before all, and SYN before FIN, as with a TCP receiver (RFC 9293 3.10.7).
func signal(f *packet.Frame) Signal {
	switch t := f.Transport(); {
	case f.Flags&(packet.FlagSYN|packet.FlagFIN|packet.FlagRST) == 0:
		return Data
	case f.Flags&packet.FlagRST != 0:
		return Abort
	case f.Flags&packet.FlagSYN == 0:
		return Close
	case f.Key.Proto == packet.ProtoTCP && packet.TCP(t).Flags()&packet.TCPAck != 0,
		f.Key.Proto == packet.ProtoSCTP && t[12] == 2:
		return Accept
	}
	return Open
}

// ofQuote returns the tuple of a datagram quoted in an ICMP error.
func ofQuote(p *packet.Quote, zone uint16, family uint8) (q Tuple, ok bool) {
	q = Tuple{Zone: zone, Proto: p.Proto, Family: family}
	copy(q.Src[:], p.Src())
	copy(q.Dst[:], p.Dst())
	t := p.Transport()
	switch p.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return q, (p.Proto == packet.ProtoICMP) == (family == 4) && q.echo(t[0], binary.BigEndian.Uint16(t[4:]))
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoDCCP, packet.ProtoUDPLite:
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	}
	return q, true
}
