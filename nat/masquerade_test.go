package nat_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"vswitch/internal/cputime"
	"vswitch/internal/packet"
	"vswitch/nat"
)

// external returns the port that the connection leaves from.
func external(c nat.Conn) uint16 { return c.Rewrite.SrcPort }

// TestMasquerade: there and back, IPv4 and IPv6, ports and identifiers.
func TestMasquerade(t *testing.T) {
	for name, c := range map[string]struct {
		proto       uint8
		ip, in, out string
	}{
		"TCP":    {tcp, "192.0.2.1", "10.0.0.1:4000", "1.1.1.1:80"},
		"UDP6":   {udp, "2001:db8::1", "[fd00::1]:4000", "[2606::1]:53"},
		"echo":   {icmp, "192.0.2.1", "10.0.0.1:77", "1.1.1.1:0"},
		"echo 6": {packet.ProtoICMPv6, "2001:db8::1", "[fd00::1]:77", "[2606::1]:0"},
		"SCTP":   {sctp, "192.0.2.1", "10.0.0.1:4000", "1.1.1.1:80"},
		"GRE":    {47, "192.0.2.1", "10.0.0.1:0", "1.1.1.1:0"},
	} {
		table := newTable()
		p := pool(t, table, c.ip, 61000, 61009)
		q := tuple(c.proto, c.in+" > "+c.out)
		there := open(t, table, nat.Request{Tuple: q, Signal: nat.Open, Pool: p}, sec(0))
		r := there.Rewrite
		if r.NewDst || !r.NewSrc || r.Src != addr(c.ip) || c.proto != 47 && (r.SrcPort < 61000 || r.SrcPort > 61009) {
			t.Errorf("%s: %+v", name, r)
		}
		answer := nat.Tuple{Src: q.Dst, SrcPort: q.DstPort, Dst: r.Src, DstPort: r.SrcPort, Zone: 1, Proto: c.proto, Family: q.Family}
		back := track(t, table, answer, nat.Data, sec(1))
		if b := back.Rewrite; b.NewSrc || !b.NewDst || b.Dst != q.Src || b.DstPort != q.SrcPort || !back.Reply {
			t.Errorf("%s: back %+v", name, b)
		}
		stranger := answer
		stranger.SrcPort++ // address-and-port-dependent filtering
		if c.proto == udp || c.proto == tcp {
			if _, ok := table.Track(&stranger, nat.Data, sec(1)); ok {
				t.Errorf("%s: a stranger gets in", name)
			}
		}
	}
}

// TestMapping: endpoint-independent (RFC 4787 REQ-1), parity and range kept (REQ-3, REQ-4), the port itself where it is in the range.
func TestMapping(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 500, 3000)
	a := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:50001 > 1.1.1.1:80"), Pool: p}, sec(0))
	for _, to := range []string{"1.1.1.1:81", "2.2.2.2:80", "3.3.3.3:3"} {
		if b := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:50001 > "+to), Pool: p}, sec(0)); external(b) != external(a) {
			t.Errorf("towards %s from %d, and from %d before", to, external(b), external(a))
		}
	}
	if external(a)%2 != 1 || external(a) < 1024 {
		t.Errorf("50001 became %d: parity and range are to be kept", external(a))
	}
	if b := open(t, table, nat.Request{Tuple: tuple(tcp, "10.0.0.1:50001 > 1.1.1.1:80"), Pool: p}, sec(0)); external(b)%2 != 1 {
		t.Errorf("TCP: 50001 became %d", external(b))
	}
	for _, c := range []struct {
		from, want string
		low, high  uint16
	}{
		{"10.0.0.1:2000", "the same", 2000, 2000},
		{"10.0.0.2:2000", "even, another", 1024, 3000},
		{"10.0.0.1:600", "the same", 600, 600},
		{"10.0.0.2:600", "below 1024", 500, 1023},
		{"10.0.0.1:100", "below 1024", 500, 1023},
	} {
		b := open(t, table, nat.Request{Tuple: tuple(udp, c.from+" > 1.1.1.1:80"), Pool: p}, sec(0))
		if external(b) < c.low || external(b) > c.high || external(b)%2 != 0 {
			t.Errorf("%s became %d, want %s", c.from, external(b), c.want)
		}
	}
}

