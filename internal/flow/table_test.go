package flow_test

import (
	"fmt"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

func key(n int) packet.Key {
	return packet.Key{InPort: 1, SrcPort: uint16(n), DstPort: uint16(n >> 16)}
}

func insert(t *flow.Table, n int, v *flow.Verdict, now int64) *flow.Flow {
	k := key(n)
	return t.Insert(&k, v, now)
}

func lookup(t *flow.Table, n int) *flow.Flow {
	k := key(n)
	f, _ := t.Lookup(&k)
	return f
}

func verdict(vlan uint16) *flow.Verdict {
	v := &flow.Verdict{Cacheable: true}
	v.Add(flow.Action{Op: flow.OpSetVLAN, VLAN: vlan})
	return v
}

// Far from its limit the table is a map, but for what it may drop: invalid and idle flows when it grows, and a flow whose
// neighborhood of buckets is full.
func TestTableEqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const max = 4096
		table, want := flow.NewTable(max), map[int]uint16{}
		keys := rapid.SampledFrom([]int{8, 400, 3000}).Draw(t, "keys")
		lost := 0
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				first, n := rapid.IntRange(0, keys-1).Draw(t, "first"), rapid.IntRange(1, 300).Draw(t, "n")
				vlan := rapid.Uint16().Draw(t, "vlan")
				for i := range n {
					k := (first + i) % keys
					insert(table, k, verdict(vlan), 0)
					want[k] = vlan
				}
			},
			"flush": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "rare") == 20 {
					table.Flush()
					clear(want)
				}
			},
			"": func(t *rapid.T) {
				for k := range keys {
					f, vlan := lookup(table, k), want[k]
					if _, ok := want[k]; f == nil && ok {
						delete(want, k)
						lost++
						continue
					}
					if f != nil && f.Actions[0].VLAN != vlan {
						t.Fatalf("key %d has verdict %d, want %d", k, f.Actions[0].VLAN, vlan)
					}
				}
				checkAll(t, table, want)
			},
		})
		if lost > keys/100+1 {
			t.Fatalf("%d flows of %d keys were lost", lost, keys)
		}
	})
}

func checkAll(t *rapid.T, table *flow.Table, want map[int]uint16) {
	seen := map[packet.Key]bool{}
	for f := range table.All {
		if seen[f.Key] {
			t.Fatalf("%+v is there twice", f.Key)
		}
		seen[f.Key] = true
		if g, _ := table.Lookup(&f.Key); g != f {
			t.Fatalf("%+v is there, and is not found", f.Key)
		}
	}
	if len(seen) != len(want) || table.Len() != len(want) {
		t.Fatalf("%d flows, Len says %d, want %d", len(seen), table.Len(), len(want))
	}
}

// A full table takes each new flow in place of another, whatever its limit, and never holds more.
func TestTableEvictsAtItsLimit(t *testing.T) {
	for _, max := range []int{1, 2, 15, 511, 512, 513, 1000, 4096} {
		t.Run(fmt.Sprint(max), func(t *testing.T) {
			table := flow.NewTable(max)
			for i := range 3*max + 100 {
				insert(table, i, verdict(1), int64(i))
				if lookup(table, i) == nil {
					t.Fatalf("flow %d is not there right after it was inserted", i)
				}
				if n := table.Len(); n > max || n < min(i+1, max)*9/10-1 {
					t.Fatalf("%d flows after %d inserts, limit %d", n, i+1, max)
				}
			}
			n := 0
			for f := range table.All {
				if g, _ := table.Lookup(&f.Key); g != f {
					t.Fatalf("%+v is there, and is not found", f.Key)
				}
				n++
			}
			if n != table.Len() {
				t.Fatalf("%d flows, Len says %d", n, table.Len())
			}
		})
	}
}

