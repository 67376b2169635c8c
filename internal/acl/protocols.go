package acl

import (
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/packet"
)

// protocol is an IP protocol that has a name in rules.
type protocol struct {
	name   string
	number uint8 // of IANA
	ports  bool  // it has them where TCP has
}

var protocols = []protocol{
	{"icmp", packet.ProtoICMP, false}, {"igmp", 2, false}, {"tcp", packet.ProtoTCP, true}, {"udp", packet.ProtoUDP, true}, {"dccp", 33, true},
	{"gre", 47, false}, {"esp", 50, false}, {"ah", 51, false}, {"icmp6", packet.ProtoICMPv6, false}, {"ospf", 89, false},
	{"vrrp", 112, false}, {"sctp", packet.ProtoSCTP, true}, {"udplite", 136, true},
}

func readProto(s string) (uint8, error) {
	if s == "" {
		return 0, nil
	}
	if s == "icmpv6" || s == "ipv6-icmp" {
		s = "icmp6"
	}
	for _, p := range protocols {
		if p.name == s {
			return p.number, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		var names []string
		for _, p := range protocols {
			names = append(names, p.name)
		}
		return 0, invalid("--proto %.70q: use %s, or a protocol number from 1 to 255", s, strings.Join(names, ", "))
	}
	return uint8(n), nil
}

func protoText(n uint8) string {
	for _, p := range protocols {
		if p.number == n {
			return p.name
		}
	}
	return strconv.Itoa(int(n))
}

func hasPorts(proto uint8) bool {
	return slices.ContainsFunc(protocols, func(p protocol) bool { return p.number == proto && p.ports })
}

// icmpTypes by name: those of ICMP (RFC 792) and of ICMPv6 (RFC 4443, 4861).
var icmpTypes = map[uint8]map[string]uint8{
	packet.ProtoICMP: {"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8, "time-exceeded": 11,
		"parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14},
	packet.ProtoICMPv6: {"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
		"echo-request": 128, "echo-reply": 129, "router-solicitation": 133, "router-advertisement": 134,
		"neighbor-solicitation": 135, "neighbor-advertisement": 136, "redirect": 137},
}

// readICMPType reads a type, or type/code, as the range of values that packet.Key has for it: type<<8|code.
func readICMPType(proto uint8, s string) (portRange, error) {
	kind, code, hasCode := strings.Cut(s, "/")
	t, named := icmpTypes[proto][kind]
	if !named {
		n, err := strconv.ParseUint(kind, 10, 8)
		if err != nil {
			return portRange{}, invalid("--icmp-type %.70q: use a number from 0 to 255, also with a code as in 3/4, or a name of --proto %s: echo-request, echo-reply, "+
				"destination-unreachable, time-exceeded, ...", s, protoText(proto))
		}
		t = uint8(n)
	}
	r := portRange{uint16(t) << 8, uint16(t)<<8 | 0xff}
	if hasCode {
		n, err := strconv.ParseUint(code, 10, 8)
		if err != nil {
			return portRange{}, invalid("--icmp-type %.70q: the code behind the slash is a number from 0 to 255", s)
		}
		r.first += uint16(n)
		r.last = r.first
	}
	return r, nil
}

func icmpTypeText(proto uint8, r portRange) string {
	t := uint8(r.first >> 8)
	s := strconv.Itoa(int(t))
	for name, n := range icmpTypes[proto] {
		if n == t {
			s = name
		}
	}
	if r.first == r.last {
		s += "/" + strconv.Itoa(int(r.first&0xff))
	}
	return s
}