// TestMappingEnds: with the last connection, and not before.
func TestMappingEnds(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 61000, 61000)
	one := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
	open(t, table, nat.Request{Tuple: one, Pool: p}, sec(0))
	open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:1 > 2.2.2.2:80"), Pool: p}, sec(50))
	table.Sweep(100, sec(130))
	if table.Len() != 1 {
		t.Fatal("not swept")
	}
	if shared := table.Counters().Shared; shared != 0 {
		t.Fatal("shared")
	}
	open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.2:1 > 3.3.3.3:80"), Pool: p}, sec(130))
	if table.Counters().Shared != 1 {
		t.Error("the port was free while a connection of its mapping lived")
	}
	table.Remove(&nat.Filter{})
	open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.3:1 > 3.3.3.3:80"), Pool: p}, sec(130))
	if table.Counters().Shared != 1 {
		t.Error("the port was not free when all had ended")
	}
}

// TestExhausted: a range that is used up is shared between destinations; towards one it is refused, but where a connection is closed.
func TestExhausted(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 61000, 61009)
	from := func(i int, to string) nat.Request {
		q := tuple(tcp, "10.0.0.1:1 > "+to)
		q.SrcPort = uint16(1000 + i)
		return nat.Request{Tuple: q, Signal: nat.Open, Pool: p, Network: 1}
	}
	seen := map[uint16]nat.Tuple{}
	for i := range 10 {
		r := from(i, "1.1.1.1:80")
		seen[external(open(t, table, r, sec(0)))] = r.Tuple
	}
	if len(seen) != 10 {
		t.Fatalf("10 connections have %d ports", len(seen))
	}
	r := from(10, "1.1.1.1:80")
	if _, drop := table.Open(&r, sec(0)); drop != packet.DropNATPorts || table.Counters().NoPort != 1 {
		t.Fatalf("an eleventh towards the same destination: %v", drop)
	}
	for i := range 10 { // other destinations have all ports
		open(t, table, from(20+i, "2.2.2.2:80"), sec(0))
	}
	if table.Counters().Shared != 10 {
		t.Errorf("%+v", table.Counters())
	}
	// One of the ten ends: its port serves the same destination, since nothing else is left.
	for port, q := range seen {
		answer := nat.Tuple{Src: q.Dst, SrcPort: 80, Dst: addr("192.0.2.1"), DstPort: port, Zone: 1, Proto: tcp, Family: 4}
		track(t, table, answer, nat.Accept, sec(1))
		track(t, table, q, nat.Data, sec(1))
		track(t, table, q, nat.Close, sec(1))
		track(t, table, answer, nat.Close, sec(1))
		if c := open(t, table, r, sec(1)); external(c) != port {
			t.Errorf("got %d, and %d was closed", external(c), port)
		}
		if _, ok := table.Track(&q, nat.Data, sec(1)); ok {
			t.Error("the closed connection is still there")
		}
		break
	}
}

// TestRefusedGivesBack: a connection that there is no room for keeps no port.
func TestRefusedGivesBack(t *testing.T) {
	table := nat.NewTable(nat.Limits{PerNetwork: 1}, nat.Timeouts{})
	p := pool(t, table, "192.0.2.1", 61000, 61009)
	ask := func(network uint32, from int) packet.DropReason {
		q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
		q.SrcPort = uint16(from)
		r := nat.Request{Tuple: q, Pool: p, Network: network, Port: 1}
		_, drop := table.Open(&r, sec(0))
		return drop
	}
	q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
	c := open(t, table, nat.Request{Tuple: q, Pool: p}, sec(0))
	answer := q.Reverse()
	answer.Dst, answer.DstPort = c.Rewrite.Src, c.Rewrite.SrcPort
	track(t, table, answer, nat.Data, sec(0)) // it is in use: no room is made
	for i := range 100 {
		if drop := ask(1, 100+i); drop != packet.DropConnFull {
			t.Fatalf("a second connection of a network that may have one: %v", drop)
		}
	}
	for i := range uint32(9) {
		if drop := ask(10+i, 1000+int(i)); drop != packet.DropNone {
			t.Errorf("network %d: %v", 10+i, drop)
		}
	}
	if shared := table.Counters().Shared; shared != 0 {
		t.Errorf("%d connections share a port, and nine were free", shared)
	}
}