// Growing keeps what is valid and fresh, and flows stay where they are in memory.
func TestTableGrowthDropsInvalidAndIdle(t *testing.T) {
	const hour = 3600e9
	table := flow.NewTable(flow.MaxFlows)
	var gen flow.Generation
	var cell flow.Cell
	dead := func() *flow.Verdict {
		v := verdict(2)
		v.Gens[0] = flow.GenRef{Gen: &gen, Value: gen.Load() + 1}
		return v
	}
	alive := verdict(1)
	alive.Gens[1] = flow.GenRef{Gen: &gen, Value: gen.Load()}
	alive.Lean(&cell, cell.Version(), true)
	first := insert(table, 0, alive, 2*hour)
	for i := range 100 {
		insert(table, 1000+i, dead(), 2*hour)
		insert(table, 2000+i, alive, 0)
	}
	before := table.Len()
	for i := 0; table.Len() >= before; i++ { // up to 512, or a few more when some found no place
		if i == 400 {
			t.Fatalf("%d flows, and nothing was dropped", table.Len())
		}
		before = table.Len()
		insert(table, 3000+i, alive, 2*hour)
	}
	if n := table.Len(); n < 300 || n > 325 {
		t.Errorf("%d flows after growth of %d, want those that are valid and fresh", n, before)
	}
	if f := lookup(table, 0); f != nil && f != first {
		t.Error("growth moved a flow")
	}
	for _, k := range []int{1000, 1099, 2000, 2099} {
		if lookup(table, k) != nil {
			t.Errorf("flow %d is still there", k)
		}
	}
	for i := range 50000 {
		insert(table, 1<<20+i, alive, 2*hour)
	}
	missing := 0
	for i := range 50000 {
		if lookup(table, 1<<20+i) == nil {
			missing++
		}
	}
	if missing > 50 {
		t.Errorf("%d of 50000 flows are missing after growth", missing)
	}
}

// A full table of flows of which half are idle has room for as many new ones, at once, and loses none in use. Then it has none, until they are idle.
func TestTableMakesRoom(t *testing.T) {
	const second = 1e9
	for _, max := range []int{2, 15, 512, 1000, 4096} {
		t.Run(fmt.Sprint(max), func(t *testing.T) {
			table, v := flow.NewTable(max), verdict(1)
			used := map[int]bool{}
			for i := range max {
				insert(table, i, v, 0)
			}
			for i := 0; i < max; i += 2 {
				if f := lookup(table, i); f != nil { // or it found no place near its home
					f.Hit(10*second, 1, 60)
					used[i] = true
				}
			}
			rooms := 0
			for i := range max - len(used) {
				if table.MakeRoom(11 * second) {
					insert(table, 1<<20+i, v, 11*second)
					rooms++
				}
			}
			if want := max - len(used); rooms < want*9/10 {
				t.Errorf("room for %d flows, where %d were idle", rooms, want)
			}
			lost := 0
			for i := range used {
				if lookup(table, i) == nil {
					lost++
				}
			}
			if lost > max/100 {
				t.Errorf("%d of %d flows in use are lost", lost, len(used))
			}
			for i := 0; table.Len() < max; i++ {
				insert(table, 1<<21+i, v, 11*second)
			}
			if table.MakeRoom(12 * second) {
				t.Error("room for another flow, and none is idle")
			}
			for i := 0; !table.MakeRoom(60 * second); i++ { // it looks no more for a while
				if i == 100 {
					t.Fatal("no room for another flow, and all are idle")
				}
			}
		})
	}
}

// A flow that was given back is empty: a worker that still points at it as its last one finds another key.
func TestTableClearsWhatItGivesBack(t *testing.T) {
	table := flow.NewTable(1)
	old := insert(table, 1, verdict(1), 0)
	insert(table, 2, verdict(2), 0)
	if old.Key == key(1) {
		t.Error("an evicted flow still has its key")
	}
}

