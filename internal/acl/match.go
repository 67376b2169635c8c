package acl

import (
	"net/netip"
	"slices"
	"strings"

	"vswitch/internal/packet"
)

// match is a rule as it was read: what its words mean.
type match struct {
	on       ref
	dir      Direction
	action   Action
	ether    uint16 // 0: any
	proto    uint8  // 0: any
	src, dst peer
	icmp     bool        // sport is the range of one ICMP type
	sport    []portRange // none: any. As in packet.Key: of ICMP type<<8|code
	dport    []portRange // none: any
	smac     mac
	dmac     mac
}

// read understands a rule, or tells what is wrong with it.
func read(r *Rule) (m *match, err error) {
	m = &match{}
	for _, step := range []func() error{
		func() error { m.on, err = readRef("rule for", r.On); return err },
		func() error { return readWord("direction", r.Direction, directions, (*uint8)(&m.dir)) },
		func() error { return readWord("action", r.Action, actions, (*uint8)(&m.action)) },
		func() error { m.proto, err = readProto(r.Proto); return err },
		func() error { m.src, err = readPeer("--src", r.Src); return err },
		func() error { m.dst, err = readPeer("--dst", r.Dst); return err },
		func() error { m.sport, err = readRanges("--sport", r.SrcPorts); return err },
		func() error { m.dport, err = readRanges("--dport", r.DstPorts); return err },
		func() error { m.smac, err = readMAC("--src-mac", r.SrcMAC); return err },
		func() error { m.dmac, err = readMAC("--dst-mac", r.DstMAC); return err },
		func() error { m.ether, err = readEtherType(r.EtherType); return err },
		func() error { return m.readICMP(r) },
		m.consistent,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if r.Priority < 0 || r.Priority > MaxPriority {
		return nil, invalid("priority %d: use a number from 1 to %d", r.Priority, MaxPriority)
	}
	return m, nil
}

func readWord(what, word string, words []string, to *uint8) error {
	i := slices.Index(words, word)
	if i < 0 {
		return invalid("%s %.70q: use %s", what, word, strings.Join(words, ", "))
	}
	*to = uint8(i)
	return nil
}

func (m *match) readICMP(r *Rule) error {
	if r.ICMPType == "" {
		return nil
	}
	if m.proto != packet.ProtoICMP && m.proto != packet.ProtoICMPv6 {
		return invalid("--icmp-type needs --proto icmp or --proto icmp6")
	}
	if len(m.sport)+len(m.dport) > 0 {
		return invalid("--sport and --dport are for protocols with ports; ICMP has none: leave them out")
	}
	t, err := readICMPType(m.proto, r.ICMPType)
	m.icmp, m.sport = true, []portRange{t}
	return err
}

// consistent refuses rules that no frame can match.
func (m *match) consistent() error {
	if !m.icmp && len(m.sport)+len(m.dport) > 0 && !hasPorts(m.proto) {
		return invalid("--sport and --dport need a protocol with ports: add --proto tcp, udp, sctp, dccp or udplite")
	}
	if m.ether != 0 && m.ether != packet.EtherTypeIPv4 && m.ether != packet.EtherTypeIPv6 && m.asksIP() {
		return invalid("--ethertype %s is not IP, and has neither --proto nor --src and --dst: leave either out", etherTypeText(m.ether))
	}
	families := []struct {
		option, value string
		v4, v6        bool
	}{
		{"--ethertype", etherTypeText(m.ether), m.ether == packet.EtherTypeIPv4, m.ether == packet.EtherTypeIPv6},
		{"--proto", protoText(m.proto), m.proto == packet.ProtoICMP, m.proto == packet.ProtoICMPv6},
		{"--src", m.src.String(), m.src.prefix.Addr().Is4(), m.src.prefix.Addr().Is6()},
		{"--dst", m.dst.String(), m.dst.prefix.Addr().Is4(), m.dst.prefix.Addr().Is6()},
	}
	for i, a := range families {
		for _, b := range families[i+1:] {
			if a.v4 && b.v6 || a.v6 && b.v4 {
				return invalid("%s %s and %s %s: one is IPv4 and the other IPv6, so no frame can match", a.option, a.value, b.option, b.value)
			}
		}
	}
	return nil
}

// asksIP tells whether the rule names something that only IP has.
func (m *match) asksIP() bool {
	return m.proto != 0 || !m.src.any() || !m.dst.any()
}

// named tells whether the rule names something of the layer of ARP and neighbor discovery, see the package's doc.
func (m *match) named() bool { return m.smac.set || m.dmac.set || m.ether != 0 || m.icmp }

// mayBeIP tells whether the rule can match IP at all.
func (m *match) mayBeIP() bool {
	return m.ether == 0 || m.ether == packet.EtherTypeIPv4 || m.ether == packet.EtherTypeIPv6
}

// canonical writes what was read back into the words of a rule.
func (m *match) canonical(r *Rule) Rule {
	c := Rule{
		ID: r.ID, On: m.on.String(), Direction: m.dir.String(), Action: m.action.String(), Priority: r.priority(),
		Src: m.src.String(), Dst: m.dst.String(), DstPorts: rangesText(m.dport), SrcMAC: m.smac.String(), DstMAC: m.dmac.String(),
		EtherType: etherTypeText(m.ether), Log: r.Log,
	}
	if m.proto != 0 {
		c.Proto = protoText(m.proto)
	}
	if m.icmp {
		c.ICMPType = icmpTypeText(m.proto, m.sport[0])
	} else {
		c.SrcPorts = rangesText(m.sport)
	}
	return c
}

// Query is a frame as rules see it.
type Query struct {
	SrcMAC, DstMAC   [6]byte
	EtherType        uint16     // behind all tags; 0 for 802.3 length fields
	Src, Dst         netip.Addr // invalid unless IP
	Proto            uint8      // of IP, behind extension headers; 0 unless IP
	SrcPort, DstPort uint16     // as in packet.Key: of ICMP type<<8|code, and of an echo its id
	NoPorts          bool       // ports or ICMP type are not known, as of a fragment; or the protocol has none
	Gateway          bool       // it is for, or comes by, the network's gateway: not from port to port
}

// FromFrame returns what rules see of a parsed frame. Of a fragment without FlagPorts the ports are missing.
func FromFrame(f *packet.Frame) Query {
	k := &f.Key
	q := Query{SrcMAC: k.SrcMAC, DstMAC: k.DstMAC, EtherType: k.EtherType}
	if q.isIP() {
		q.Src, q.Dst = k.SrcAddr(), k.DstAddr()
		q.Proto, q.SrcPort, q.DstPort, q.NoPorts = k.Proto, k.SrcPort, k.DstPort, f.L4 == 0 && f.Flags&packet.FlagPorts == 0
	}
	return q
}

// Reverse returns the query of what this one is the reply to.
func (q *Query) Reverse() Query {
	r := *q
	r.SrcMAC, r.DstMAC, r.Src, r.Dst = q.DstMAC, q.SrcMAC, q.Dst, q.Src
	if !q.icmp() {
		r.SrcPort, r.DstPort = q.DstPort, q.SrcPort
		return r
	}
	switch t := q.SrcPort >> 8; {
	case q.Proto == packet.ProtoICMP && (t == 0 || t == 8):
		r.SrcPort ^= 8 << 8
	case q.Proto == packet.ProtoICMPv6 && (t == 128 || t == 129):
		r.SrcPort ^= 1 << 8
	}
	return r
}

func (q *Query) isIP() bool {
	return q.EtherType == packet.EtherTypeIPv4 || q.EtherType == packet.EtherTypeIPv6
}

func (q *Query) icmp() bool { return q.Proto == packet.ProtoICMP || q.Proto == packet.ProtoICMPv6 }

// essential tells whether the frame is of ARP or of neighbor and router discovery (RFC 4861), but for redirects.
func (q *Query) essential() bool {
	t := q.SrcPort >> 8
	return q.EtherType == packet.EtherTypeARP ||
		q.EtherType == packet.EtherTypeIPv6 && q.Proto == packet.ProtoICMPv6 && !q.NoPorts && t >= 133 && t <= 136
}

// trackable tells whether frames of the kind can belong to a connection: unicast TCP, UDP, SCTP, and ICMP echo.
func (q *Query) trackable() bool {
	if !q.isIP() || q.DstMAC[0]&1 != 0 {
		return false
	}
	t := q.SrcPort >> 8
	switch q.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		return true
	case packet.ProtoICMP:
		return q.EtherType == packet.EtherTypeIPv4 && !q.NoPorts && (t == 0 || t == 8)
	case packet.ProtoICMPv6:
		return q.EtherType == packet.EtherTypeIPv6 && !q.NoPorts && (t == 128 || t == 129)
	}
	return false
}
