package flowspec

import (
	"net"
	"net/netip"

	"vswitch/internal/packet"
)

// Spec is a frame in words, in the grammar of `vsctl trace`, which is that of ovs-appctl ofproto/trace:
//
//	in_port=c1,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80
//
// Keywords and fields are separated by commas or spaces and may come in any order; each says or implies what kind of frame
// it is, and contradictions are errors. What Parse leaves nil or invalid was neither given nor follows from the rest: the
// caller, who knows which port has which addresses, may fill it in before Build.
type Spec struct {
	InPort               string
	SrcMAC, DstMAC       net.HardwareAddr
	SrcIP, DstIP         netip.Addr       // ARP: the sender's and the target's
	SenderMAC, TargetMAC net.HardwareAddr // ARP
	NDTarget             netip.Addr       // Neighbor Discovery: target and link-layer address options, none unless given
	NDSource, NDTargetLL net.HardwareAddr

	kind  frameKind
	nums  [numbers]uint32
	given uint32 // bits: which of nums
}

// frameKind says which headers the frame has.
type frameKind struct {
	eth            uint16 // EtherType behind all tags; noEtherType, or 0 while not known
	proto          uint8  // IP protocol, when hasProto
	hasProto       bool
	ethBy, protoBy string // what said so, for errors
}

// Transport protocols that have ports where TCP has them, beside those in packet.
const (
	protoDCCP    = 33
	protoUDPLite = 136
)

// noEtherType stands for frames with a length in place of the EtherType (IEEE 802.3), as in OpenFlow.
const noEtherType = 0x05ff

func isTag(eth uint16) bool {
	return eth == packet.EtherTypeVLAN || eth == packet.EtherTypeQinQ || eth == packet.EtherTypeQinQ1
}

func (k *frameKind) isIP() bool {
	return k.eth == packet.EtherTypeIPv4 || k.eth == packet.EtherTypeIPv6
}

func (k *frameKind) hasPorts() bool {
	switch k.proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, protoDCCP, protoUDPLite:
		return k.hasProto && k.isIP()
	}
	return false
}

// isICMP tells whether the frame is ICMP over IPv4 or ICMPv6 over IPv6.
func (k *frameKind) isICMP() bool {
	return k.hasProto && (k.eth == packet.EtherTypeIPv4 && k.proto == packet.ProtoICMP || k.eth == packet.EtherTypeIPv6 && k.proto == packet.ProtoICMPv6)
}

// isEcho tells whether the frame is an echo request or reply.
func (s *Spec) isEcho() bool {
	if !s.kind.isICMP() {
		return false
	}
	switch t := s.nums[icmpType]; s.kind.eth {
	case packet.EtherTypeIPv4:
		return !s.has(icmpType) || t == 8 || t == 0
	default:
		return !s.has(icmpType) || t == 128 || t == 129
	}
}

// isND tells whether the frame is a message of Neighbor Discovery (RFC 4861 4).
func (s *Spec) isND() bool {
	t := s.nums[icmpType]
	return s.kind.eth == packet.EtherTypeIPv6 && s.kind.isICMP() && t >= 133 && t <= 137
}

func (s *Spec) has(n number) bool { return s.given>>n&1 != 0 }

func (s *Spec) put(n number, v uint32) { s.nums[n], s.given = v, s.given|1<<n }
