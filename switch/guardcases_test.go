package l2switch_test

import (
	"net/netip"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

// Who the guarded port is, and others.
const (
	own, victim   = "02:00:00:00:00:01", "02:00:00:00:00:02"
	own4, victim4 = "10.0.0.1", "10.0.0.2"
	own6, victim6 = "fd00::1", "fd00::2"
	all4, all6    = "255.255.255.255", "ff02::1"
	ownLL         = "fe80::ff:fe00:1" // made from own
	victimLL      = "fe80::ff:fe00:2"
	stableLL      = "fe80::1234:5678:9abc:def0"
	everyone      = "ff:ff:ff:ff:ff:ff"
	everyone6     = "33:33:00:00:00:01"
)

func newGuard() *l2switch.Guard {
	return l2switch.NewGuard([6]byte{2, 0, 0, 0, 0, 1}, []netip.Addr{netip.MustParseAddr(own4), netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr(own6)})
}

func from(ip string, port uint16) packettest.Option { return packettest.From(own, ip, port) }

func to(ip string, port uint16) packettest.Option {
	switch ip {
	case all4:
		return packettest.To(everyone, ip, port)
	case all6:
		return packettest.To(everyone6, ip, port)
	}
	return packettest.To(victim, ip, port)
}

type (
	options = []packettest.Option
	builder = func(...packettest.Option) *packet.Frame
	lla     = packettest.NDOption
)

func ip(proto uint8) builder {
	return func(o ...packettest.Option) *packet.Frame { return packettest.IP(proto, o...) }
}

func icmp(kind uint8) builder {
	return func(o ...packettest.Option) *packet.Frame { return packettest.ICMP(kind, o...) }
}

func nd(kind uint8, target string, options ...lla) builder {
	return func(o ...packettest.Option) *packet.Frame { return packettest.ND(kind, target, options, o...) }
}

func raw(etherType uint16) builder {
	return func(o ...packettest.Option) *packet.Frame { return packettest.Raw(etherType, o...) }
}

func bytes(b ...byte) packettest.Option { return packettest.Payload(b) }

var (
	sourceLLA, targetLLA = packettest.SourceLLA, packettest.TargetLLA
	size                 = packettest.Size
)

// The first fragment of a datagram; an IPv6 header of destination options.
var (
	fragment0 = packettest.Fragment(0, true)
	padding   = packettest.Extension(60, 0, 1, 4, 0, 0, 0, 0)
)

// guardCases are frames of the port, and what becomes of them.
var guardCases = []struct {
	name    string
	want    packet.DropReason
	build   builder
	options options
}{
	{"IPv4 of its own", 0, packettest.UDP, options{from(own4, 1), to(victim4, 2)}},
	{"second IPv4", 0, packettest.TCP, options{from("10.0.0.11", 1), to(victim4, 2)}},
	{"IPv6 of its own", 0, packettest.TCP, options{from(own6, 1), to(victim6, 2)}},
	{"link-local made from its MAC", 0, packettest.UDP, options{from(ownLL, 1), to(victim6, 2)}},
	{"stable link-local", 0, packettest.UDP, options{from(stableLL, 1), to(victim6, 2)}},
	{"super-frame", 0, packettest.TCP, options{from(own4, 1), to(victim4, 2), packettest.GSO(1000), size(5000)}},
	{"another protocol", 0, raw(0x88b5), options{from(own4, 0), size(50)}},
	{"tunnel within", 0, ip(47), options{from(own4, 0), size(50)}},

	{"other MAC, IPv4", packet.DropSourceMAC, packettest.UDP, options{packettest.From(victim, own4, 1)}},
	{"other MAC, no IP", packet.DropSourceMAC, raw(0x88b5), options{packettest.From(victim, own4, 1), size(50)}},

	{"other IPv4", packet.DropSourceIP, packettest.UDP, options{from(victim4, 1), to(own4, 2)}},
	{"IPv4 loopback", packet.DropSourceIP, packettest.UDP, options{from("127.0.0.1", 1)}},
	{"IPv4 link-local", packet.DropSourceIP, packettest.UDP, options{from("169.254.0.1", 1)}},
	{"no IPv4", packet.DropSourceIP, packettest.UDP, options{from("0.0.0.0", 1)}},
	{"other IPv4, first fragment", packet.DropSourceIP, packettest.UDP, options{from(victim4, 1), fragment0, size(64)}},
	{"other IPv4, later fragment", packet.DropSourceIP, packettest.UDP, options{from(victim4, 1), packettest.Fragment(8, false), size(64)}},
	{"other IPv4 in a super-frame", packet.DropSourceIP, packettest.TCP, options{from(victim4, 1), packettest.GSO(1000), size(5000)}},
	{"other IPv6", packet.DropSourceIP, packettest.UDP, options{from(victim6, 1), to(own6, 2)}},
	{"link-local made from another MAC", packet.DropSourceIP, packettest.UDP, options{from(victimLL, 1), to(own6, 2)}},
	{"group as IPv6 source", packet.DropSourceIP, packettest.UDP, options{from("ff02::1", 1), to(own6, 2)}},
	{"no IPv6", packet.DropSourceIP, packettest.UDP, options{from("::", 1), to(own6, 2)}},
	{"no IPv6, echo", packet.DropSourceIP, packettest.ICMPEcho, options{from("::", 1), to(own6, 2)}},
	{"no IPv6, later fragment", packet.DropSourceIP, ip(58), options{from("::", 1), to(own6, 2), packettest.Fragment(1, false), bytes(135, 0, 0, 0)}},
	{"other IPv6 behind extension headers", packet.DropSourceIP, packettest.UDP, options{from(victim6, 1), to(own6, 2), packettest.HopByHop()}},

	{"DHCP client", 0, packettest.UDP, options{from("0.0.0.0", 68), to(all4, 67), size(300)}},
	{"DHCP client, renewing", 0, packettest.UDP, options{from(own4, 68), to(victim4, 67), size(300)}},
	{"DHCP client of no address to one host", packet.DropSourceIP, packettest.UDP, options{from("0.0.0.0", 68), to(victim4, 67), size(300)}},
	{"other port of no address", packet.DropSourceIP, packettest.UDP, options{from("0.0.0.0", 68), to(all4, 69), size(300)}},
	{"DHCP server", packet.DropDHCPServer, packettest.UDP, options{from(own4, 67), to(all4, 68), size(300)}},
	{"DHCP server, other port", packet.DropDHCPServer, packettest.UDP, options{from(own4, 6767), to(victim4, 68), size(300)}},
	{"DHCP server to a relay", packet.DropDHCPServer, packettest.UDP, options{from(own4, 67), to(victim4, 67), size(300)}},
	{"DHCP server, first fragment", packet.DropDHCPServer, ip(17), options{from(own4, 0), to(all4, 0), fragment0, bytes(0, 67, 0, 68, 1, 44, 0, 0)}},
	{"DHCP server, IPv4 options", packet.DropDHCPServer, packettest.UDP, options{from(own4, 67), to(all4, 68), packettest.IPOptions(1, 1, 1, 1), size(300)}},
	{"DHCPv6 client", 0, packettest.UDP, options{from(ownLL, 546), to(all6, 547), size(100)}},
	{"DHCPv6 server", packet.DropDHCPServer, packettest.UDP, options{from(ownLL, 547), to(victimLL, 546), size(100)}},
	{"DHCPv6 server, other port", packet.DropDHCPServer, packettest.UDP, options{from(own6, 5470), to(victimLL, 546), size(100)}},
	{"DHCPv6 server, first fragment behind options", packet.DropDHCPServer, ip(60), options{from(own6, 0), to(victimLL, 0), fragment0, bytes(17, 0, 1, 4, 0, 0, 0, 0, 2, 35, 2, 34, 0, 100, 0, 0)}},
	{"TCP from port 67", 0, packettest.TCP, options{from(own4, 67), to(victim4, 68)}},

	{"IGMP", 0, ip(2), options{from(own4, 0), to("224.0.0.22", 0), size(16)}},
	{"IGMP of no address", 0, ip(2), options{from("0.0.0.0", 0), to("224.0.0.22", 0), size(16)}},
	{"IGMP of no address to one host", packet.DropSourceIP, ip(2), options{from("0.0.0.0", 0), to(victim4, 0), size(16)}},
	{"IGMP of another", packet.DropSourceIP, ip(2), options{from(victim4, 0), to("224.0.0.22", 0), size(16)}},
	{"MLD", 0, icmp(143), options{from(ownLL, 0), to(all6, 0), packettest.HopByHop()}},
	{"MLD of no address", 0, icmp(143), options{from("::", 0), to(all6, 0), packettest.HopByHop()}},
	{"MLD of another", packet.DropSourceIP, icmp(143), options{from(victimLL, 0), to(all6, 0), packettest.HopByHop()}},

	{"ARP request", 0, packettest.ARPRequest, options{from(own4, 0), to(victim4, 0)}},
	{"ARP reply", 0, packettest.ARPReply, options{from(own4, 0), to(victim4, 0)}},
	{"ARP announcement", 0, packettest.ARPRequest, options{from(own4, 0), to(own4, 0)}},
	{"ARP probe for its own", 0, packettest.ARPRequest, options{from("0.0.0.0", 0), to(own4, 0)}},
	{"ARP probe for another's", packet.DropARPSpoof, packettest.ARPRequest, options{from("0.0.0.0", 0), to(victim4, 0)}},
	{"ARP reply of no address", packet.DropARPSpoof, packettest.ARPReply, options{from("0.0.0.0", 0), to(own4, 0)}},
	{"ARP request of another's address", packet.DropARPSpoof, packettest.ARPRequest, options{from(victim4, 0), to("10.0.0.3", 0)}},
	{"ARP reply of another's address", packet.DropARPSpoof, packettest.ARPReply, options{from(victim4, 0), to(own4, 0)}},
	{"ARP announcement of another's address", packet.DropARPSpoof, packettest.ARPRequest, options{from(victim4, 0), to(victim4, 0)}},
	{"ARP request of another's MAC", packet.DropARPSpoof, packettest.ARPRequest, options{from(own4, 0), to(victim4, 0), packettest.Sender(victim)}},
	{"ARP reply of another's MAC", packet.DropARPSpoof, packettest.ARPReply, options{from(own4, 0), to(victim4, 0), packettest.Sender(victim)}},

	{"RS", 0, nd(133, "", sourceLLA(own)), options{from(ownLL, 0), to(all6, 0)}},
	{"RS of no address", 0, nd(133, ""), options{from("::", 0), to(all6, 0)}},
	{"RS of another's MAC", packet.DropNDSpoof, nd(133, "", sourceLLA(victim)), options{from(ownLL, 0), to(all6, 0)}},
	{"NS", 0, nd(135, victim6, sourceLLA(own)), options{from(own6, 0), to(all6, 0)}},
	{"NS of another's MAC", packet.DropNDSpoof, nd(135, victim6, sourceLLA(victim)), options{from(own6, 0), to(all6, 0)}},
	{"NS of another's MAC in the second option", packet.DropNDSpoof, nd(135, victim6, sourceLLA(own), sourceLLA(victim)), options{from(own6, 0), to(all6, 0)}},
	{"NS of another's MAC behind an unknown option", packet.DropNDSpoof, nd(135, victim6, lla{14, 1, 1, 2, 3, 4, 5, 6}, sourceLLA(victim)), options{from(own6, 0), to(all6, 0)}},
	{"NS with a nonce", 0, nd(135, own6, lla{14, 1, 1, 2, 3, 4, 5, 6}), options{from("::", 0), to(all6, 0)}},
	{"NS of another's address", packet.DropSourceIP, nd(135, own6, sourceLLA(own)), options{from(victim6, 0), to(all6, 0)}},
	{"DAD", 0, nd(135, own6), options{from("::", 0), to(all6, 0)}},
	{"DAD of a link-local", 0, nd(135, stableLL), options{from("::", 0), to(all6, 0)}},
	{"DAD of another's address", packet.DropNDSpoof, nd(135, victim6), options{from("::", 0), to(all6, 0)}},
	{"DAD of another's link-local", packet.DropNDSpoof, nd(135, victimLL), options{from("::", 0), to(all6, 0)}},
	{"NA", 0, nd(136, own6, targetLLA(own)), options{from(own6, 0), to(victim6, 0)}},
	{"NA of a link-local", 0, nd(136, ownLL, targetLLA(own)), options{from(ownLL, 0), to(victim6, 0)}},
	{"NA without a MAC", 0, nd(136, own6), options{from(own6, 0), to(victim6, 0)}},
	{"NA of another's address", packet.DropNDSpoof, nd(136, victim6, targetLLA(own)), options{from(own6, 0), to(all6, 0)}},
	{"NA of another's link-local", packet.DropNDSpoof, nd(136, victimLL, targetLLA(own)), options{from(own6, 0), to(all6, 0)}},
	{"NA of another's MAC", packet.DropNDSpoof, nd(136, own6, targetLLA(victim)), options{from(own6, 0), to(all6, 0)}},
	{"NA behind extension headers", packet.DropNDSpoof, nd(136, victim6), options{from(own6, 0), to(all6, 0), packettest.HopByHop(), padding}},
	{"NA of no address", packet.DropSourceIP, nd(136, own6), options{from("::", 0), to(all6, 0)}},
	{"NA cut off", packet.DropNDSpoof, nd(136, ""), options{from(own6, 0), to(all6, 0)}},
	{"NA with an option of length 0", packet.DropNDSpoof, nd(136, own6, lla{2, 0, 2, 0, 0, 0, 0, 2}), options{from(own6, 0), to(all6, 0)}},
	{"NA with an option cut off", packet.DropNDSpoof, nd(136, own6, lla{2, 1, 2, 0}), options{from(own6, 0), to(all6, 0)}},
	{"NA with a long address", packet.DropNDSpoof, nd(136, own6, append(append(lla{2, 2}, 2, 0, 0, 0, 0, 1), make(lla, 8)...)), options{from(own6, 0), to(all6, 0)}},
	{"NA in a fragment", packet.DropHidden, nd(136, own6), options{from(own6, 0), to(all6, 0), fragment0, bytes(136, 0, 0, 0, 0, 0, 0, 0)}},

	{"RA", packet.DropRA, nd(134, ""), options{from(ownLL, 0), to(all6, 0), size(8)}},
	{"RA behind extension headers", packet.DropRA, nd(134, ""), options{from(ownLL, 0), to(all6, 0), packettest.HopByHop(), padding, packettest.Extension(43, 0, 0, 0, 0, 0, 0, 0), size(8)}},
	{"RA in an atomic fragment", packet.DropRA, nd(134, ""), options{from(ownLL, 0), to(all6, 0), packettest.Extension(44, 0, 0, 0, 0, 0, 0, 1), size(8)}},
	{"RA in a first fragment", packet.DropRA, ip(58), options{from(ownLL, 0), to(all6, 0), fragment0, bytes(134, 0, 0, 0, 0, 0, 0, 0)}},
	{"RA in a first fragment, behind options", packet.DropRA, ip(60), options{from(ownLL, 0), to(all6, 0), fragment0, bytes(58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0)}},
	{"RA in a first fragment's first fragment", packet.DropRA, ip(44), options{from(ownLL, 0), to(all6, 0), fragment0, bytes(58, 0, 0, 1, 0, 0, 0, 9, 134, 0, 0, 0, 0, 0, 0, 0)}},
	{"ICMP router advertisement", packet.DropRA, icmp(9), options{from(own4, 0), to(all4, 0), size(8)}},
	{"redirect, IPv6", packet.DropRedirect, nd(137, own6), options{from(ownLL, 0), to(victim6, 0), size(32)}},
	{"redirect, IPv4", packet.DropRedirect, icmp(5), options{from(own4, 0), to(victim4, 0), size(28)}},
	{"redirect, IPv4, first fragment", packet.DropRedirect, ip(1), options{from(own4, 0), to(victim4, 0), fragment0, bytes(5, 1, 0, 0, 10, 0, 0, 1)}},
	{"other ICMP errors", 0, icmp(3), options{from(own4, 0), to(victim4, 0), size(28)}},
	{"other ICMPv6 errors", 0, icmp(2), options{from(own6, 0), to(victim6, 0), size(48)}},

	{"fragmented echo", 0, ip(58), options{from(own6, 0), to(victim6, 0), fragment0, bytes(128, 0, 0, 0, 0, 0, 0, 0)}},
	{"later fragment of an echo", 0, ip(58), options{from(own6, 0), to(victim6, 0), packettest.Fragment(1, false), bytes(134, 0, 0, 0, 0, 0, 0, 0)}},
	{"fragmented UDP", 0, ip(17), options{from(own4, 0), to(victim4, 0), fragment0, bytes(0, 66, 0, 67, 1, 44, 0, 0)}},
	{"later fragment of UDP", 0, ip(17), options{from(own4, 0), to(victim4, 0), packettest.Fragment(1, false), bytes(0, 67, 0, 68, 1, 44, 0, 0)}},
	{"first fragment without ports", packet.DropHidden, ip(17), options{from(own4, 0), to(victim4, 0), fragment0, bytes(0, 66, 0)}},
	{"first fragment of options only", packet.DropHidden, ip(60), options{from(own6, 0), to(victim6, 0), fragment0, bytes(58, 0, 1, 4, 0, 0, 0, 0)}},
	{"first fragment cut off within options", packet.DropHidden, ip(60), options{from(own6, 0), to(victim6, 0), fragment0, bytes(58, 9, 1, 4, 0, 0, 0, 0)}},
	{"extension header that is not walked", packet.DropHidden, ip(140), options{from(own6, 0), to(victim6, 0), bytes(58, 0, 0, 0, 0, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0)}},
	{"LLC", 0, raw(38), options{from(own4, 0), bytes(0x42, 0x42, 3)}},
	{"IPv4 behind SNAP", packet.DropHidden, raw(38), options{from(own4, 0), bytes(0xaa, 0xaa, 3, 0, 0, 0, 8, 0)}},
	{"IPv6 behind SNAP", packet.DropHidden, raw(38), options{from(own4, 0), bytes(0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd)}},
	{"another protocol behind SNAP", 0, raw(38), options{from(own4, 0), bytes(0xaa, 0xaa, 3, 0, 0, 0xc, 0x20, 0)}},
}
