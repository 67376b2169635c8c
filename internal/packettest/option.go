package packettest

import (
	"net"
	"net/netip"
)

// Option sets one property of a frame.
type Option func(*spec)

// spec is all that a builder may be told.
type spec struct {
	srcMAC, dstMAC     net.HardwareAddr
	src, dst           netip.Addr
	srcPort, dstPort   uint16
	tags               []tag
	tos, ttl           uint8
	id                 uint16
	dontFragment       bool
	fragment           uint16 // offset in units of 8 bytes
	more, isFragment   bool
	ipOptions          []byte
	extensions         []extension
	seq, ack           uint32
	flags              uint8
	window, urgent     uint16
	tcpOptions         []byte
	icmpID, icmpSeq    uint16
	senderMAC          net.HardwareAddr // nil: srcMAC
	payload            []byte
	trailer            int
	gsoSize            int
	ecn, partial       bool
	noChecksum, broken bool
}

type tag struct{ etherType, tci uint16 }

type extension struct {
	header uint8
	body   []byte // without the next-header byte
}

func newSpec(options []Option) *spec {
	s := &spec{ttl: 64, dontFragment: true, flags: flagACK, seq: 1, ack: 1, window: 0xffff}
	From("02:00:00:00:00:01", "10.0.0.1", 1000)(s)
	To("02:00:00:00:00:02", "10.0.0.2", 2000)(s)
	for _, o := range options {
		o(s)
	}
	if s.src.Is4() != s.dst.Is4() {
		panic("packettest: source and destination are of different families")
	}
	return s
}

// From sets the source: MAC address, IP address (which says IPv4 or IPv6) and port.
func From(mac, ip string, port uint16) Option {
	m, a := parseMAC(mac), netip.MustParseAddr(ip)
	return func(s *spec) { s.srcMAC, s.src, s.srcPort = m, a, port }
}

// To sets the destination.
func To(mac, ip string, port uint16) Option {
	m, a := parseMAC(mac), netip.MustParseAddr(ip)
	return func(s *spec) { s.dstMAC, s.dst, s.dstPort = m, a, port }
}

func parseMAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// VLAN adds 802.1Q tags with these TCIs, outermost first.
func VLAN(tcis ...uint16) Option { return tags(0x8100, tcis) }

// ServiceVLAN adds 802.1ad tags with these TCIs; with a VLAN behind it that is QinQ.
func ServiceVLAN(tcis ...uint16) Option { return tags(0x88a8, tcis) }

func tags(etherType uint16, tcis []uint16) Option {
	return func(s *spec) {
		for _, tci := range tcis {
			s.tags = append(s.tags, tag{etherType, tci})
		}
	}
}

// TOS sets the type of service or traffic class, TTL the hop limit.
func TOS(tos uint8) Option { return func(s *spec) { s.tos = tos } }

// TTL sets the time to live or hop limit.
func TTL(ttl uint8) Option { return func(s *spec) { s.ttl = ttl } }

// ID sets the IPv4 identification, with DF or without it.
func ID(id uint16, dontFragment bool) Option {
	return func(s *spec) { s.id, s.dontFragment = id, dontFragment }
}

// Fragment makes the frame a fragment with this offset in units of 8 bytes. The payload is what follows the IP header, or,
// when the offset is 0, the transport header.
func Fragment(offset uint16, more bool) Option {
	return func(s *spec) { s.fragment, s.more, s.isFragment, s.dontFragment = offset, more, true, false }
}

// IPOptions adds IPv4 options; their length is a multiple of 4.
func IPOptions(b ...byte) Option { return func(s *spec) { s.ipOptions = b } }

// Extension adds an IPv6 extension header, given without its next-header byte.
func Extension(header uint8, body ...byte) Option {
	return func(s *spec) { s.extensions = append(s.extensions, extension{header, body}) }
}

// HopByHop adds an IPv6 hop-by-hop header of padding.
func HopByHop() Option { return Extension(0, 0, 1, 4, 0, 0, 0, 0) }

// Seq and Ack set TCP's numbers.
func Seq(n uint32) Option { return func(s *spec) { s.seq = n } }

// Ack sets the acknowledgment number.
func Ack(n uint32) Option { return func(s *spec) { s.ack = n } }

// Flags sets TCP's flags; ACK alone unless set.
func Flags(f uint8) Option { return func(s *spec) { s.flags = f } }

// Window sets TCP's window.
func Window(n uint16) Option { return func(s *spec) { s.window = n } }

// Urgent sets TCP's urgent pointer, and not the flag.
func Urgent(n uint16) Option { return func(s *spec) { s.urgent = n } }

// TCPOptions adds TCP options; their length is a multiple of 4.
func TCPOptions(b ...byte) Option { return func(s *spec) { s.tcpOptions = b } }

// Timestamps adds the TCP timestamp option as Linux writes it.
func Timestamps(value, echo uint32) Option {
	return TCPOptions(1, 1, 8, 10, byte(value>>24), byte(value>>16), byte(value>>8), byte(value),
		byte(echo>>24), byte(echo>>16), byte(echo>>8), byte(echo))
}

// Echo sets the identifier and sequence number of an ICMP echo.
func Echo(id, seq uint16) Option { return func(s *spec) { s.icmpID, s.icmpSeq = id, seq } }

// Sender sets the sender's MAC address in an ARP packet; that of From unless set.
func Sender(mac string) Option {
	m := parseMAC(mac)
	return func(s *spec) { s.senderMAC = m }
}

// Payload sets the payload.
func Payload[B []byte | string](b B) Option { return func(s *spec) { s.payload = []byte(b) } }

// Size sets a payload of n bytes that tells at each place where it is from.
func Size(n int) Option {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*31
	}
	return Payload(b)
}

// Trailer adds n zero bytes behind the IP datagram.
func Trailer(n int) Option { return func(s *spec) { s.trailer = n } }

// GSO makes it a super-frame of segments with this many bytes of payload: TSO or USO, as the builder's name says, with the
// checksum left to do, as a TAP gives it.
func GSO(size int) Option { return func(s *spec) { s.gsoSize, s.partial = size, true } }

// ECN sets VIRTIO_NET_HDR_GSO_ECN on a super-frame.
func ECN() Option { return func(s *spec) { s.ecn = true } }

// Partial leaves the transport checksum to do (NEEDS_CSUM), as a TAP gives it.
func Partial() Option { return func(s *spec) { s.partial = true } }

// Complete makes the transport checksum even of a super-frame.
func Complete() Option { return func(s *spec) { s.partial = false } }

// NoChecksum sends UDP without a checksum; TCP and ICMP heed it not.
func NoChecksum() Option { return func(s *spec) { s.noChecksum = true } }

// BadChecksum makes the transport checksum wrong.
func BadChecksum() Option { return func(s *spec) { s.broken = true } }
