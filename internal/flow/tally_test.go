package flow_test

import (
	"math"
	"testing"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// A tally has the packets of its flows when it is asked for them, and when they end: replaced, evicted or flushed, each once.
func TestTally(t *testing.T) {
	var old, now flow.Tally
	table := flow.NewTable(4)
	key := func(port uint16) *packet.Key { return &packet.Key{EtherType: packet.EtherTypeIPv4, SrcPort: port} }
	settle := func() {
		for left := math.MaxInt; left > 0; {
			left = table.Settle(left)
		}
	}
	v := flow.Verdict{Decision: flow.Decision{Tallies: [2]*flow.Tally{&old}}}
	f := table.Insert(key(1), &v, 10)
	f.First(3, 100) // counted by who decided
	f.Hit(20, 2, 100)
	settle()
	settle()
	if old.Packets() != 2 || old.Last() != 20 {
		t.Errorf("%d packets, the last at %d; want 2, 20", old.Packets(), old.Last())
	}
	f.Hit(30, 5, 100)
	v.Tallies[0] = &now
	f = table.Insert(key(1), &v, 40)
	f.First(1, 100)
	f.Hit(50, 4, 100)
	if old.Packets() != 7 || now.Packets() != 0 {
		t.Errorf("after its decision was replaced: %d and %d packets, want 7 and 0", old.Packets(), now.Packets())
	}
	for port := range uint16(8) { // evicts it
		table.Insert(key(2+port), &flow.Verdict{}, 60)
	}
	table.Insert(key(1), &v, 70).Hit(80, 6, 100)
	table.Flush()
	if now.Packets() != 10 || now.Last() != 80 {
		t.Errorf("%d packets, the last at %d; want 10, 80", now.Packets(), now.Last())
	}
}

// Of more decisions than are settled in one go each is told once, also when some end in between.
func TestTallyInSteps(t *testing.T) {
	const n = 10_000
	table, tallies := flow.NewTable(3*n), make([]flow.Tally, n)
	of := func(i int) (*packet.Key, *flow.Verdict) {
		return &packet.Key{EtherType: packet.EtherTypeIPv4, SrcPort: uint16(i)}, &flow.Verdict{Decision: flow.Decision{Tallies: [2]*flow.Tally{&tallies[i]}, MaxL3: int32(i)}}
	}
	for i := range tallies {
		key, v := of(i)
		table.Insert(key, v, 10).Hit(20, 1, 100)
	}
	steps := 0
	for left := math.MaxInt; left > 0; steps++ {
		left = table.Settle(left)
		for i := steps; i < n; i += 7 { // the decisions of these end: in their places there are others now
			key, _ := of(i)
			table.Insert(key, &flow.Verdict{}, 30)
		}
	}
	if steps < 3 {
		t.Fatalf("%d steps", steps)
	}
	for i := range tallies {
		if got := tallies[i].Packets(); got != 1 {
			t.Fatalf("decision %d of %d: %d packets, want 1", i, n, got)
		}
	}
}
