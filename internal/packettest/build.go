package packettest

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"vswitch/internal/packet"
)

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132

	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80

	needsCsum = 1
	gsoTCPv4  = 1
	gsoTCPv6  = 4
	gsoUDPL4  = 5
	gsoECN    = 0x80
)

// UDP builds a UDP datagram. All builders return a frame in a buffer of its own, not parsed; its checksum is complete
// unless an option says otherwise.
func UDP(options ...Option) *packet.Frame {
	s := newSpec(options)
	b := binary.BigEndian.AppendUint16(nil, s.srcPort)
	b = binary.BigEndian.AppendUint16(b, s.dstPort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(s.payload)))
	b = append(b, 0, 0)
	return s.transport(protoUDP, b)
}

// TCP builds a TCP segment.
func TCP(options ...Option) *packet.Frame {
	s := newSpec(options)
	b := binary.BigEndian.AppendUint16(nil, s.srcPort)
	b = binary.BigEndian.AppendUint16(b, s.dstPort)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	b = append(b, byte(5+len(s.tcpOptions)/4)<<4, s.flags)
	b = binary.BigEndian.AppendUint16(b, s.window)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, s.urgent)
	return s.transport(protoTCP, append(b, s.tcpOptions...))
}

// SCTP builds an SCTP packet (RFC 9260 3.1) with its CRC32c; Seq sets the verification tag, the payload is its chunks.
func SCTP(options ...Option) *packet.Frame {
	s := newSpec(options)
	b := binary.BigEndian.AppendUint16(nil, s.srcPort)
	b = binary.BigEndian.AppendUint16(b, s.dstPort)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	return s.transport(protoSCTP, append(b, 0, 0, 0, 0))
}

// ICMPEcho builds an echo request of ICMP or ICMPv6.
func ICMPEcho(options ...Option) *packet.Frame { return icmp(8, 128, options) }

// ICMPEchoReply builds an echo reply of ICMP or ICMPv6.
func ICMPEchoReply(options ...Option) *packet.Frame { return icmp(0, 129, options) }

func icmp(type4, type6 uint8, options []Option) *packet.Frame {
	s := newSpec(options)
	kind, proto := type4, uint8(protoICMP)
	if s.src.Is6() {
		kind, proto = type6, protoICMPv6
	}
	b := binary.BigEndian.AppendUint16([]byte{kind, 0, 0, 0}, s.icmpID)
	return s.transport(proto, binary.BigEndian.AppendUint16(b, s.icmpSeq))
}

// ICMP builds a message of ICMP or ICMPv6. Its second word is what Echo says, the payload follows.
func ICMP(kind uint8, options ...Option) *packet.Frame { return icmp(kind, kind, options) }

// ND builds a message of Neighbor Discovery (RFC 4861 4) of the type. Its target, unless empty, and the options are given.
func ND(kind uint8, target string, lla []NDOption, options ...Option) *packet.Frame {
	var b []byte
	if target != "" {
		b = netip.MustParseAddr(target).AsSlice()
	}
	for _, o := range lla {
		b = append(b, o...)
	}
	return ICMP(kind, append([]Option{TTL(255), Payload(b)}, options...)...)
}

// NDOption is an option of Neighbor Discovery (RFC 4861 4.6).
type NDOption []byte

// SourceLLA and TargetLLA are the link-layer address options.
func SourceLLA(mac string) NDOption { return append(NDOption{1, 1}, parseMAC(mac)...) }

// TargetLLA is SourceLLA's twin.
func TargetLLA(mac string) NDOption { return append(NDOption{2, 1}, parseMAC(mac)...) }

// IP builds a datagram of any protocol, without a header of its own above IP.
func IP(proto uint8, options ...Option) *packet.Frame {
	s := newSpec(options)
	return s.ip(proto, s.payload, nil)
}

// ARPRequest asks, as broadcast, who has the destination's address.
func ARPRequest(options ...Option) *packet.Frame {
	s := newSpec(options)
	s.dstMAC = parseMAC("ff:ff:ff:ff:ff:ff")
	return s.arp(1, make([]byte, 6))
}

// ARPReply tells the destination that the source's address is at its MAC.
func ARPReply(options ...Option) *packet.Frame {
	s := newSpec(options)
	return s.arp(2, s.dstMAC)
}

// Raw builds a frame of any EtherType.
func Raw(etherType uint16, options ...Option) *packet.Frame {
	s := newSpec(options)
	return s.ethernet(etherType, s.payload, nil)
}

func (s *spec) arp(op byte, target []byte) *packet.Frame {
	sender := s.senderMAC
	if sender == nil {
		sender = s.srcMAC
	}
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, sender...)
	b = append(b, s.src.AsSlice()...)
	b = append(b, target...)
	return s.ethernet(0x0806, append(b, s.dst.AsSlice()...), nil)
}