func TestVerdictValid(t *testing.T) {
	var gens [2]flow.Generation
	var cells [flow.MaxRefs]flow.Cell
	make := func() *flow.Verdict {
		v := verdict(1)
		for i := range gens {
			v.Gens[i] = flow.GenRef{Gen: &gens[i], Value: gens[i].Load()}
		}
		for i := range cells {
			v.Lean(&cells[i], cells[i].Version(), i == 1)
		}
		return v
	}
	if v := make(); !v.Valid() {
		t.Fatal("not valid at once")
	}
	for i := range gens {
		v := make()
		if gens[i].Bump(); v.Valid() {
			t.Errorf("valid after generation %d was raised", i)
		}
	}
	for i := range cells {
		v := make()
		if cells[i].Invalidate(); v.Valid() {
			t.Errorf("valid after entry %d changed", i)
		}
	}
	v := make()
	v.Touch(7)
	for i := range cells {
		if got := cells[i].LastUsed(); got != 0 && i != 1 || got != 7 && i == 1 {
			t.Errorf("entry %d was last used at %d", i, got)
		}
	}
	gens[0].Bump()
	if v.Reset(); !v.Valid() || v.NActions != 0 || v.NRefs != 0 || v.Cacheable {
		t.Error("Reset left something")
	}
}

// Hits are told to the entries below at most once a second, and a replaced verdict keeps the flow's counters.
func TestFlowHit(t *testing.T) {
	const second = 1e9
	table := flow.NewTable(8)
	var cell flow.Cell
	v := verdict(1)
	v.Lean(&cell, 0, true)
	f := insert(table, 1, v, second)
	for _, c := range []struct{ now, want int64 }{{second, 0}, {2*second - 1, 0}, {2 * second, 2 * second}, {3*second - 1, 2 * second}, {3 * second, 3 * second}} {
		if f.Hit(c.now, 2, 100); cell.LastUsed() != c.want {
			t.Errorf("at %d the entry was last used at %d, want %d", c.now, cell.LastUsed(), c.want)
		}
	}
	if g := insert(table, 1, verdict(9), 4*second); g != f || f.Packets != 10 || f.Bytes != 500 || f.Actions[0].VLAN != 9 {
		t.Errorf("replaced: %p and %p, %d packets, %d bytes, verdict %d", f, g, f.Packets, f.Bytes, f.Actions[0].VLAN)
	}
}

func TestTableDoesNotAllocate(t *testing.T) {
	table := flow.NewTable(flow.MaxFlows)
	v := verdict(1)
	var cell flow.Cell
	v.Lean(&cell, 0, true)
	for i := range 1000 {
		insert(table, i, v, 0)
	}
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1e8
		if f := lookup(table, int(now/1e8)%1000); f != nil && f.Valid() {
			f.Hit(now, 1, 60)
		}
		insert(table, 5, v, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, flows := range []int{1, 1000, 100000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) { benchmarkLookup(b, flows, false) })
		b.Run(fmt.Sprint("l2/", flows), func(b *testing.B) { benchmarkLookup(b, flows, true) })
	}
}