// TestExhaustedIsNoSpin: who asks for a port towards a destination that has all of them is refused soon, however large the range is.
func TestExhaustedIsNoSpin(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 1024, 65535)
	ask := func(i int) packet.DropReason {
		q := tuple(tcp, "10.0.0.1:1 > 1.1.1.1:80")
		q.Src[1], q.Src[2], q.Src[3] = byte(i>>16), byte(i>>8), byte(i)
		r := nat.Request{Tuple: q, Signal: nat.Open, Pool: p, Network: uint32(1 + i%3)}
		_, drop := table.Open(&r, sec(0))
		return drop
	}
	n := 0
	for ; ask(n) == packet.DropNone; n++ {
	}
	if n != 65535-1024+1 {
		t.Fatalf("%d connections to one destination", n)
	}
	const more = 2000
	start := cputime.Used(t)
	for i := range more {
		if drop := ask(n + i); drop != packet.DropNATPorts {
			t.Fatalf("beyond all ports: %v", drop)
		}
	}
	if took := cputime.Used(t) - start; took > more*time.Millisecond { // a look at each port takes ten
		t.Errorf("%d refusals took %v", more, took)
	}
}

// TestSharedMappingMeets: two endpoints share a port and then turn to one destination: the later one gets another port for that.
func TestSharedMappingMeets(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 61000, 61001)
	a1 := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:1 > 1.1.1.1:1"), Pool: p}, sec(0))
	open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.2:1 > 2.2.2.2:2"), Pool: p}, sec(0))
	b1 := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.3:1 > 3.3.3.3:3"), Pool: p}, sec(0)) // shares one of the two
	sharer := "10.0.0.1:1"
	if external(a1) != external(b1) {
		sharer = "10.0.0.2:1"
	}
	first := open(t, table, nat.Request{Tuple: tuple(udp, sharer+" > 9.9.9.9:9"), Pool: p}, sec(0))
	second := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.3:1 > 9.9.9.9:9"), Pool: p}, sec(0))
	if external(first) == external(second) {
		t.Error("two connections with one tuple")
	}
	third := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.3:1 > 8.8.8.8:8"), Pool: p}, sec(0))
	if external(third) != external(b1) {
		t.Error("the mapping has moved")
	}
	if n := table.Remove(&nat.Filter{}); n != 6 || table.Len() != 0 {
		t.Errorf("%d removed, %d left", n, table.Len())
	}
	if open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.7:1 > 1.1.1.1:1"), Pool: p}, sec(0)); table.Counters().Shared != 2 {
		t.Errorf("ports were not given back: %+v", table.Counters())
	}
}

// TestKeep: ports that others have are not handed out, not even when nothing else is left.
func TestKeep(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 61000, 61009)
	table.Keep(p, udp, 60000, 61008, true)
	for i := range 3 {
		q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
		q.Src[3], q.Dst[3] = byte(i), byte(i)
		if c := open(t, table, nat.Request{Tuple: q, Pool: p}, sec(0)); external(c) != 61009 {
			t.Errorf("handed out %d", external(c))
		}
	}
	table.Keep(p, udp, 61001, 61001, false)
	if c := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.9:1 > 1.1.1.1:80"), Pool: p}, sec(0)); external(c) != 61001 {
		t.Errorf("handed out %d, which was put back", external(c))
	}
}