// transport puts the checksum into the header and the datagram around it.
func (s *spec) transport(proto uint8, header []byte) *packet.Frame {
	b := append(header, s.payload...)
	if s.fragment != 0 {
		return s.ip(proto, s.payload, nil)
	}
	at := checksumAt(proto)
	p := pseudo(s.src.AsSlice(), s.dst.AsSlice(), proto, len(b))
	switch {
	case proto == protoSCTP:
		binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	case s.partial:
		binary.BigEndian.PutUint16(b[at:], sum16(p))
	case !s.noChecksum || proto != protoUDP:
		binary.BigEndian.PutUint16(b[at:], complete(p, b))
	}
	if s.broken {
		b[at] ^= 0x55
	}
	return s.ip(proto, b, s.vnet(proto, len(header), at))
}

// vnet makes the vnet header, its offsets still counted from the transport header.
func (s *spec) vnet(proto uint8, headerLen, at int) []byte {
	v := make([]byte, packet.VnetLen)
	if s.partial {
		v[0] = needsCsum
		binary.LittleEndian.PutUint16(v[8:], uint16(at))
	}
	if s.gsoSize == 0 {
		return v
	}
	switch {
	case proto == protoUDP:
		v[1] = gsoUDPL4
	case s.src.Is4():
		v[1] = gsoTCPv4
	default:
		v[1] = gsoTCPv6
	}
	if s.ecn {
		v[1] |= gsoECN
	}
	binary.LittleEndian.PutUint16(v[2:], uint16(headerLen))
	binary.LittleEndian.PutUint16(v[4:], uint16(s.gsoSize))
	return v
}

func (s *spec) ip(proto uint8, transport, vnet []byte) *packet.Frame {
	if s.src.Is6() {
		return s.ipv6(proto, transport, vnet)
	}
	h := []byte{0x40 | byte(5+len(s.ipOptions)/4), s.tos}
	h = binary.BigEndian.AppendUint16(h, uint16(20+len(s.ipOptions)+len(transport)))
	h = binary.BigEndian.AppendUint16(h, s.id)
	fragment := s.fragment
	if s.dontFragment {
		fragment |= 0x4000
	}
	if s.more {
		fragment |= 0x2000
	}
	h = binary.BigEndian.AppendUint16(h, fragment)
	h = append(h, s.ttl, proto, 0, 0)
	h = append(h, s.src.AsSlice()...)
	h = append(h, s.dst.AsSlice()...)
	h = append(h, s.ipOptions...)
	binary.BigEndian.PutUint16(h[10:], ^sum16(h))
	return s.ethernet(0x0800, append(h, transport...), moveVnet(vnet, len(h)))
}

func (s *spec) ipv6(proto uint8, transport, vnet []byte) *packet.Frame {
	chain := s.extensions
	if s.isFragment {
		body := binary.BigEndian.AppendUint16([]byte{0}, s.fragment<<3)
		if s.more {
			body[2] |= 1
		}
		chain = append(chain, extension{44, append(body, 0, 0, byte(s.id>>8), byte(s.id))})
	}
	var ext []byte
	next := proto
	for i := len(chain) - 1; i >= 0; i-- {
		ext = append(append([]byte{next}, chain[i].body...), ext...)
		next = chain[i].header
	}
	h := []byte{0x60 | s.tos>>4, s.tos << 4, 0, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(len(ext)+len(transport)))
	h = append(h, next, s.ttl)
	h = append(h, s.src.AsSlice()...)
	h = append(h, s.dst.AsSlice()...)
	h = append(h, ext...)
	return s.ethernet(0x86dd, append(h, transport...), moveVnet(vnet, len(h)))
}

func (s *spec) ethernet(etherType uint16, payload, vnet []byte) *packet.Frame {
	b := append(append([]byte{}, s.dstMAC...), s.srcMAC...)
	for _, t := range s.tags {
		b = binary.BigEndian.AppendUint16(b, t.etherType)
		b = binary.BigEndian.AppendUint16(b, t.tci)
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	vnet = moveVnet(vnet, len(b))
	b = append(append(b, payload...), make([]byte, s.trailer)...)
	f := packet.NewFrame(make([]byte, packet.BufSize))
	f.Load(vnet, b)
	return f
}

// moveVnet adds n bytes of headers to the offsets that are set.
func moveVnet(v []byte, n int) []byte {
	if v == nil {
		return nil
	}
	if v[1] != 0 {
		binary.LittleEndian.PutUint16(v[2:], binary.LittleEndian.Uint16(v[2:])+uint16(n))
	}
	if v[0] != 0 {
		binary.LittleEndian.PutUint16(v[6:], binary.LittleEndian.Uint16(v[6:])+uint16(n))
	}
	return v
}
