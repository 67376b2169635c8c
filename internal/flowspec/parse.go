package flowspec

import (
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/packet"
)

func invalid(format string, args ...any) error { return api.Errorf(api.CodeInvalid, format, args...) }

// Parse reads a frame's description. Errors are *api.Error with CodeInvalid.
func Parse(text string) (*Spec, error) {
	s := &Spec{}
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
func (s *Spec) word(name, value string, hasValue bool, seen map[string]string) error {
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
func (s *Spec) set(f *field, name, value string) error {
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
func (s *Spec) claim(eth uint16, proto uint8, hasProto bool, by string) error {
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
func (s *Spec) settle(seen map[string]string) error {
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

func (s *Spec) settleTags(seen map[string]string) error {
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
