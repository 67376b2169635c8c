package l2switch

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"vswitch/internal/packet"
)

// Guard is a port's source guard: what the port owns, and that it is neither a router nor a DHCP server. It never changes.
//
// What it refuses, in this order:
//
//	MAC      any source but the port's
//	hidden   frames that a receiver might look deeper into than the guard can: more than three tags, IP behind LLC/SNAP,
//	         IPv6 extension headers that are not walked, first fragments that end before their transport header. Later
//	         fragments pass: without a first one they are nothing (RFC 7113 3)
//	ARP      sender MACs and addresses that the port doesn't own, in probes the target (RFC 826, RFC 5227)
//	IPv4     sources that the port doesn't own, but for DHCP clients and IGMP without an address yet
//	IPv6     sources that the port doesn't own, but for its link-local addresses, and :: where a host has none yet
//	DHCP     what only servers and relays send; clients hear whoever sends to their port
//	routers  router advertisements of IPv4 and IPv6, redirects of both
//	ND       link-layer addresses but the port's, NA and DAD for addresses that the port doesn't own (RFC 4861)
//
// The same holds whatever tags a frame has. Link-local IPv6 addresses can't be known beforehand, since kernels make them up
// (RFC 7217): a port owns all of them but those that are made from the MAC of another (RFC 4291 appendix A).
type Guard struct {
	mac  [6]byte
	ipv4 [][4]byte
	ipv6 [][16]byte
}

// NewGuard makes the guard of a port that has this MAC and these addresses.
func NewGuard(mac [6]byte, addrs []netip.Addr) *Guard {
	g := &Guard{mac: mac}
	for _, a := range addrs {
		if a.Is4() {
			g.ipv4 = append(g.ipv4, a.As4())
		} else {
			g.ipv6 = append(g.ipv6, a.As16())
		}
	}
	return g
}

// Keyed tells whether what Check says of the frame follows from its Key, so that it may be replayed: in fragments and behind
// LLC it looks at more. Of ARP, ND and ICMP errors no decision is ever replayed.
func (g *Guard) Keyed(f *packet.Frame) bool {
	return f.Flags&packet.FlagFragment == 0 && f.Key.EtherType != 0
}

// Check returns why a parsed frame from the port is refused, or DropNone.
func (g *Guard) Check(f *packet.Frame) packet.DropReason {
	if f.Key.SrcMAC != g.mac {
		return packet.DropSourceMAC
	}
	switch f.Key.EtherType {
	case packet.EtherTypeVLAN, packet.EtherTypeQinQ, packet.EtherTypeQinQ1:
		return packet.DropHidden // a kernel may strip any number of priority tags
	case 0:
		return checkLLC(f.Bytes()[f.L3:])
	case packet.EtherTypeARP:
		return g.checkARP(f)
	case packet.EtherTypeIPv4:
		return g.checkIPv4(f)
	case packet.EtherTypeIPv6:
		return g.checkIPv6(f)
	}
	return packet.DropNone
}

// checkLLC looks for IP and ARP behind LLC and SNAP headers (RFC 1042).
func checkLLC(b []byte) packet.DropReason {
	if len(b) < 8 || b[0] != 0xaa || b[1] != 0xaa {
		return packet.DropNone
	}
	switch binary.BigEndian.Uint16(b[6:]) {
	case packet.EtherTypeARP, packet.EtherTypeIPv4, packet.EtherTypeIPv6,
		packet.EtherTypeVLAN, packet.EtherTypeQinQ, packet.EtherTypeQinQ1:
		return packet.DropHidden
	}
	return packet.DropNone
}

// checkARP holds the sender against the port. A probe has no sender: who probes an address is about to use it, and others who
// probe it too take that for a conflict (RFC 5227 2.1.1).
func (g *Guard) checkARP(f *packet.Frame) packet.DropReason {
	a := packet.ARP(f.Bytes()[f.L3:])
	claimed := [4]byte(a.SenderIP())
	if claimed == [4]byte{} && a.Op() == 1 {
		claimed = [4]byte(a.TargetIP())
	}
	if [6]byte(a.SenderMAC()) != g.mac || !slices.Contains(g.ipv4, claimed) {
		return packet.DropARPSpoof
	}
	return packet.DropNone
}

const (
	protoIGMP  = 2
	protoHIP   = 139
	protoShim6 = 140
)

// UDP ports of DHCP (RFC 2131 4.1) and DHCPv6 (RFC 8415 7.2).
const (
	dhcpServer, dhcpClient     = 67, 68
	dhcpv6Server, dhcpv6Client = 547, 546
)

