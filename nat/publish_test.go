package nat_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"vswitch/internal/packet"
	"vswitch/nat"
)

func publication(owner, at string, low, high uint16, to ...string) *nat.Publication {
	p := &nat.Publication{Owner: owner, Zone: 1, Proto: tcp, Low: low, High: high, ToPort: 80}
	if at != "" {
		p.Addr = netip.MustParseAddr(at)
	}
	for _, a := range to {
		p.To = append(p.To, netip.MustParseAddr(a))
	}
	return p
}

func TestPublish(t *testing.T) {
	table := nat.NewPublished()
	ranged := publication("b", "", 9000, 9009, "10.0.0.2", "fd00::2")
	private := publication("c", "192.0.2.1", 22, 22, "10.0.0.3")
	private.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	for _, p := range []*nat.Publication{publication("a", "192.0.2.1", 8080, 8080, "10.0.0.1"), ranged, private,
		publication("d", "192.0.2.2", 8080, 8080, "10.0.0.4")} {
		if err := table.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		flow, want string
		drop       packet.DropReason
	}{
		{"1.1.1.1:5 > 192.0.2.1:8080", "10.0.0.1:80", 0},
		{"1.1.1.1:5 > 192.0.2.2:8080", "10.0.0.4:80", 0},
		{"1.1.1.1:5 > 192.0.2.3:8080", "", 0},
		{"1.1.1.1:5 > 192.0.2.3:9000", "10.0.0.2:80", 0},
		{"1.1.1.1:5 > 192.0.2.1:9009", "10.0.0.2:89", 0},
		{"1.1.1.1:5 > 192.0.2.1:9010", "", 0},
		{"1.1.1.1:5 > 192.0.2.1:8999", "", 0},
		{"[2606::1]:5 > [2001:db8::1]:9001", "[fd00::2]:81", 0},
		{"[2606::1]:5 > [2001:db8::1]:8080", "", 0},
		{"198.51.100.7:5 > 192.0.2.1:22", "10.0.0.3:80", 0},
		{"198.51.101.7:5 > 192.0.2.1:22", "", packet.DropPublishFrom},
	} {
		q := tuple(tcp, c.flow)
		to, p, drop := table.Lookup(&q)
		got := ""
		if p != nil && drop == packet.DropNone {
			got = netip.AddrPortFrom((&nat.Tuple{Src: to.Addr, Family: q.Family}).SrcAddr(), to.Port).String()
		}
		if got != c.want || drop != c.drop {
			t.Errorf("%s: %q, %v; want %q, %v", c.flow, got, drop, c.want, c.drop)
		}
	}
	other := tuple(udp, "1.1.1.1:5 > 192.0.2.1:8080")
	zone := tuple(tcp, "1.1.1.1:5 > 192.0.2.1:8080")
	zone.Zone = 2
	for _, q := range []nat.Tuple{other, zone} {
		if _, p, _ := table.Lookup(&q); p != nil {
			t.Errorf("%v is published", &q)
		}
	}
	if n := len(table.All()); n != 4 {
		t.Errorf("%d listed", n)
	}
	if !table.Remove(ranged) || table.Remove(ranged) || len(table.All()) != 3 {
		t.Error("not removed, or twice")
	}
	q := tuple(tcp, "1.1.1.1:5 > 192.0.2.3:9000")
	if _, p, _ := table.Lookup(&q); p != nil {
		t.Error("still published")
	}
}

func TestPublishConflicts(t *testing.T) {
	table := nat.NewPublished()
	for _, p := range []*nat.Publication{
		publication("web", "", 8080, 8080, "10.0.0.1"), publication("range", "192.0.2.1", 9000, 9099, "10.0.0.1"),
	} {
		if err := table.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		p    *nat.Publication
		with string
	}{
		{publication("x", "", 8080, 8080, "10.0.0.2"), "web"},
		{publication("x", "192.0.2.7", 8080, 8080, "10.0.0.2"), "web"},
		{publication("x", "", 8000, 8090, "10.0.0.2"), "web"},
		{publication("x", "2001:db8::1", 8080, 8080, "fd00::2"), ""},
		{publication("x", "", 9099, 9100, "10.0.0.2"), "range"},
		{publication("x", "", 8900, 9000, "10.0.0.2"), "range"},
		{publication("x", "", 9010, 9020, "10.0.0.2"), "range"},
		{publication("x", "192.0.2.2", 9010, 9020, "10.0.0.2"), ""},
		{publication("x", "192.0.2.1", 9100, 9100, "10.0.0.2"), ""},
	} {
		err := table.Add(c.p)
		var conflict *nat.Conflict
		switch {
		case c.with == "" && err != nil:
			t.Error(err)
		case c.with != "" && (!errors.As(err, &conflict) || conflict.Other.Owner != c.with || !strings.Contains(err.Error(), c.with)):
			t.Errorf("%d-%d: %v, want the name of %s", c.p.Low, c.p.High, err, c.with)
		}
		table.Remove(c.p)
	}
}

