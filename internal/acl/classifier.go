package acl

import (
	"math/bits"
	"net/netip"

	"vswitch/internal/packet"
)

// classifier finds the first rule of one direction that matches a frame (aggregated bit vectors: Lakshman and Stiliadis 1998,
// Baboescu and Varghese 2001). For each field that rules ask for it holds, per value, the set of rules that want this value, and once the
// set of rules that don't ask. A rule matches when in each field it is in either; so all sets are intersected, 4096 rules at a step and
// then 64, until one is left.
//
//	cost     some steps per field, and at most one word per field and 64 rules; nothing is allocated
//	memory   600 to 900 bytes a rule, its own text included. A prefix has also a bit for each rule of the prefixes around it, and a segment
//	         of the ports one for each rule that wants it: at worst, with all rules around each other, N*N/8 bytes for N rules
type classifier struct {
	rules []*rule // in their order
	none  *set

	fields [fields]field
	ports  map[packet.PortID]*set
	src    *prefixes
	dst    *prefixes
	proto  [256]*set
	sport  *segments
	dport  *segments
	smac   map[[6]byte]*set
	dmac   map[[6]byte]*set
	ether  map[uint16]*set
	named  *set // what essential frames don't pass by
}

// The fields, the most telling ones first.
const (
	fieldDst = iota
	fieldSrc
	fieldDstPort
	fieldSrcPort
	fieldPort
	fieldProto
	fieldEther
	fieldDstMAC
	fieldSrcMAC
	fieldNamed
	fields
)

// field holds what does not depend on a value.
type field struct {
	asked bool // by a rule
	any   *set // the rules that don't ask
}

// pair is one field's rules for a frame: those that want its value, and those that don't ask.
type pair struct{ want, any *set }

// first returns the first rule that matches, or nil. port is whose rules are asked beside the network's.
func (c *classifier) first(port packet.PortID, q *Query) *rule {
	if len(c.rules) == 0 {
		return nil
	}
	var pairs [fields]pair
	n := 0
	essential := q.essential()
	for i := range c.fields {
		f := &c.fields[i]
		if !f.asked && (i != fieldNamed || !essential) {
			continue
		}
		pairs[n] = pair{c.want(i, port, q), f.any}
		if pairs[n].want == nil {
			pairs[n].want = c.none
		}
		n++
	}
	if n == 0 {
		return c.rules[0]
	}
	return c.intersect(pairs[:n], q)
}

// want returns the rules that ask for the frame's value of a field, nil when there are none.
func (c *classifier) want(i int, port packet.PortID, q *Query) *set {
	switch i {
	case fieldDst:
		return c.dst.find(q.Dst)
	case fieldSrc:
		return c.src.find(q.Src)
	case fieldDstPort:
		return c.dport.find(q.DstPort, q.NoPorts)
	case fieldSrcPort:
		return c.sport.find(q.SrcPort, q.NoPorts)
	case fieldPort:
		return c.ports[port]
	case fieldProto:
		return c.proto[q.Proto]
	case fieldEther:
		return c.ether[q.EtherType]
	case fieldDstMAC:
		return c.dmac[q.DstMAC]
	case fieldSrcMAC:
		return c.smac[q.SrcMAC]
	case fieldNamed:
		return c.named
	}
	return nil
}

func (c *classifier) intersect(pairs []pair, q *Query) *rule {
	for g := range c.none.groups {
		words := ^uint64(0)
		for i := range pairs {
			words &= pairs[i].want.groups[g].mask | pairs[i].any.groups[g].mask
		}
		for ; words != 0; words &= words - 1 {
			w := bits.TrailingZeros64(words)
			left := ^uint64(0)
			for i := range pairs {
				if left &= pairs[i].want.word(g, w) | pairs[i].any.word(g, w); left == 0 {
					break
				}
			}
			for ; left != 0; left &= left - 1 {
				r := c.rules[g<<12|w<<6|bits.TrailingZeros64(left)]
				if r.portsMatch(q) {
					return r
				}
			}
		}
	}
	return nil
}

// portsMatch looks at what segments keep only roughly.
func (r *rule) portsMatch(q *Query) bool {
	if len(r.m.sport)+len(r.m.dport) == 0 {
		return true
	}
	if q.NoPorts {
		return r.m.action != Allow
	}
	return within(r.m.sport, q.SrcPort) && within(r.m.dport, q.DstPort)
}

// within tells whether the port is in one of the ranges, which are in order and don't meet; none are all.
func within(ranges []portRange, port uint16) bool {
	i, j := 0, len(ranges)
	for i < j {
		if h := (i + j) / 2; ranges[h].last < port {
			i = h + 1
		} else {
			j = h
		}
	}
	return len(ranges) == 0 || i < len(ranges) && ranges[i].first <= port
}

// matches is the same as the classifier, rule by rule and field by field. It returns the first field that differs, or "".
func (r *rule) matches(q *Query) string {
	m := &r.m
	switch {
	case q.essential() && !m.named():
		return "ARP and neighbor discovery pass by"
	case m.ether != 0 && m.ether != q.EtherType:
		return "other EtherType"
	case m.smac.set && m.smac.addr != q.SrcMAC:
		return "other source MAC"
	case m.dmac.set && m.dmac.addr != q.DstMAC:
		return "other destination MAC"
	case m.asksIP() && !q.isIP():
		return "not IP"
	case m.proto != 0 && m.proto != q.Proto:
		return "other protocol"
	case !m.src.any() && !contains(r.src, q.Src):
		return "other source"
	case !m.dst.any() && !contains(r.dst, q.Dst):
		return "other destination"
	case !r.portsMatch(q) && q.NoPorts:
		return "ports not known"
	case !r.portsMatch(q) && m.icmp:
		return "other ICMP type"
	case !r.portsMatch(q) && !within(m.sport, q.SrcPort):
		return "other source port"
	case !r.portsMatch(q):
		return "other destination port"
	}
	return ""
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
