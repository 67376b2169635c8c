package flow_test

import (
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
		for at, more := 0, true; more; more = at > 0 {
			at = table.Settle(at)
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
