package flow_test

import (
	"testing"
	"unsafe"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Connections that have the same done to them, but for ports, are small records of their own and one decision.
func TestFlowsShareDecisions(t *testing.T) {
	if n := unsafe.Sizeof(flow.Flow{}); n != 128 {
		t.Errorf("a flow has %d bytes, want two cache lines", n)
	}
	if n := unsafe.Sizeof(flow.Decision{}); n > 512 {
		t.Errorf("a decision has %d bytes", n)
	}
	table := flow.NewTable(1000)
	var neighbor flow.Cell
	var conns [100]flow.Cell
	about := func(i int, external byte) *flow.Verdict {
		v := verdict(1)
		v.Lean(&neighbor, neighbor.Version(), true)
		v.LeanOnConn(&conns[i], conns[i].Version())
		v.Translate(&packet.Rewrite{Src: [16]byte{192, 0, 2, external}, SrcPort: uint16(1000 + i), NewSrc: true})
		return v
	}
	flows := make([]*flow.Flow, len(conns))
	for i := range flows {
		flows[i] = insert(table, i, about(i, 1), 0)
	}
	for i, f := range flows {
		if f.Decision != flows[0].Decision {
			t.Fatalf("flow %d has a decision of its own", i)
		}
		if r := f.Translation(&f.Conn); r.SrcPort != uint16(1000+i) || r.Src != [16]byte{192, 0, 2, 1} || !r.NewSrc || r.NewDst {
			t.Fatalf("flow %d translates to %+v", i, r)
		}
	}
	if other := insert(table, 5000, about(5, 2), 0); other.Decision == flows[5].Decision {
		t.Error("another external address is the same decision")
	}

	flows[3].Hit(5e9, 1, 60)
	if conns[3].LastUsed() != 5e9 || conns[4].LastUsed() != 0 || neighbor.LastUsed() != 5e9 {
		t.Errorf("after a hit of flow 3: connections %d and %d, neighbor %d", conns[3].LastUsed(), conns[4].LastUsed(), neighbor.LastUsed())
	}
	conns[7].Invalidate()
	if flows[7].Valid() || !flows[8].Valid() {
		t.Error("a connection's end ends other flows than its own")
	}
	neighbor.Invalidate()
	if flows[8].Valid() {
		t.Error("a flow outlives what its decision leans on")
	}
	old := flows[8].Decision
	if f := insert(table, 8, about(8, 1), 6e9); f != flows[8] || f.Decision == old || !f.Valid() || flows[9].Decision != old {
		t.Error("a new decision about one flow became that of all")
	}
	table.Flush()
}

// A decision ends with its last flow, and its memory serves another one: copies stay as they were.
func TestCopyOutlivesItsDecision(t *testing.T) {
	table := flow.NewTable(1)
	insert(table, 1, verdict(11), 0)
	copies := table.Copy(func(*flow.Flow) bool { return true })
	insert(table, 2, verdict(22), 0)
	if len(copies) != 1 || copies[0].Key != key(1) || copies[0].NActions != 1 || copies[0].Actions[0].VLAN != 11 {
		t.Errorf("copies %+v", copies)
	}
}
