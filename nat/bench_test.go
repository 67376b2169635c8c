package nat_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"vswitch/internal/packet"
	"vswitch/nat"
)

// many makes the i-th of many connections, from a few networks.
func many(i int, p *nat.Pool) nat.Request {
	q := tuple0
	binary.BigEndian.PutUint32(q.Src[:], 0x0a000000+uint32(i>>8))
	q.SrcPort = uint16(1024 + i&0xff)
	binary.BigEndian.PutUint32(q.Dst[:], 0x01000000+uint32(i>>12))
	return nat.Request{Tuple: q, Signal: nat.Open, Pool: p, Network: uint32(1 + i%10), Port: packet.PortID(1 + i%100)}
}

var tuple0 = tuple(tcp, "10.0.0.1:1024 > 1.1.1.1:443")

func filled(tb testing.TB, n int) (*nat.Table, *nat.Pool) {
	table := newTable()
	p := pool(tb, table, "192.0.2.1", 1024, 65535)
	for i := range n {
		r := many(i, p)
		if _, drop := table.Open(&r, sec(0)); drop != packet.DropNone {
			tb.Fatalf("connection %d: %v", i, drop)
		}
	}
	return table, p
}

// TestMemory: 262,144 live masqueraded connections in less than 150 MB, as the runtime counts it and as Memory says.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table, _ := filled(t, nat.DefaultConnections)
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d connections: %d KiB of heap, %d KiB by its own count, %d bytes each", table.Len(), n>>10, table.Memory()>>10, n/int64(table.Len()))
	if table.Len() != nat.DefaultConnections || n > 150e6 {
		t.Errorf("%d connections take %d bytes", table.Len(), n)
	}
	if own := int64(table.Memory()); own < n*9/10 || own > n*11/10 {
		t.Errorf("Memory says %d", own)
	}
	start := time.Now()
	if table.Sweep(table.Len(), sec(10000)); table.Len() != 0 {
		t.Errorf("%d left", table.Len())
	}
	t.Logf("swept in %v", time.Since(start))
}

// TestNoAllocations: neither finding a connection nor opening one in a table that has been as large before allocates.
func TestNoAllocations(t *testing.T) {
	table, p := filled(t, 10000)
	i := 0
	for name, run := range map[string]func(){
		"Track": func() {
			q := many(i%10000, nil).Tuple
			if _, ok := table.Track(&q, nat.Data, sec(1)); !ok {
				t.Fatal("not found")
			}
			i++
		},
		"Open and Remove": func() {
			r := many(10000, p)
			table.Open(&r, sec(0))
			table.RemovePort(r.Port + 1000)
		},
		"Sweep": func() { table.Sweep(256, sec(2)) },
	} {
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkOpen is a new masqueraded connection in a table that is kept at its limit, as under a flood; plain is without masquerade.
func BenchmarkOpen(b *testing.B) {
	for _, masquerade := range []bool{false, true} {
		b.Run(fmt.Sprintf("masquerade=%v", masquerade), func(b *testing.B) {
			table := nat.NewTable(nat.Limits{Connections: 100000}, nat.Timeouts{})
			p := pool(b, table, "192.0.2.1", 1024, 65535)
			if !masquerade {
				p = nil
			}
			i := 0
			for b.Loop() {
				r := many(i&0xffffff, p)
				if _, drop := table.Open(&r, sec(0)); drop != packet.DropNone {
					b.Fatalf("connection %d: %v, %+v, %d", i, drop, table.Counters(), table.Len())
				}
				i++
			}
			b.ReportMetric(1e9/float64(b.Elapsed().Nanoseconds())*float64(b.N), "conn/s")
		})
	}
}

// BenchmarkConnection is the whole life of a masqueraded one: its seven frames that are decided, and the end by which it goes.
func BenchmarkConnection(b *testing.B) {
	table := nat.NewTable(nat.Limits{Connections: 100000}, nat.Timeouts{})
	p := pool(b, table, "192.0.2.1", 1024, 65535)
	i := 0
	for b.Loop() {
		r := many(i&0xffffff, p)
		c, drop := table.Open(&r, sec(0))
		if drop != packet.DropNone {
			b.Fatal(drop)
		}
		answer := r.Tuple.Reverse()
		answer.Dst, answer.DstPort = c.Rewrite.Src, c.Rewrite.SrcPort
		table.Track(&answer, nat.Accept, sec(0))
		table.Track(&r.Tuple, nat.Data, sec(0))
		table.Track(&answer, nat.Data, sec(0))
		table.Track(&r.Tuple, nat.Close, sec(0))
		table.Track(&answer, nat.Close, sec(0))
		table.Track(&r.Tuple, nat.Data, sec(0))
		i++
	}
	b.ReportMetric(1e9/float64(b.Elapsed().Nanoseconds())*float64(b.N), "conn/s")
}

// BenchmarkExhausted is a new connection of a pool that is used up: towards a destination that has a port left, and one that has none.
func BenchmarkExhausted(b *testing.B) {
	table := newTable()
	p := pool(b, table, "192.0.2.1", 61000, 65535)
	for i := range 4536 {
		q := tuple0
		binary.BigEndian.PutUint32(q.Src[:], 0x0a000000+uint32(i))
		r := nat.Request{Tuple: q, Signal: nat.Open, Pool: p, Network: 1}
		table.Open(&r, sec(0))
	}
	b.Run("refused", func(b *testing.B) {
		r := nat.Request{Tuple: tuple(tcp, "10.9.9.9:1 > 1.1.1.1:443"), Signal: nat.Open, Pool: p, Network: 1}
		for b.Loop() {
			if _, drop := table.Open(&r, sec(0)); drop != packet.DropNATPorts {
				b.Fatal(drop)
			}
		}
	})
	b.Run("shared", func(b *testing.B) {
		i := 0
		for b.Loop() {
			q := tuple(tcp, "10.9.9.9:1 > 2.0.0.0:443")
			q.SrcPort, q.Dst[3], q.Dst[2] = uint16(i), byte(i), byte(i>>8)
			r := nat.Request{Tuple: q, Signal: nat.Open, Pool: p, Network: uint32(2 + i%6)}
			if _, drop := table.Open(&r, sec(0)); drop != packet.DropNone {
				b.Fatal(drop)
			}
			i++
		}
	})
}

// BenchmarkTrack finds connections at random among as many.
func BenchmarkTrack(b *testing.B) {
	for _, n := range []int{1, 1000, 100000, 262144} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, _ := filled(b, n)
			qs := make([]nat.Tuple, 1<<16)
			x := uint32(1)
			for i := range qs {
				x = x*1664525 + 1013904223
				qs[i] = many(int(x>>8)%n, nil).Tuple
			}
			i := 0
			for b.Loop() {
				if _, ok := table.Track(&qs[i&0xffff], nat.Data, sec(0)); !ok {
					b.Fatal("not found")
				}
				i++
			}
		})
	}
}

// BenchmarkParallel is what workers get beside each other.
func BenchmarkParallel(b *testing.B) {
	table, _ := filled(b, 1000)
	b.RunParallel(func(pb *testing.PB) {
		q := tuple0
		for i := 0; pb.Next(); i++ {
			q.SrcPort = uint16(1024 + i&0xff)
			table.Track(&q, nat.Data, sec(0))
		}
	})
}