func (g *Guard) checkIPv4(f *packet.Frame) packet.DropReason {
	k := &f.Key
	proto, h, ok := f.Upper()
	src := [4]byte(k.Src[:4])
	switch {
	case !ok:
		return packet.DropHidden
	case !slices.Contains(g.ipv4, src) && (src != [4]byte{} || !addressless(k, proto, h)):
		return packet.DropSourceIP
	case h == nil:
	case proto == packet.ProtoUDP:
		return checkDHCP(h, dhcpServer, dhcpClient)
	case proto == packet.ProtoICMP && h[0] == 5:
		return packet.DropRedirect
	case proto == packet.ProtoICMP && h[0] == 9: // RFC 1256
		return packet.DropRA
	}
	return packet.DropNone
}

// addressless tells whether a host that has no IPv4 address yet sends this: a DHCP client, or IGMP (RFC 3376 4.2.13).
func addressless(k *packet.Key, proto uint8, h []byte) bool {
	if proto == protoIGMP {
		return k.Dst[0]>>4 == 0xe
	}
	if proto != packet.ProtoUDP || h == nil || [4]byte(k.Dst[:4]) != [4]byte{255, 255, 255, 255} {
		return false
	}
	u := packet.UDP(h)
	return u.SrcPort() == dhcpClient && u.DstPort() == dhcpServer
}

func checkDHCP(h []byte, server, client uint16) packet.DropReason {
	if u := packet.UDP(h); u.SrcPort() == server || u.DstPort() == client {
		return packet.DropDHCPServer
	}
	return packet.DropNone
}

func (g *Guard) checkIPv6(f *packet.Frame) packet.DropReason {
	proto, h, ok := f.Upper()
	if !ok || proto == protoHIP || proto == protoShim6 {
		return packet.DropHidden
	}
	icmp := uint8(0) // type; no message has type 0
	if proto == packet.ProtoICMPv6 && h != nil {
		icmp = h[0]
	}
	switch {
	case f.Key.Src == [16]byte{}:
		if !unspecified(icmp) {
			return packet.DropSourceIP
		}
	case !g.owns(&f.Key.Src):
		return packet.DropSourceIP
	}
	switch {
	case h == nil:
	case proto == packet.ProtoUDP:
		return checkDHCP(h, dhcpv6Server, dhcpv6Client)
	case icmp == typeRA:
		return packet.DropRA
	case icmp == typeRedirect:
		return packet.DropRedirect
	case icmp == typeRS || icmp == typeNS || icmp == typeNA:
		return g.checkND(f, h)
	}
	return packet.DropNone
}

// Types of ICMPv6 messages: Neighbor Discovery (RFC 4861 4), Multicast Listener Discovery (RFC 2710 3, RFC 9777 5).
const (
	typeMLDReport   = 131
	typeMLDDone     = 132
	typeRS          = 133
	typeRA          = 134
	typeNS          = 135
	typeNA          = 136
	typeRedirect    = 137
	typeMLDv2Report = 143
)

// unspecified tells whether a host that has no IPv6 address yet sends messages of the type.
func unspecified(icmp uint8) bool {
	switch icmp {
	case typeRS, typeNS, typeMLDReport, typeMLDDone, typeMLDv2Report:
		return true
	}
	return false
}

// owns tells whether the port may have the address.
func (g *Guard) owns(a *[16]byte) bool {
	if a[0] != 0xfe || a[1]&0xc0 != 0x80 {
		return slices.Contains(g.ipv6, *a)
	}
	if a[11] != 0xff || a[12] != 0xfe {
		return true
	}
	return [6]byte{a[8] ^ 2, a[9], a[10], a[13], a[14], a[15]} == g.mac
}

// checkND holds a router solicitation, neighbor solicitation or neighbor advertisement against the port.
func (g *Guard) checkND(f *packet.Frame, h []byte) packet.DropReason {
	if f.Flags&packet.FlagFragment != 0 { // RFC 6980 5: nobody sends such a thing
		return packet.DropHidden
	}
	options := h[8:]
	if h[0] != typeRS {
		if len(h) < 24 {
			return packet.DropNDSpoof
		}
		target, dad := [16]byte(h[8:24]), f.Key.Src == [16]byte{}
		if (h[0] == typeNA || dad) && !g.owns(&target) {
			return packet.DropNDSpoof
		}
		options = h[24:]
	}
	for len(options) > 0 {
		n := 0
		if len(options) >= 8 {
			n = 8 * int(options[1])
		}
		if n == 0 || n > len(options) {
			return packet.DropNDSpoof // cut off, or of length 0 (RFC 4861 4.6)
		}
		const source, target = 1, 2 // link-layer addresses, RFC 4861 4.6.1
		if (options[0] == source || options[0] == target) && (n != 8 || [6]byte(options[2:8]) != g.mac) {
			return packet.DropNDSpoof
		}
		options = options[n:]
	}
	return packet.DropNone
}