func TestPublishRefuses(t *testing.T) {
	for name, p := range map[string]*nat.Publication{
		"no port":             publication("x", "", 0, 0, "10.0.0.1"),
		"upside down":         publication("x", "", 9, 8, "10.0.0.1"),
		"no address":          publication("x", "", 9, 9),
		"of the other family": publication("x", "192.0.2.1", 9, 9, "fd00::1"),
		"too far":             {Owner: "x", Proto: tcp, Low: 1, High: 10, ToPort: 65530, To: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		"ICMP":                {Owner: "x", Proto: icmp, Low: 1, High: 1, ToPort: 1, To: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
	} {
		if err := nat.NewPublished().Add(p); err == nil {
			t.Errorf("%s: published", name)
		}
	}
}

// TestChoose: an automatic port is one that neither we nor the host have.
func TestChoose(t *testing.T) {
	table := nat.NewPublished()
	if err := table.Add(publication("a", "", 32768, 32780, "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	busy := func(port uint16) bool { return port == 32783 }
	for _, c := range []struct{ n, want int }{{1, 32781}, {2, 32781}, {3, 32784}, {40000, 0}} {
		port, ok := table.Edit().Choose(*publication("x", "", 1, 1, "10.0.0.1"), c.n, 32768, 60999, busy)
		if int(port) != c.want || ok != (c.want != 0) {
			t.Errorf("%d ports: %d %v, want %d", c.n, port, ok, c.want)
		}
	}
}

// TestManyPublished: 10,000 ports take less than 50 MB, and finding one of them does not allocate.
func TestManyPublished(t *testing.T) {
	table := nat.NewPublished()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 10000 {
		if err := table.Add(publication(fmt.Sprint("port", i), "", uint16(10000+i), uint16(10000+i), "10.0.0.1", "fd00::1")); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 50e6 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("10,000 published ports: %d KiB", n>>10)
	}
	q := tuple(tcp, "1.1.1.1:5 > 192.0.2.1:15000")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(&q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestReplacePublished: all of it or nothing, and a clone is a trial that nobody else sees.
func TestReplacePublished(t *testing.T) {
	table := nat.NewPublished()
	a, b := publication("a", "", 80, 80, "10.0.0.1"), publication("b", "", 81, 81, "10.0.0.2")
	if err := table.Replace(nil, []*nat.Publication{a, b}); err != nil {
		t.Fatal(err)
	}
	taken := publication("c", "", 81, 81, "10.0.0.3")
	if err := table.Replace([]*nat.Publication{a}, []*nat.Publication{publication("c", "", 80, 80, "10.0.0.3"), taken}); err == nil || len(table.All()) != 2 {
		t.Errorf("%v; %d are published", err, len(table.All()))
	}
	trial := table.Clone()
	if err := trial.Replace([]*nat.Publication{b}, []*nat.Publication{taken}); err != nil {
		t.Fatal(err)
	}
	if all := table.All(); len(all) != 2 || all[1] != b {
		t.Error("a trial changes the table")
	}
	table.Become(trial)
	if all := table.All(); len(all) != 2 || all[1] != taken {
		t.Error("the table is not what was tried")
	}
}

// TestRemovePublished ends connections by what went, and no others.
func TestRemovePublished(t *testing.T) {
	conns, gone, left := nat.NewTable(nat.Limits{}, nat.Timeouts{}), publication("a", "", 8080, 8089, "10.0.0.1"), nat.NewPublished()
	if err := left.Replace(nil, []*nat.Publication{gone, publication("b", "", 9000, 9000, "10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	for _, flow := range []string{"1.1.1.1:5 > 192.0.2.1:8080", "1.1.1.1:5 > 192.0.2.2:8089", "1.1.1.1:5 > 192.0.2.1:9000", "1.1.1.1:6 > 10.0.0.1:80", "1.1.1.1:7 > 10.0.0.9:8081"} {
		r := nat.Request{Tuple: tuple(tcp, flow), Signal: nat.Open, Network: 1, Port: 1}
		if to, p, _ := left.Lookup(&r.Tuple); p != nil && r.Tuple.DstAddr() != netip.MustParseAddr("10.0.0.9") {
			r.To, r.DNAT = to, true
		}
		if _, drop := conns.Open(&r, 1); drop != packet.DropNone {
			t.Fatal(flow, drop)
		}
	}
	past := nat.NewPublished()
	if err := past.Add(gone); err != nil {
		t.Fatal(err)
	}
	if n := conns.RemovePublished(past); n != 2 || conns.Len() != 3 {
		t.Errorf("%d removed, %d left", n, conns.Len())
	}
}

// TestOrigin finds what a container's segment answers, when one published port alone leads there.
func TestOrigin(t *testing.T) {
	table := nat.NewPublished()
	if err := table.Replace(nil, []*nat.Publication{publication("a", "", 8080, 8089, "10.0.0.1", "fd00::1"), publication("b", "192.0.2.1", 9000, 9000, "10.0.0.2"),
		publication("c", "192.0.2.1", 9001, 9001, "10.0.0.3"), publication("c", "", 9002, 9002, "10.0.0.3")}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flow, ours, want string }{
		{"10.0.0.1:80 > 1.1.1.1:5", "192.0.2.1", "6 1.1.1.1:5 > 192.0.2.1:8080"},
		{"10.0.0.1:89 > 1.1.1.1:5", "192.0.2.2", "6 1.1.1.1:5 > 192.0.2.2:8089"},
		{"10.0.0.1:90 > 1.1.1.1:5", "192.0.2.2", ""},
		{"10.0.0.1:79 > 1.1.1.1:5", "192.0.2.2", ""},
		{"[fd00::1]:81 > [2606::1]:5", "2001:db8::1", "6 [2606::1]:5 > [2001:db8::1]:8081"},
		{"10.0.0.2:80 > 1.1.1.1:5", "192.0.2.1", "6 1.1.1.1:5 > 192.0.2.1:9000"},
		{"10.0.0.2:80 > 1.1.1.1:5", "192.0.2.2", ""},
		{"10.0.0.3:80 > 1.1.1.1:5", "192.0.2.1", ""}, // one of two
		{"10.0.0.3:80 > 1.1.1.1:5", "192.0.2.2", "6 1.1.1.1:5 > 192.0.2.2:9002"},
		{"10.0.0.9:80 > 1.1.1.1:5", "192.0.2.1", ""},
	} {
		q := tuple(tcp, c.flow)
		orig, ok := table.Origin(&q, netip.MustParseAddr(c.ours))
		if got := orig.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s at %s answers %s, %v; want %q", c.flow, c.ours, got, ok, c.want)
		}
	}
}

// Targets tells container's ports that are published from others, while they are.
func TestTargets(t *testing.T) {
	table := nat.NewPublished()
	a, b := publication("a", "192.0.2.1", 8080, 8089, "10.0.0.1", "fd00::1"), publication("a", "192.0.2.2", 8080, 8080, "10.0.0.1")
	if err := table.Replace(nil, []*nat.Publication{a, b}); err != nil {
		t.Fatal(err)
	}
	check := func(flow string, src, dst bool) {
		t.Helper()
		q := tuple(tcp, flow)
		if s, d := table.Targets(&q); s != src || d != dst {
			t.Errorf("%s: %v, %v", flow, s, d)
		}
	}
	check("10.0.0.1:80 > 1.1.1.1:5", true, false)
	check("[2606::1]:5 > [fd00::1]:89", false, true)
	check("10.0.0.1:79 > 10.0.0.1:90", false, false)
	check("10.0.0.2:80 > 192.0.2.1:8080", false, false)
	if !table.Remove(a) {
		t.Fatal("not found")
	}
	check("10.0.0.1:80 > 1.1.1.1:5", true, false)
	if !table.Remove(b) || table.Remove(b) {
		t.Fatal("found twice, or not")
	}
	check("10.0.0.1:80 > 1.1.1.1:5", false, false)
}