func benchmarkLookup(b *testing.B, flows int, l2 bool) {
	v := verdict(1)
	v.L2 = l2
	table := flow.NewTable(flow.MaxFlows)
	keys := make([]packet.Key, flows)
	for i := range keys {
		keys[i] = key(i)
		insert(table, i, v, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := &keys[i*7919%flows]
		f, _ := table.Lookup(k)
		if f == nil && flows < 1000 {
			b.Fatal("not there")
		}
		if f != nil {
			f.Hit(int64(i), 1, 60)
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	table := flow.NewTable(flow.MaxFlows)
	for i := range 1000 {
		insert(table, i, verdict(1), 0)
	}
	for i := 0; b.Loop(); i++ {
		k := key(i + 1<<20)
		if f, _ := table.Lookup(&k); f != nil {
			b.Fatal("there")
		}
	}
}

func BenchmarkInsertFull(b *testing.B) {
	table := flow.NewTable(16384)
	v := verdict(1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		insert(table, i, v, int64(i))
	}
}

// A decision about L2 alone is there for all flows between two MACs, beside those about one flow; a stale one of either kind hides
// no valid one of the other.
func TestTableL2(t *testing.T) {
	table := flow.NewTable(1000)
	var gen flow.Generation
	about := func(l2 bool) *flow.Verdict {
		v := verdict(1)
		v.L2, v.Gens[0] = l2, flow.GenRef{Gen: &gen, Value: gen.Load()}
		return v
	}
	shared := insert(table, 1, about(true), 0)
	for n := range 100000 {
		if lookup(table, n) != shared {
			t.Fatalf("flow %d is not covered", n)
		}
	}
	if k := key(1); shared.Key != k.L2() || !shared.Covers(&k) || table.Len() != 1 {
		t.Errorf("%d flows, key %+v", table.Len(), shared.Key)
	}
	for _, change := range []func(*packet.Key){
		func(k *packet.Key) { k.InPort++ }, func(k *packet.Key) { k.VNI++ }, func(k *packet.Key) { k.Remote++ },
		func(k *packet.Key) { k.DstMAC[5]++ }, func(k *packet.Key) { k.SrcMAC[5]++ }, func(k *packet.Key) { k.VLAN++ },
		func(k *packet.Key) { k.Inner++ }, func(k *packet.Key) { k.EtherType++ }, func(k *packet.Key) { k.Mark++ },
	} {
		k := key(1)
		change(&k)
		if f, stale := table.Lookup(&k); f != nil || stale || shared.Covers(&k) {
			t.Errorf("%+v is covered", k)
		}
	}

	gen.Bump()
	if _, stale := table.Lookup(&shared.Key); !stale {
		t.Error("a stale flow was not noticed")
	}
	one := insert(table, 2, about(false), 0)
	if lookup(table, 2) != one || lookup(table, 3) != nil || one.Covers(&shared.Key) {
		t.Error("a stale L2 flow hides a valid one, or that one covers others")
	}
	gen.Bump()
	if shared = insert(table, 2, about(true), 0); lookup(table, 2) != shared || lookup(table, 3) != shared {
		t.Error("a stale flow hides a valid L2 flow")
	}
}

// A million flows that lean on table entries of which a thousand are there at a time: the table stays as small as those need.
func TestTableStaysSmallWhenFlowsGoStale(t *testing.T) {
	table := flow.NewTable(flow.MaxFlows)
	var cells [1000]flow.Cell
	var before uint64
	for n := range 1000000 {
		c := &cells[n%len(cells)]
		c.Invalidate()
		v := verdict(1)
		v.Lean(c, c.Version(), true)
		insert(table, n, v, int64(n))
		if n == 10000 {
			before = heapInUse()
		}
	}
	if after := heapInUse(); after > before+256<<10 {
		t.Errorf("the table grew from %d to %d bytes", before, after)
	}
	for n := 1000000 - len(cells); n < 1000000; n++ {
		if f := lookup(table, n); f == nil || !f.Valid() {
			t.Fatalf("flow %d, which holds, is lost", n)
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkNewFlowsFull is what new flows cost a full table: none of its flows is idle, or each is when its turn comes.
func BenchmarkNewFlowsFull(b *testing.B) {
	for _, idle := range []bool{false, true} {
		b.Run(fmt.Sprintf("idle=%v", idle), func(b *testing.B) {
			table, v := flow.NewTable(flow.MaxFlows), verdict(1)
			for i := range flow.MaxFlows {
				insert(table, i, v, 0)
			}
			for i := 0; b.Loop(); i++ {
				now := int64(0)
				if idle {
					now = 11e9 + int64(i)*100e3 // 10,000 a second
				}
				if table.MakeRoom(now) || i%16 == 0 {
					insert(table, 1<<20+i, v, now)
				}
			}
		})
	}
}
