package flowspec

import (
	"net"
	"net/netip"

	"vswitch/internal/packet"
)

// number names a field that holds a number.
type number uint8

const (
	noNumber number = iota // of fields that hold no number
	vlanVID
	vlanPCP
	vlanInner
	vlanService
	ethType
	ipProto
	ipTOS
	ipTTL
	srcPort
	dstPort
	icmpType
	icmpCode
	icmpID
	tcpFlags
	arpOp
	frameLen
	numbers
)

// field is one word of the grammar. One of mac, ip and num says where its value is kept; in_port has none.
type field struct {
	name, alias string
	mac         func(*Spec) *net.HardwareAddr
	ip          func(*Spec) *netip.Addr
	num         number
	max         uint32
	eth         uint16 // EtherType that it implies; anyIP: IPv4 or IPv6
	proto       uint8  // IP protocol that it implies
}

// anyIP is no EtherType: it stands for both versions of IP.
const anyIP = 1

func srcMAC(s *Spec) *net.HardwareAddr    { return &s.SrcMAC }
func dstMAC(s *Spec) *net.HardwareAddr    { return &s.DstMAC }
func senderMAC(s *Spec) *net.HardwareAddr { return &s.SenderMAC }
func targetMAC(s *Spec) *net.HardwareAddr { return &s.TargetMAC }
func srcIP(s *Spec) *netip.Addr           { return &s.SrcIP }
func dstIP(s *Spec) *netip.Addr           { return &s.DstIP }
func ndTarget(s *Spec) *netip.Addr        { return &s.NDTarget }
func ndSource(s *Spec) *net.HardwareAddr  { return &s.NDSource }
func ndTLL(s *Spec) *net.HardwareAddr     { return &s.NDTargetLL }

// fields is the grammar, in the order in which String writes it.
var fields = []field{
	{name: "in_port"},
	{name: "eth_src", alias: "dl_src", mac: srcMAC},
	{name: "eth_dst", alias: "dl_dst", mac: dstMAC},
	{name: "vlan_vid", alias: "dl_vlan", num: vlanVID, max: 4095},
	{name: "vlan_pcp", alias: "dl_vlan_pcp", num: vlanPCP, max: 7},
	{name: "vlan_inner", num: vlanInner, max: 4095},     // the tag behind vlan_vid's
	{name: "vlan_service", num: vlanService, max: 4095}, // outermost tag of 802.1ad
	{name: "eth_type", alias: "dl_type", num: ethType, max: 0xffff},
	{name: "ip_src", alias: "nw_src", ip: srcIP, eth: packet.EtherTypeIPv4},
	{name: "ip_dst", alias: "nw_dst", ip: dstIP, eth: packet.EtherTypeIPv4},
	{name: "ipv6_src", ip: srcIP, eth: packet.EtherTypeIPv6},
	{name: "ipv6_dst", ip: dstIP, eth: packet.EtherTypeIPv6},
	{name: "ip_proto", alias: "nw_proto", num: ipProto, max: 255, eth: anyIP},
	{name: "ip_tos", alias: "nw_tos", num: ipTOS, max: 255, eth: anyIP},
	{name: "ip_ttl", alias: "nw_ttl", num: ipTTL, max: 255, eth: anyIP},
	{name: "tcp_src", num: srcPort, max: 65535, eth: anyIP, proto: packet.ProtoTCP},
	{name: "tcp_dst", num: dstPort, max: 65535, eth: anyIP, proto: packet.ProtoTCP},
	{name: "udp_src", num: srcPort, max: 65535, eth: anyIP, proto: packet.ProtoUDP},
	{name: "udp_dst", num: dstPort, max: 65535, eth: anyIP, proto: packet.ProtoUDP},
	{name: "sctp_src", num: srcPort, max: 65535, eth: anyIP, proto: packet.ProtoSCTP},
	{name: "sctp_dst", num: dstPort, max: 65535, eth: anyIP, proto: packet.ProtoSCTP},
	{name: "tp_src", num: srcPort, max: 65535, eth: anyIP},
	{name: "tp_dst", num: dstPort, max: 65535, eth: anyIP},
	{name: "icmp_type", num: icmpType, max: 255, eth: packet.EtherTypeIPv4, proto: packet.ProtoICMP},
	{name: "icmp_code", num: icmpCode, max: 255, eth: packet.EtherTypeIPv4, proto: packet.ProtoICMP},
	{name: "icmpv6_type", num: icmpType, max: 255, eth: packet.EtherTypeIPv6, proto: packet.ProtoICMPv6},
	{name: "icmpv6_code", num: icmpCode, max: 255, eth: packet.EtherTypeIPv6, proto: packet.ProtoICMPv6},
	{name: "nd_target", ip: ndTarget, eth: packet.EtherTypeIPv6, proto: packet.ProtoICMPv6},
	{name: "nd_sll", mac: ndSource, eth: packet.EtherTypeIPv6, proto: packet.ProtoICMPv6}, // source link-layer address
	{name: "nd_tll", mac: ndTLL, eth: packet.EtherTypeIPv6, proto: packet.ProtoICMPv6},    // target link-layer address
	{name: "icmp_id", num: icmpID, max: 65535, eth: anyIP},                                // of an echo
	{name: "tcp_flags", num: tcpFlags, max: 255, eth: anyIP, proto: packet.ProtoTCP},
	{name: "arp_op", num: arpOp, max: 65535, eth: packet.EtherTypeARP},
	{name: "arp_spa", ip: srcIP, eth: packet.EtherTypeARP},
	{name: "arp_tpa", ip: dstIP, eth: packet.EtherTypeARP},
	{name: "arp_sha", mac: senderMAC, eth: packet.EtherTypeARP},
	{name: "arp_tha", mac: targetMAC, eth: packet.EtherTypeARP},
	{name: "len", num: frameLen, max: packet.MaxFrame}, // bytes of the Ethernet frame
}

// keyword is a word without a value.
type keyword struct {
	name     string
	eth      uint16
	proto    uint8
	hasProto bool
}

var keywords = []keyword{
	{"tcp", packet.EtherTypeIPv4, packet.ProtoTCP, true},
	{"udp", packet.EtherTypeIPv4, packet.ProtoUDP, true},
	{"icmp", packet.EtherTypeIPv4, packet.ProtoICMP, true},
	{"sctp", packet.EtherTypeIPv4, packet.ProtoSCTP, true},
	{"tcp6", packet.EtherTypeIPv6, packet.ProtoTCP, true},
	{"udp6", packet.EtherTypeIPv6, packet.ProtoUDP, true},
	{"icmp6", packet.EtherTypeIPv6, packet.ProtoICMPv6, true},
	{"sctp6", packet.EtherTypeIPv6, packet.ProtoSCTP, true},
	{"ip", packet.EtherTypeIPv4, 0, false},
	{"ipv6", packet.EtherTypeIPv6, 0, false},
	{"arp", packet.EtherTypeARP, 0, false},
}