// TestRemovePool: an external address goes.
func TestRemovePool(t *testing.T) {
	table := newTable()
	p, other := pool(t, table, "192.0.2.1", 61000, 61009), pool(t, table, "192.0.2.2", 61000, 61009)
	q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
	c := open(t, table, nat.Request{Tuple: q, Pool: p}, sec(0))
	version := c.Version
	open(t, table, nat.Request{Tuple: tuple(47, "10.0.0.1:0 > 1.1.1.1:0"), Pool: p}, sec(0))
	open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:2 > 1.1.1.1:80"), Pool: other}, sec(0))
	table.RemovePool(p)
	if table.Len() != 1 || c.Cell.Version() == version {
		t.Errorf("%d connections left", table.Len())
	}
	r := nat.Request{Tuple: q, Pool: p, Network: 1} // by a worker that has not heard of it yet
	if _, drop := table.Open(&r, sec(0)); drop != packet.DropNATPorts {
		t.Errorf("opened: %v", drop)
	}
	pool(t, table, "192.0.2.3", 61000, 61009)
	if n := table.Remove(&nat.Filter{}); n != 1 {
		t.Errorf("%d removed", n)
	}
}

func TestNewPoolRefuses(t *testing.T) {
	for _, c := range []struct {
		addr      string
		low, high uint16
	}{{"0.0.0.0", 1, 2}, {"224.0.0.1", 1, 2}, {"::", 1, 2}, {"1.1.1.1", 0, 2}, {"1.1.1.1", 3, 2}} {
		if _, err := newTable().NewPool(netip.MustParseAddr(c.addr), c.low, c.high); err == nil {
			t.Errorf("%+v: taken", c)
		}
	}
}

// TestPorts: what take hands out, against all that could be, in ranges that end within words.
func TestPorts(t *testing.T) {
	for _, c := range [][2]uint16{{61000, 65535}, {1, 64}, {63, 64}, {1000, 1100}, {1, 65535}, {1023, 1024}, {64, 127}} {
		table := newTable()
		p := pool(t, table, "192.0.2.1", c[0], c[1])
		seen := map[uint16]bool{}
		n := int(c[1]) - int(c[0]) + 1
		for i := range n {
			q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
			q.Src[1], q.Src[2], q.SrcPort = byte(i>>8), byte(i), uint16(i*7)
			r := nat.Request{Tuple: q, Pool: p, Network: uint32(1 + i%3)}
			conn, drop := table.Open(&r, sec(0))
			if port := external(conn); drop != packet.DropNone || port < c[0] || port > c[1] || seen[port] {
				t.Fatalf("%v: number %d is %d, %v", c, i, port, drop)
			}
			seen[external(conn)] = true
		}
		if table.Counters().Shared != 0 {
			t.Errorf("%v: shared", c)
		}
	}
}

// TestSecret: a table with the secret of an earlier one gives endpoints the ports that they had, whatever its pools' numbers are; one with
// another secret gives others.
func TestSecret(t *testing.T) {
	given := func(secret byte, pools int) (ports []uint16) {
		b := make([]byte, nat.SecretSize)
		for i := range b {
			b[i] = secret + byte(i)*7
		}
		table := newTable()
		table.SetSecret(nat.NewSecret(b))
		for range pools {
			pool(t, table, "192.0.2.9", 61000, 65535)
		}
		p := pool(t, table, "192.0.2.1", 61000, 65535)
		for _, in := range []string{"10.0.0.1:40001", "10.0.0.1:40003", "10.0.0.2:40001", "[fd00::1]:40001"} {
			to := "1.1.1.1:80"
			if in[0] == '[' {
				to = "[2606::1]:80"
			}
			c := open(t, table, nat.Request{Tuple: tuple(tcp, in+" > "+to), Signal: nat.Data, Pool: p}, sec(0))
			ports = append(ports, external(c))
		}
		return ports
	}
	first, again, other := given(1, 0), given(1, 3), given(2, 0)
	if !slices.Equal(first, again) {
		t.Errorf("the ports are %v, and were %v", again, first)
	}
	for i := range first {
		if first[i] == other[i] {
			t.Errorf("with another secret endpoint %d has port %d again", i, first[i])
		}
	}
}
