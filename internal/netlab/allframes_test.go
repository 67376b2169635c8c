package netlab_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/nat"
)

// step changes something, or sends frames, and compares.
func (w *wholeTwins) step() {
	switch w.r.IntN(24) {
	case 0, 1, 2:
		w.change()
		w.compareAll()
	case 3:
		w.sendFragments()
	default:
		w.exchange(w.draw(), 1+w.r.IntN(3))
		w.compareAll()
	}
	for _, name := range slices.Sorted(maps.Keys(w.asked)) {
		if delete(w.asked, name); w.has(name) && w.r.IntN(8) > 0 {
			w.says(name)
		}
	}
}

func (w *wholeTwins) pick() string {
	ports := w.labs[0].Ports()
	return ports[w.r.IntN(len(ports))].Name
}

// draw draws a frame that was sent before, an answer to one that was received, or a new one.
func (w *wholeTwins) draw() (s sending) {
	if n := len(w.recent); n > 0 && w.r.IntN(5) > 1 {
		if s = w.recent[w.r.IntN(n)]; w.has(s.name) {
			return s
		}
	}
	if n := len(w.got); n > 0 && w.r.IntN(3) > 0 {
		s = w.got[w.r.IntN(n)]
		if w.has(s.name) && w.answer(&s) {
			return w.remember(s)
		}
	}
	name := w.pick()
	src, to := w.ends(name)
	return w.remember(sending{name, w.build(src.Is4(), w.r.IntN(4) == 0, append(to, Size([]int{10, 10, 550, 900, 1400}[w.r.IntN(5)]))...)})
}

func (w *wholeTwins) remember(s sending) sending {
	if w.recent = append(w.recent, s); len(w.recent) > 6 {
		w.recent = w.recent[1:]
	}
	return s
}

// ends draws who speaks to whom.
func (w *wholeTwins) ends(name string) (src netip.Addr, o []Option) {
	p, q := w.labs[0].Find(name), w.labs[0].Find(w.pick())
	v6 := w.r.IntN(3) == 0
	addr := func(p *netlab.Port) netip.Addr {
		if v6 {
			return p.IP6
		}
		return p.IP4
	}
	src, mac := addr(p), [6]byte{2, 0xee, 5: 1}
	if gw := p.Net().Gateway(); gw != nil {
		mac = gw.If.MAC
	}
	var ours []netip.Addr // and others that are spoken to
	for _, a := range slices.Concat(hostAddrs, outsiders, []string{"198.51.100.2", "2001:db8:d::2", "10.1.0.1", "fd02::1", "172.16.0.9"}) {
		if a := netip.MustParseAddr(a); a.Is6() == v6 {
			ours = append(ours, a)
		}
	}
	dst := addr(q)
	switch {
	case name[0] == 'd' || name[0] == 'u': // from outside
		if a := netip.MustParseAddr(outsiders[w.r.IntN(3)]); a.Is6() == v6 {
			src = a
		}
		if w.r.IntN(3) > 0 {
			dst = ours[w.r.IntN(len(ours))]
		}
	case w.r.IntN(2) == 0:
		dst = ours[w.r.IntN(len(ours))]
	case p.Net() == q.Net() && w.r.IntN(3) > 0:
		mac = q.MAC
	}
	sport, dport := []uint16{61001, 61002, 5000, 80}[w.r.IntN(4)], []uint16{9, 8080, 8081, 61001, 80}[w.r.IntN(5)]
	o = []Option{From(macOf(p.MAC), src.String(), sport), To(macOf(mac), dst.String(), dport), Echo(sport, 1), ID(uint16(w.r.IntN(4)), w.r.IntN(2) == 0)}
	if w.r.IntN(12) == 0 {
		o = append(o, TTL(1))
	}
	if w.r.IntN(16) == 0 {
		o = append(o, VLAN(0xa000))
	}
	return src, o
}

// build draws what they say.
func (w *wholeTwins) build(v4, partial bool, o ...Option) *packet.Frame {
	if partial {
		o = append(o, Partial())
	}
	switch w.r.IntN(12) {
	case 0:
		return ICMPEcho(o...)
	case 1:
		return ICMPEchoReply(o...)
	case 2:
		return TCP(append(o, GSO([]int{300, 900}[w.r.IntN(2)]), Size(3000))...)
	case 3:
		return IP([]uint8{47, packet.ProtoSCTP}[w.r.IntN(2)], o...)
	case 4, 5, 6:
		return TCP(append(o, Flags(packet.TCPSyn), TCPOptions(2, 4, 5, 0xb4), Size(0))...)
	case 7, 8:
		flags := []uint8{packet.TCPSyn | packet.TCPAck, packet.TCPAck, packet.TCPFin | packet.TCPAck, packet.TCPRst}[w.r.IntN(4)]
		return TCP(append(o, Flags(flags))...)
	}
	return UDP(o...)
}

