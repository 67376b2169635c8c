package acl

import (
	"net/netip"

	"vswitch/internal/packet"
)

// newClassifier makes the classifier of rules that are in their order already.
func newClassifier(rules []*rule) *classifier {
	size := (len(rules) + 63) / 64
	c := &classifier{rules: rules, none: newSet(make([]uint64, size))}
	var open [fields]plain
	for f := range open {
		open[f] = make(plain, size)
	}
	ports, proto, ether := asking[packet.PortID]{}, asking[uint8]{}, asking[uint16]{}
	smac, dmac, src, dst := asking[[6]byte]{}, asking[[6]byte]{}, asking[netip.Prefix]{}, asking[netip.Prefix]{}
	named := make(plain, size)
	for i, r := range rules {
		m := &r.m
		add(ports, r.onPort && r.port != 0, i, r.port)
		add(proto, m.proto != 0, i, m.proto)
		add(ether, m.ether != 0, i, m.ether)
		add(smac, m.smac.set, i, m.smac.addr)
		add(dmac, m.dmac.set, i, m.dmac.addr)
		add(src, !m.src.any(), i, r.src...)
		add(dst, !m.dst.any(), i, r.dst...)
		if m.named() {
			named.mark(i)
		}
		for f, asks := range [fields]bool{
			fieldPort: r.onPort, fieldProto: m.proto != 0, fieldEther: m.ether != 0, fieldSrcMAC: m.smac.set, fieldDstMAC: m.dmac.set,
			fieldSrc: !m.src.any(), fieldDst: !m.dst.any(), fieldSrcPort: len(m.sport) > 0, fieldDstPort: len(m.dport) > 0,
		} {
			if asks {
				c.fields[f].asked = true
			} else if f != fieldNamed {
				open[f].mark(i)
			}
		}
	}
	for f := range open {
		c.fields[f].any = newSet(open[f])
	}
	for p, s := range pack(proto, size) {
		c.proto[p] = s
	}
	c.ports, c.ether, c.smac, c.dmac = pack(ports, size), pack(ether, size), pack(smac, size), pack(dmac, size)
	c.src, c.dst, c.named = newPrefixes(src, size), newPrefixes(dst, size), newSet(named)
	c.sport = newSegments(rules, size, func(m *match) []portRange { return m.sport })
	c.dport = newSegments(rules, size, func(m *match) []portRange { return m.dport })
	return c
}

// plain is a set of rules with all its words.
type plain []uint64

func (p plain) mark(i int) { p[i/64] |= 1 << (i % 64) }

// asking lists the rules that ask for each value of a field.
type asking[K comparable] map[K][]int

// add notes that rule i asks for values.
func add[K comparable](a asking[K], asks bool, i int, values ...K) {
	if asks {
		for _, v := range values {
			a[v] = append(a[v], i)
		}
	}
}

func pack[K comparable](a asking[K], size int) map[K]*set {
	sets := make(map[K]*set, len(a))
	p := make(plain, size)
	for v, rules := range a {
		clear(p)
		for _, i := range rules {
			p.mark(i)
		}
		sets[v] = newSet(p)
	}
	return sets
}
