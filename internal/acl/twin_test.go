package acl_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"vswitch/internal/acl"
	"vswitch/internal/packet"
)

// twin finds the rule that decides by trying all of them on their texts: the highest priority, then a port's before the network's, then the
// first.
func twin(all []acl.Rule, dir acl.Direction, port string, q *acl.Query) (best *acl.Rule) {
	rank := func(r *acl.Rule) int {
		n := 2 * r.Priority
		if r.On != "net" {
			n++
		}
		return n
	}
	for i := range all {
		r := &all[i]
		if r.Direction == dir.String() && (r.On == "net" || r.On == port) && twinMatch(r, q) && (best == nil || rank(r) > rank(best)) {
			best = r
		}
	}
	return best
}

func twinMatch(r *acl.Rule, q *acl.Query) bool {
	ip := q.EtherType == 0x800 || q.EtherType == 0x86dd
	kind := q.SrcPort >> 8
	essential := q.EtherType == 0x806 || q.EtherType == 0x86dd && q.Proto == 58 && !q.NoPorts && 133 <= kind && kind <= 136
	if essential && r.SrcMAC+r.DstMAC+r.EtherType+r.ICMPType == "" || !ip && r.Proto+r.Src+r.Dst != "" {
		return false
	}
	if n := map[string]uint16{"arp": 0x806, "ipv4": 0x800, "ipv6": 0x86dd, "0x88cc": 0x88cc}[r.EtherType]; n != 0 && n != q.EtherType {
		return false
	}
	if n := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "gre": 47}[r.Proto]; n != 0 && n != q.Proto {
		return false
	}
	if r.SrcMAC != "" && r.SrcMAC != twinMAC(q.SrcMAC) || r.DstMAC != "" && r.DstMAC != twinMAC(q.DstMAC) ||
		!twinAddr(r.Src, q.Src) || !twinAddr(r.Dst, q.Dst) {
		return false
	}
	if r.SrcPorts+r.DstPorts+r.ICMPType == "" {
		return true
	}
	if q.NoPorts {
		return r.Action != "allow"
	}
	types := map[string]uint16{"echo-request": 8, "echo-reply": 0, "neighbor-solicitation": 135, "200": 200}
	if r.Proto == "icmp6" {
		types["echo-request"], types["echo-reply"] = 128, 129
	}
	return twinPorts(r.SrcPorts, q.SrcPort) && twinPorts(r.DstPorts, q.DstPort) && (r.ICMPType == "" || types[r.ICMPType] == kind)
}

func refuses(r *acl.Rule) bool { return r != nil && r.Action != "allow" }

// twinTracked tells which frames can belong to connections.
func twinTracked(q *acl.Query) bool {
	echo := map[uint16]uint16{8: 0x0801, 0: 0x0801, 128: 0x863a, 129: 0x863a}[q.SrcPort>>8] // family and protocol of echoes by type
	unicast := strings.HasPrefix(twinMAC(q.DstMAC), "02")
	return unicast && (q.Proto == 6 || q.Proto == 17 || !q.NoPorts && echo != 0 && echo == q.EtherType&0xff00|uint16(q.Proto))
}

func twinMAC(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

func twinAddr(peer string, a netip.Addr) bool {
	switch {
	case peer == "":
		return true
	case peer == "@web":
		return a == netip.MustParseAddr("10.0.0.2") || a == netip.MustParseAddr("fd00::2")
	case peer == "@net":
		return netip.MustParsePrefix("10.0.0.0/24").Contains(a) || netip.MustParsePrefix("fd00::/64").Contains(a)
	case !strings.Contains(peer, "/"):
		return a == netip.MustParseAddr(peer)
	}
	return netip.MustParsePrefix(peer).Contains(a)
}

func twinPorts(list string, port uint16) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, _ := strconv.Atoi(first)
		b, _ := strconv.Atoi(last)
		if list == "" || a <= int(port) && int(port) <= b {
			return true
		}
	}
	return false
}

// dice makes rules and frames from few values, so that they meet.
type dice struct{ *rand.Rand }

func (d dice) pick(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) addr(v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: byte(d.IntN(2)), 7: byte(d.IntN(2)), 15: byte(d.IntN(5))})
	}
	return netip.AddrFrom4([4]byte{10, byte(d.IntN(2)), byte(d.IntN(2)), byte(d.IntN(5))})
}

func (d dice) peer(v6 bool) string {
	if n := d.IntN(10); n < 2 {
		return []string{"@web", "@net"}[n]
	}
	a := d.addr(v6)
	p, _ := a.Prefix(d.IntN(a.BitLen() + 1))
	return p.String()
}

func (d dice) ports() string {
	var parts []string
	for range 1 + d.IntN(3) {
		a, b := d.port(), d.port()
		parts = append(parts, fmt.Sprintf("%d-%d", min(a, b), max(a, b)), strconv.Itoa(d.port()))
	}
	return strings.Join(parts[:1+d.IntN(len(parts))], ",")
}

func (d dice) port() int {
	if d.IntN(4) == 0 {
		return d.IntN(65536)
	}
	return d.IntN(12)
}

