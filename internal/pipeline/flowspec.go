package pipeline

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/packet"
)

// FlowSpec is a frame in words, in the grammar of `vsctl trace`, which is that of ovs-appctl ofproto/trace:
//
//	in_port=c1,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80
//
// Keywords and fields are separated by commas or spaces and may come in any order; each says or implies what kind of frame
// it is, and contradictions are errors. What ParseFlow leaves nil or invalid was neither given nor follows from the rest: the
// caller, who knows which port has which addresses, may fill it in before Build.
type FlowSpec struct {
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

// noEtherType stands for frames with a length in place of the EtherType (IEEE 802.3), as in OpenFlow.
const noEtherType = 0x05ff

func invalid(format string, args ...any) error { return api.Errorf(api.CodeInvalid, format, args...) }

// ParseFlow reads a frame's description. Errors are *api.Error with CodeInvalid.
func ParseFlow(text string) (*FlowSpec, error) {
	s := &FlowSpec{}
	seen := map[string]string{} // what was given, by the field's own name
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		name, value, hasValue := strings.Cut(word, "=")
		if err := s.word(name, value, hasValue, seen); err != nil {
			return nil, err
		}
	}
	if s.InPort == "" {
		return nil, invalid("in_port is missing: say by which port the frame comes in, as in in_port=c1,tcp,ip_dst=10.0.0.3,tcp_dst=80")
	}
	if err := s.settle(seen); err != nil {
		return nil, err
	}
	s.fillGroup()
	return s, nil
}

// word reads one keyword or field.
func (s *FlowSpec) word(name, value string, hasValue bool, seen map[string]string) error {
	for _, k := range keywords {
		if k.name != name {
			continue
		}
		if hasValue {
			return invalid("%s takes no value", name)
		}
		return s.claim(k.eth, k.proto, k.hasProto, name)
	}
	for i := range fields {
		f := &fields[i]
		if f.name != name && (f.alias == "" || f.alias != name) {
			continue
		}
		if !hasValue || value == "" {
			return invalid("%s needs a value: %s=...", name, name)
		}
		if old, again := seen[f.name]; again {
			return invalid("%s is given twice: %s and %s=%s", f.name, old, name, value)
		}
		seen[f.name] = name + "=" + value
		return s.set(f, name, value)
	}
	return unknownWord(name)
}

// set gives a field its value, and the frame the kind that the field implies.
func (s *FlowSpec) set(f *field, name, value string) error {
	var err error
	switch {
	case f.name == "in_port":
		s.InPort = value
	case f.mac != nil:
		*f.mac(s), err = parseMAC(name, value)
	case f.ip != nil:
		*f.ip(s), err = parseAddr(name, value, f.eth == packet.EtherTypeIPv6)
	default:
		err = s.setNumber(f, name, value)
	}
	if err != nil {
		return err
	}
	eth := f.eth
	if eth == anyIP {
		eth = 0
	}
	word := name + "=" + value
	switch f.num {
	case ethType:
		return s.claim(uint16(s.nums[ethType]), 0, false, word)
	case ipProto:
		return s.claim(eth, uint8(s.nums[ipProto]), true, word)
	}
	return s.claim(eth, f.proto, f.proto != 0, word)
}

// claim says that the frame has this EtherType, unless 0, and this IP protocol.
func (s *FlowSpec) claim(eth uint16, proto uint8, hasProto bool, by string) error {
	k := &s.kind
	if eth != 0 {
		if k.eth != 0 && k.eth != eth {
			return contradiction(by, k.ethBy)
		}
		k.eth, k.ethBy = eth, by
	}
	if hasProto {
		if k.hasProto && k.proto != proto {
			return contradiction(by, k.protoBy)
		}
		k.proto, k.hasProto, k.protoBy = proto, true, by
	}
	return nil
}

func contradiction(a, b string) error {
	if strings.HasPrefix(a, "ipv6_") || strings.HasPrefix(b, "ipv6_") {
		return invalid("%s contradicts %s: the IPv6 words are ipv6, tcp6, udp6, icmp6, sctp6, ipv6_src and ipv6_dst", a, b)
	}
	return invalid("%s contradicts %s: a frame cannot be both", a, b)
}

