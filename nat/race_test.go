package nat_test

import (
	"net/netip"
	"sync"
	"testing"

	"vswitch/internal/packet"
	"vswitch/nat"
)

// TestConcurrent: workers, verbs and the sweeper at once; with -race it tells more.
func TestConcurrent(t *testing.T) {
	table := nat.NewTable(nat.Limits{Connections: 300, PerNetwork: 100}, nat.Timeouts{})
	p := pool(t, table, "192.0.2.1", 61000, 61099)
	published := nat.NewPublished()
	var g sync.WaitGroup
	for worker := range 4 {
		g.Go(func() {
			for i := range 3000 {
				r := many(i%500+worker, p)
				now := sec(float64(i) / 10)
				if c, drop := table.Open(&r, now); drop == packet.DropNone {
					c.Cell.Touch(now)
					answer := r.Tuple.Reverse()
					answer.Dst, answer.DstPort = c.Rewrite.Src, c.Rewrite.SrcPort
					table.Track(&answer, nat.Accept, now)
					table.Track(&r.Tuple, nat.Data, now)
				}
				published.Lookup(&r.Tuple)
			}
		})
	}
	for i := range 300 {
		table.Sweep(50, sec(float64(i)))
		table.List(&nat.Filter{}, sec(float64(i)), func(*nat.Entry) bool { return true })
		table.RemovePort(packet.PortID(1 + i%100))
		x := publication("x", "", 443, 443, "10.0.0.1")
		if err := published.Add(x); err != nil {
			t.Fatal(err)
		}
		published.Remove(x)
		if i == 200 {
			table.RemovePool(p)
		}
	}
	g.Wait()
	table.RemovePool(p)
	if n := table.Len(); n != 0 {
		t.Errorf("%d connections of a pool that is no more", n)
	}
}

// TestListLetsGo: a list that is read slowly holds up nobody: the table is not locked meanwhile, and what comes and goes does no harm.
func TestListLetsGo(t *testing.T) {
	table, _ := filled(t, 1000)
	listed := 0
	table.List(&nat.Filter{}, sec(0), func(e *nat.Entry) bool {
		listed++
		if _, ok := table.Track(&e.Orig, nat.Data, sec(0)); !ok {
			t.Fatalf("%s is not there", &e.Orig)
		}
		table.Remove(&nat.Filter{SrcPort: e.Orig.SrcPort, Src: netip.PrefixFrom(e.Orig.SrcAddr(), 32)})
		return true
	})
	if listed != 1000 || table.Len() != 0 {
		t.Errorf("%d listed, %d left", listed, table.Len())
	}
}