// rule makes a rule. Each field is there with a chance of 1 in rare.
func (d dice) rule(rare int) string {
	s := d.pick("net", "web", "db", "away") + " " + d.pick("in", "out") + " " + d.pick("allow", "deny", "reject")
	has := func() bool { return d.IntN(rare) == 0 }
	v6 := d.IntN(2) == 0
	if has() {
		s += " --src-mac " + twinMAC([6]byte{2, 5: byte(d.IntN(3))})
	}
	if has() {
		s += " --dst-mac " + twinMAC([6]byte{2, 5: byte(d.IntN(3))})
	}
	if has() {
		s += " --priority " + strconv.Itoa(32767+d.IntN(3))
	}
	if d.IntN(8) == 0 {
		return s + " --ethertype " + d.pick("arp", "0x88cc", "ipv4", "ipv6")
	}
	if has() {
		s += " --src " + d.peer(v6)
	}
	if has() {
		s += " --dst " + d.peer(v6)
	}
	switch d.IntN(rare + 4) {
	case 0:
		s += " --proto gre"
	case 1:
		s += map[bool]string{false: " --proto icmp", true: " --proto icmp6"}[v6]
		if d.IntN(2) == 0 {
			s += " --icmp-type " + d.pick("echo-request", "echo-reply", "200")
		}
	case 2:
		if v6 {
			s += " --proto icmp6 --icmp-type neighbor-solicitation"
		}
	case 3, 4:
		s += " --proto " + d.pick("tcp", "udp")
		if has() {
			s += " --sport " + d.ports()
		}
		if has() {
			s += " --dport " + d.ports()
		}
	}
	return s
}

func (d dice) query() *acl.Query {
	q := &acl.Query{SrcMAC: [6]byte{2, 5: byte(d.IntN(3))}, DstMAC: [6]byte{2, 5: byte(d.IntN(3))}}
	if d.IntN(8) == 0 {
		q.DstMAC[0] = 3
	}
	switch d.IntN(12) {
	case 0:
		q.EtherType = packet.EtherTypeARP
		return q
	case 1:
		q.EtherType = 0x88cc
		return q
	}
	v6 := d.IntN(2) == 0
	q.EtherType = packet.EtherTypeIPv4
	if v6 {
		q.EtherType = packet.EtherTypeIPv6
	}
	q.Src, q.Dst = d.addr(v6), d.addr(v6)
	q.NoPorts = d.IntN(8) == 0
	switch q.Proto = []uint8{6, 17, 6, 17, 1, 58, 47}[d.IntN(7)]; {
	case q.NoPorts || q.Proto == 47:
		q.NoPorts = true
	case q.Proto == 1 || q.Proto == 58:
		q.SrcPort, q.DstPort = []uint16{8, 0, 128, 129, 133, 135, 137, 200}[d.IntN(8)]<<8, 7
	default:
		q.SrcPort, q.DstPort = uint16(d.port()), uint16(d.port())
	}
	return q
}

// TestAgainstNaiveTwin holds the classifier and Explain against trying all rules, with few and many rules, of few and many fields.
func TestAgainstNaiveTwin(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(4, 2))}
	matched, looked := 0, 0
	for round := range 120 {
		n := []int{1, 5, 40, 64, 65, 300, 65, 700}[round%8]
		texts := make([]string, n)
		rare := 1 + round%4
		for i := range texts {
			texts[i] = d.rule(rare)
		}
		all := rules(t, texts...)
		s, err := acl.Compile(acl.Config{Network: "net", Rules: all}, world{})
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			q := d.query()
			dir := acl.Direction(d.IntN(2))
			port, id := "web", web
			switch d.IntN(4) {
			case 0:
				port, id = "db", db
			case 1:
				port, id = "", 0
			}
			want, got := twin(all, dir, port, q), s.Judge(dir, id, q, acl.New)
			if want == nil != (got.Rule() == nil) || want != nil && *want != *got.Rule() {
				t.Fatalf("%d rules, %s %q, %+v:\n%v decides, want %v", n, dir, port, q, got.Rule(), want)
			}
			if want != nil {
				matched++
			}
			back := q.Reverse()
			reply := twin(all, 1-dir, port, &back)
			if needs := twinTracked(q) && (refuses(want) || refuses(reply)); needs != got.NeedsState {
				t.Fatalf("%d rules, %s %q, %+v: needs state is %v; decided by %v, and a reply by %v", n, dir, port, q, got.NeedsState, want, reply)
			}
			if r := s.Judge(1-dir, id, &back, acl.Reply); r.Rule() != got.Rule() || !r.NeedsState {
				t.Fatalf("%d rules, %s %q, %+v: %v decides, but of the reply %v", n, dir, port, q, got.Rule(), r.Rule())
			}
			e := s.Explain(dir, id, q, acl.New)
			if e.Rule() != got.Rule() || e.Action != got.Action {
				t.Fatalf("%d rules, %s %q, %+v: explained as %v, judged as %v", n, dir, port, q, e.Rule(), got.Rule())
			}
			for i, l := range e.Looks {
				if last := i == len(e.Looks)-1 && want != nil; (l.Why == "") != last || last && l.Rule != got.Rule() || twinMatch(l.Rule, q) != last {
					t.Fatalf("%s %q, %+v: look %d of %d: %v: %q", dir, port, q, i, len(e.Looks), l.Rule, l.Why)
				}
				looked++
			}
		}
	}
	if matched < 10000 || looked < 50000 {
		t.Fatalf("only %d of 24000 frames met a rule, %d looks: this test tests too little", matched, looked)
	}
}

// TestManyRules: of more rules and ports than segments, each rule is found by the one frame that is its own, and by no other.
func TestManyRules(t *testing.T) {
	texts := make([]string, 10000)
	for i := range texts {
		texts[i] = fmt.Sprintf("web in deny --proto udp --dport %d", 1+6*i)
	}
	s := compile(t, acl.Config{}, texts...)
	for i := range texts {
		for port, want := range map[int]string{6 * i: noRule, 1 + 6*i: fmt.Sprint("r", i), 2 + 6*i: noRule} {
			r := s.Judge(acl.In, web, query(packet.ProtoUDP, "10.0.0.2", "10.0.0.3", 9, uint16(port)), acl.New)
			if got := decided(&r); got != want {
				t.Fatalf("port %d: %s decided, want %s", port, got, want)
			}
		}
	}
}