// settle decides the kind from all that was said, and holds each field against it.
func (s *FlowSpec) settle(seen map[string]string) error {
	k := &s.kind
	for i := range fields {
		f := &fields[i]
		if seen[f.name] != "" && f.eth == anyIP && k.eth == 0 {
			k.eth, k.ethBy = packet.EtherTypeIPv4, seen[f.name]
		}
	}
	for i := range fields {
		f := &fields[i]
		by := seen[f.name]
		switch {
		case by == "":
		case f.eth == anyIP && !k.isIP():
			return contradiction(by, k.ethBy)
		case (f.num == srcPort || f.num == dstPort) && !k.hasPorts():
			return invalid("%s needs a protocol that has ports: tcp, udp or sctp", by)
		case f.num == icmpID && !s.isEcho():
			return invalid("%s goes with an echo of icmp or icmp6 only", by)
		case strings.HasPrefix(f.name, "nd_") && !s.isND():
			return invalid("%s goes with Neighbor Discovery only: icmpv6_type=133 to 137", by)
		}
	}
	return s.settleTags(seen)
}

func (s *FlowSpec) settleTags(seen map[string]string) error {
	switch {
	case s.has(vlanService) && (s.has(vlanVID) || s.has(vlanPCP) || s.has(vlanInner)):
		return invalid("%s is the outermost tag: no vlan_vid, vlan_pcp or vlan_inner beside it", seen["vlan_service"])
	case s.has(vlanInner) && !s.has(vlanVID):
		return invalid("%s is the tag behind the outermost: give vlan_vid too", seen["vlan_inner"])
	case isTag(s.kind.eth) && !s.has(vlanInner) && !s.has(vlanService):
		return invalid("%s is a tag: use vlan_vid", s.kind.ethBy)
	}
	return nil
}

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
func (s *FlowSpec) isEcho() bool {
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
func (s *FlowSpec) isND() bool {
	t := s.nums[icmpType]
	return s.kind.eth == packet.EtherTypeIPv6 && s.kind.isICMP() && t >= 133 && t <= 137
}

func (s *FlowSpec) has(n number) bool { return s.given>>n&1 != 0 }

func (s *FlowSpec) put(n number, v uint32) { s.nums[n], s.given = v, s.given|1<<n }

// String writes the frame in the same grammar, in one canonical form, with all that was filled in.
func (s *FlowSpec) String() string {
	k := &s.kind
	words := []string{"in_port=" + s.InPort}
	covered := -1 // 0: a keyword says the EtherType; 1: and the protocol
	for _, w := range keywords {
		if w.eth == k.eth && (!w.hasProto || k.hasProto && w.proto == k.proto) && covered < 0 {
			words, covered = append(words, w.name), 0
			if w.hasProto {
				covered = 1
			}
		}
	}
	specific := k.proto == packet.ProtoTCP || k.proto == packet.ProtoUDP || k.proto == packet.ProtoSCTP
	for i := range fields[1:] {
		f := &fields[1+i]
		switch {
		case f.eth > anyIP && f.eth != k.eth, f.proto != 0 && f.proto != k.proto:
		case f.mac != nil:
			if mac := *f.mac(s); mac != nil {
				words = append(words, f.name+"="+mac.String())
			}
		case f.ip != nil:
			if ip := *f.ip(s); ip.IsValid() {
				words = append(words, f.name+"="+ip.String())
			}
		case f.num == ethType && covered < 0 && k.eth != 0:
			words = append(words, fmt.Sprintf("%s=%#04x", f.name, k.eth))
		case f.num == ipProto && covered < 1 && k.hasProto:
			words = append(words, fmt.Sprintf("%s=%d", f.name, k.proto))
		case f.num == ethType || f.num == ipProto || !s.has(f.num), strings.HasPrefix(f.name, "tp_") && specific:
		case f.num == tcpFlags:
			words = append(words, f.name+"="+flagsText(uint8(s.nums[tcpFlags])))
		default:
			words = append(words, fmt.Sprintf("%s=%d", f.name, s.nums[f.num]))
		}
	}
	return strings.Join(words, ",")
}
