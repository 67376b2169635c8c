package packet

import "encoding/binary"

// EtherTypes (IEEE registration authority).
const (
	EtherTypeIPv4  = 0x0800
	EtherTypeARP   = 0x0806
	EtherTypeVLAN  = 0x8100 // 802.1Q customer tag
	EtherTypeQinQ  = 0x88a8 // 802.1ad service tag
	EtherTypeQinQ1 = 0x9100 // service tag before the standard
	EtherTypeIPv6  = 0x86dd
)

// IP protocol numbers.
const (
	ProtoICMP    = 1
	ProtoTCP     = 6
	ProtoUDP     = 17
	ProtoDCCP    = 33
	ProtoICMPv6  = 58
	ProtoSCTP    = 132
	ProtoUDPLite = 136
)

// Ethernet is a view of an Ethernet frame (IEEE 802.3 3.1.1): destination, source, EtherType or tag.
type Ethernet []byte

func (e Ethernet) Dst() []byte       { return e[0:6] }
func (e Ethernet) Src() []byte       { return e[6:12] }
func (e Ethernet) EtherType() uint16 { return binary.BigEndian.Uint16(e[12:]) }

// TCI returns the tag control information of the outermost tag. Only when there is one.
func (e Ethernet) TCI() uint16 { return binary.BigEndian.Uint16(e[14:]) }

// IPv4 is a view of an IPv4 datagram (RFC 791 3.1).
//
//	0       4       8               16                              31
//	|version|  IHL  |      TOS      |          total length         |
//	|        identification         |flags|     fragment offset     |
//	|      TTL      |   protocol    |        header checksum        |
//	|                        source address                         |
//	|                      destination address                      |
type IPv4 []byte

func (h IPv4) HeaderLen() int     { return int(h[0]&0x0f) * 4 }
func (h IPv4) TOS() uint8         { return h[1] }
func (h IPv4) TotalLen() uint16   { return binary.BigEndian.Uint16(h[2:]) }
func (h IPv4) ID() uint16         { return binary.BigEndian.Uint16(h[4:]) }
func (h IPv4) DontFragment() bool { return h[6]&0x40 != 0 }

// Fragment returns the fragment offset in units of 8 bytes, and whether more follow.
func (h IPv4) Fragment() (offset uint16, more bool) {
	return binary.BigEndian.Uint16(h[6:]) & 0x1fff, h[6]&0x20 != 0
}
func (h IPv4) TTL() uint8       { return h[8] }
func (h IPv4) Proto() uint8     { return h[9] }
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:]) }
func (h IPv4) Src() []byte      { return h[12:16] }
func (h IPv4) Dst() []byte      { return h[16:20] }

// SetTotalLen sets the total length and keeps the header checksum right (RFC 1624).
func (h IPv4) SetTotalLen(n uint16) { h.setUint16(2, n) }

// SetID sets the identification and keeps the header checksum right.
func (h IPv4) SetID(id uint16) { h.setUint16(4, id) }

func (h IPv4) setUint16(at int, n uint16) {
	old := binary.BigEndian.Uint16(h[at:])
	binary.BigEndian.PutUint16(h[at:], n)
	binary.BigEndian.PutUint16(h[10:], UpdateSum(h.Checksum(), old, n))
}

// IPv6 is a view of an IPv6 datagram (RFC 8200 3).
//
//	0       4               12              16                      31
//	|version| traffic class |               flow label              |
//	|        payload length         |  next header  |   hop limit   |
//	|                       source address (16)                     |
//	|                    destination address (16)                   |
type IPv6 []byte

func (h IPv6) PayloadLen() uint16     { return binary.BigEndian.Uint16(h[4:]) }
func (h IPv6) NextHeader() uint8      { return h[6] }
func (h IPv6) HopLimit() uint8        { return h[7] }
func (h IPv6) Src() []byte            { return h[8:24] }
func (h IPv6) Dst() []byte            { return h[24:40] }
func (h IPv6) SetPayloadLen(n uint16) { binary.BigEndian.PutUint16(h[4:], n) }

// TCP is a view of a TCP segment (RFC 9293 3.1).
type TCP []byte

// Flag bits of a TCP header.
const (
	TCPFin = 0x01
	TCPSyn = 0x02
	TCPRst = 0x04
	TCPPsh = 0x08
	TCPAck = 0x10
	TCPUrg = 0x20
	TCPEce = 0x40
	TCPCwr = 0x80
)

func (t TCP) SrcPort() uint16  { return binary.BigEndian.Uint16(t) }
func (t TCP) DstPort() uint16  { return binary.BigEndian.Uint16(t[2:]) }
func (t TCP) Seq() uint32      { return binary.BigEndian.Uint32(t[4:]) }
func (t TCP) HeaderLen() int   { return int(t[12]>>4) * 4 }
func (t TCP) Flags() uint8     { return t[13] }
func (t TCP) SetFlags(f uint8) { t[13] = f }

// UDP is a view of a UDP datagram (RFC 768).
type UDP []byte

func (u UDP) SrcPort() uint16    { return binary.BigEndian.Uint16(u) }
func (u UDP) DstPort() uint16    { return binary.BigEndian.Uint16(u[2:]) }
func (u UDP) Length() uint16     { return binary.BigEndian.Uint16(u[4:]) }
func (u UDP) Checksum() uint16   { return binary.BigEndian.Uint16(u[6:]) }
func (u UDP) SetLength(n uint16) { binary.BigEndian.PutUint16(u[4:], n) }

// ARP is a view of an ARP packet for Ethernet and IPv4 (RFC 826), 28 bytes.
type ARP []byte

// ARPLen is the length of an ARP packet for Ethernet and IPv4.
const ARPLen = 28

func (a ARP) Op() uint16        { return binary.BigEndian.Uint16(a[6:]) }
func (a ARP) SenderMAC() []byte { return a[8:14] }
func (a ARP) SenderIP() []byte  { return a[14:18] }
func (a ARP) TargetIP() []byte  { return a[24:28] }

// DecrementTTL takes one from the TTL and keeps the header checksum right.
func (h IPv4) DecrementTTL() { h.setUint16(8, binary.BigEndian.Uint16(h[8:])-0x100) }

// DecrementHopLimit takes one from the hop limit.
func (h IPv6) DecrementHopLimit() { h[7]-- }