// answer makes of a frame that a port has received what it says to that.
func (w *wholeTwins) answer(s *sending) bool {
	f := s.f.Clone()
	if f.Parse() != packet.DropNone || f.L4 == 0 || f.Flags&(packet.FlagGroup|packet.FlagICMPError|packet.FlagND) != 0 {
		return false
	}
	k := &f.Key
	o := []Option{From(macOf(w.labs[0].Find(s.name).MAC), k.DstAddr().String(), k.DstPort), To(macOf(k.SrcMAC), k.SrcAddr().String(), k.SrcPort),
		Size([]int{0, 100, 1300}[w.r.IntN(3)]), ID(3, w.r.IntN(2) == 0)}
	if w.r.IntN(6) == 0 {
		kind := []uint8{3, 11}[w.r.IntN(2)]
		if k.EtherType == packet.EtherTypeIPv6 {
			kind = []uint8{1, 2}[w.r.IntN(2)]
		}
		b := f.Bytes()[f.L3:f.L3End]
		s.f = ICMP(kind, append(o, Echo(0, 1000), Payload(b[:min(len(b), 100)]))...)
		return true
	}
	switch k.Proto {
	case packet.ProtoUDP:
		s.f = UDP(o...)
	case packet.ProtoTCP:
		flags := []uint8{packet.TCPAck, packet.TCPAck, packet.TCPAck, packet.TCPFin | packet.TCPAck, packet.TCPRst}[w.r.IntN(5)]
		if is := packet.TCP(f.Transport()).Flags(); is&packet.TCPSyn != 0 && is&packet.TCPAck == 0 {
			flags = packet.TCPSyn | packet.TCPAck
		}
		s.f = TCP(append(o, Flags(flags))...)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		s.f = ICMPEchoReply(append(o, Echo(k.DstPort, 1))...)
	default:
		return false
	}
	return true
}

// sendFragments sends a datagram in fragments, in any order, not always all.
func (w *wholeTwins) sendFragments() {
	name := w.pick()
	src, o := w.ends(name)
	proto, build := uint8(packet.ProtoUDP), UDP
	if w.r.IntN(3) == 0 {
		if proto, build = packet.ProtoICMP, ICMPEcho; src.Is6() {
			proto = packet.ProtoICMPv6
		}
	}
	parts := cut(build(append(slices.Clip(o), Size(1500))...), proto, 600, o...)
	for range len(parts) + w.r.IntN(2) {
		w.fragments++
		w.exchange(sending{name, parts[w.r.IntN(len(parts))]}, 1)
		w.compareAll()
	}
}

// compareAll compares tables, which compare does not.
func (w *wholeTwins) compareAll() {
	for i, n := range []string{"n", "m", "o", "d", "u", "h"} {
		a, b := w.labs[0].FDB(n).Entries(), w.labs[1].FDB(n).Entries()
		if !slices.Equal(a, b) {
			w.fail("the FDBs of %s differ:\n%+v\n%+v", n, a, b)
		}
		if n := w.labs[i%2].FDB(n).Len(); n > 20 {
			w.fail("%d MACs", n)
		}
	}
	var lists [2][]string
	for i, l := range w.labs {
		l.Connections().List(&nat.Filter{}, l.Now(), func(e *nat.Entry) bool {
			lists[i] = append(lists[i], fmt.Sprintf("%+v", *e))
			return true
		})
		slices.Sort(lists[i])
		for _, n := range l.Router("main").Neighbors().List() {
			lists[i] = append(lists[i], fmt.Sprintf("%+v", n))
		}
		d, held := l.Fragments()
		lists[i] = append(lists[i], fmt.Sprintf("%d datagrams, %d bytes; %+v", d, held, l.Connections().Counters()))
	}
	for i := range max(len(lists[0]), len(lists[1])) {
		if i >= len(lists[0]) || i >= len(lists[1]) || lists[0][i] != lists[1][i] {
			w.fail("connections or neighbors differ:\n%q\n%q", lists[0][min(i, len(lists[0])-1)], lists[1][min(i, len(lists[1])-1)])
		}
	}
}

// hear remembers what a port of both labs received.
func (w *wholeTwins) hear(name string, frames []*packet.Frame) {
	p := w.labs[0].Find(name)
	for _, f := range frames {
		if b := f.Bytes(); b[12] == 0x08 && b[13] == 0x06 && netip.AddrFrom4([4]byte(b[38:42])) == p.IP4 || b[20] == packet.ProtoICMPv6 && b[54] == 135 {
			w.asked[name] = true
		}
		g := packet.NewFrame(make([]byte, packet.BufSize))
		g.Load(nil, bytes.Clone(f.Bytes()))
		if w.got = append(w.got, sending{name, g}); len(w.got) > 8 {
			w.got = w.got[1:]
		}
	}
}

func FuzzWholeCacheChangesNothing(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzed{bytes: b[:min(len(b), 6000)]}
		w := newWholeTwins(t, s)
		defer w.close()
		for !s.done {
			w.step()
		}
	})
}
