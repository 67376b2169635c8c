package pipeline

import (
	"encoding/binary"
	"net/netip"

	"vswitch/internal/packet"
)

// Announcement tells everybody in the VLAN that mac has addr: gratuitousARP, or unsolicitedNA.
func Announcement(mac [6]byte, addr netip.Addr) []byte {
	if addr.Is4() {
		return gratuitousARP(mac, addr)
	}
	return unsolicitedNA(mac, addr)
}

// gratuitousARP returns an ARP announcement of addr (RFC 5227 2.3), 60 bytes with padding: everybody in the VLAN learns at
// once where mac is, and replaces what it knew of addr.
func gratuitousARP(mac [6]byte, addr netip.Addr) []byte {
	b := make([]byte, 60)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[6:], mac[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeARP)
	copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1}) // Ethernet, IPv4, lengths, request
	a := addr.As4()
	copy(b[22:], mac[:])
	copy(b[28:], a[:])
	copy(b[38:], a[:])
	return b
}

// unsolicitedNA returns an unsolicited neighbor advertisement of addr to all nodes (RFC 4861 7.2.6), with the override flag
// and mac as target link-layer address.
func unsolicitedNA(mac [6]byte, addr netip.Addr) []byte {
	const l4 = 14 + 40
	b := make([]byte, l4+32)
	copy(b, []byte{0x33, 0x33, 0, 0, 0, 1})
	copy(b[6:], mac[:])
	binary.BigEndian.PutUint16(b[12:], packet.EtherTypeIPv6)
	b[14] = 0x60
	binary.BigEndian.PutUint16(b[18:], 32)
	b[20], b[21] = packet.ProtoICMPv6, 255
	src := addr.As16()
	copy(b[22:], src[:])
	copy(b[38:], []byte{0xff, 0x02, 15: 1})
	b[l4] = 136
	b[l4+4] = 0x20 // override
	copy(b[l4+8:], src[:])
	b[l4+24], b[l4+25] = 2, 1
	copy(b[l4+26:], mac[:])
	sum := packet.Fold(packet.Sum(b[l4:], packet.PseudoSum(b[22:38], b[38:54], packet.ProtoICMPv6, 32)))
	binary.BigEndian.PutUint16(b[l4+2:], ^sum)
	return b
}
