package l2switch_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	l2switch "vswitch/switch"
)

// mac returns the n-th address.
func mac(n uint32) (m [6]byte) {
	m[0] = 2
	binary.BigEndian.PutUint32(m[2:], n)
	return m
}

func newFDB(l l2switch.Limits, ports int) *l2switch.FDB {
	t := l2switch.NewFDB(l)
	for id := 1; id <= ports; id++ {
		t.SetPort(packet.PortID(id), 0)
	}
	return t
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A port that floods random addresses costs the others nothing, and no memory.
func TestFDBSourceFlood(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	for n := range uint32(1000) {
		fdb.Learn(0, mac(n), 1, 0)
		fdb.Learn(0, mac(10000+n), 2, 0)
	}
	r := rand.New(rand.NewPCG(1, 2))
	flood := func() {
		for i := range 500000 {
			fdb.Learn(uint16(r.UintN(4095)), mac(1<<31|r.Uint32()), 3, int64(i))
		}
	}
	flood()
	before := heap()
	flood()
	if after := heap(); after > before+64<<10 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
	if n := fdb.PerPort(3); n != l2switch.DefaultPerPort {
		t.Errorf("flooding port has %d entries, want its limit", n)
	}
	for n := range uint32(1000) {
		p1, _, _, ok1 := fdb.Lookup(0, mac(n), 1)
		p2, _, _, ok2 := fdb.Lookup(0, mac(10000+n), 1)
		if !ok1 || !ok2 || p1 != 1 || p2 != 2 {
			t.Fatalf("address %d of another port was lost", n)
		}
	}
}

// In a full table the one who takes most pays, even when no port is at its own limit.
func TestFDBFullTableIsFair(t *testing.T) {
	fdb := newFDB(l2switch.Limits{MACs: 1000, PerPort: 1000}, 5)
	for n := range uint32(100) {
		for port := range uint32(4) {
			fdb.Learn(0, mac(port<<16|n), packet.PortID(port+1), int64(n))
		}
	}
	for n := range uint32(100000) {
		fdb.Learn(0, mac(1<<31|n), 5, int64(n))
	}
	for port, want := range []int{100, 100, 100, 100, 600} {
		if got := fdb.PerPort(packet.PortID(port + 1)); got != want {
			t.Errorf("port %d has %d entries, want %d", port+1, got, want)
		}
	}
	// Newcomers get their equal share from the one who has most.
	for n := range uint32(300) {
		fdb.Learn(0, mac(1<<20|n), 1, 200000)
	}
	for port, want := range []int{350, 100, 100, 100, 350} {
		if got := fdb.PerPort(packet.PortID(port + 1)); got != want {
			t.Errorf("later port %d has %d entries, want %d", port+1, got, want)
		}
	}
}

// Among ports with equal shares the one that wants more pays itself.
func TestFDBFullTableEqualShares(t *testing.T) {
	fdb := newFDB(l2switch.Limits{MACs: 8}, 2)
	for n := range uint32(8) {
		fdb.Learn(0, mac(n), packet.PortID(1+n%2), 0)
	}
	for n := range uint32(20) {
		fdb.Learn(0, mac(100+n), packet.PortID(1+n/10), 0)
		if a, b := fdb.PerPort(1), fdb.PerPort(2); a != 4 || b != 4 {
			t.Fatalf("after %d more the ports have %d and %d entries, want 4 and 4", n+1, a, b)
		}
	}
}

func TestFDBSetLimitsEvictsFairly(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	for port, n := range []uint32{10, 50, 200} {
		for i := range n {
			fdb.Learn(0, mac(uint32(port)<<16|i), packet.PortID(port+1), int64(i))
		}
	}
	fdb.SetLimits(l2switch.Limits{MACs: 90, PerPort: 100})
	if a, b, c := fdb.PerPort(1), fdb.PerPort(2), fdb.PerPort(3); a != 10 || a+b+c != 90 || max(b, c)-min(b, c) > 1 {
		t.Errorf("ports have %d, %d and %d entries, want 10, 40 and 40", a, b, c)
	}
	if _, _, _, ok := fdb.Lookup(0, mac(2<<16|199), 0); !ok {
		t.Error("the newest entry was evicted")
	}
}

// Used addresses survive a flood on their own port by second chance.
func TestFDBUsedEntriesStay(t *testing.T) {
	fdb := newFDB(l2switch.Limits{PerPort: 64}, 1)
	cell, version, _, _ := fdb.Learn(0, mac(1), 1, 0)
	for n := range uint32(10000) {
		fdb.Learn(0, mac(100+n), 1, int64(n))
		if n%32 == 0 {
			cell.Touch(int64(n))
		}
	}
	if cell.Version() != version {
		t.Error("the entry in use was evicted")
	}
}

func TestFDBAgeing(t *testing.T) {
	const age = int64(l2switch.DefaultAge)
	fdb := newFDB(l2switch.Limits{}, 2)
	cell, version, _, _ := fdb.Learn(7, mac(1), 1, 0)
	if _, _, _, ok := fdb.Lookup(7, mac(1), age-1); !ok {
		t.Error("entry expired early")
	}
	if _, _, _, ok := fdb.Lookup(7, mac(1), age); ok {
		t.Error("expired entry was found")
	}
	if fdb.Sweep(age-1) != 0 || cell.Version() != version {
		t.Error("a live entry was swept")
	}
	cell.Touch(10)
	if fdb.Sweep(age) != 0 {
		t.Error("an entry used by a flow was swept")
	}
	if fdb.Sweep(age+10) != 1 || cell.Version() == version || fdb.Len() != 0 {
		t.Error("an expired entry was not swept")
	}
	fdb.Learn(7, mac(1), 1, 0)
	if _, _, what, _ := fdb.Learn(7, mac(1), 2, 2*age); what != l2switch.New {
		t.Errorf("an address that expired elsewhere is %v, want new", what)
	}
}

func TestFDBAddStaticErrors(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 2)
	if err := fdb.AddStatic(1, mac(1), 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		vlan uint16
		mac  [6]byte
		port packet.PortID
		code string
	}{
		{"reserved VLAN", 4095, mac(1), 1, api.CodeInvalid},
		{"group address", 1, [6]byte{1}, 1, api.CodeInvalid},
		{"zero address", 1, [6]byte{}, 1, api.CodeInvalid},
		{"unknown port", 1, mac(2), 9, api.CodeNotFound},
		{"taken", 1, mac(1), 2, api.CodeConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e *api.Error
			if err := fdb.AddStatic(c.vlan, c.mac, c.port); !errors.As(err, &e) || e.Code != c.code {
				t.Errorf("got %v, want code %s", err, c.code)
			}
		})
	}
}

// Several workers learn, look up and age at once; what they see is consistent.
func TestFDBConcurrent(t *testing.T) {
	fdb := newFDB(l2switch.Limits{MACs: 256, PerPort: 100, Age: 1000}, 4)
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, 0))
			for i := range int64(20000) {
				m, port := mac(r.Uint32N(400)), packet.PortID(1+r.Uint32N(4))
				if cell, version, what, _ := fdb.Learn(0, m, port, i); what == l2switch.RefusedGone {
					if cell.Version() == version {
						t.Error("a decision about a removed port could be cached")
					}
				} else if r.UintN(2) == 0 {
					cell.Touch(i)
				}
				fdb.Lookup(0, m, i)
				switch r.UintN(2000) {
				case 0:
					fdb.Entries()
				case 1:
					fdb.Sweep(i)
				case 2:
					fdb.ForgetPort(port)
					fdb.SetPort(port, 0)
				case 3:
					fdb.Flush(l2switch.AllPorts, false)
				case 4:
					fdb.SetLimits(l2switch.Limits{MACs: 200, PerPort: 60 + int(r.UintN(60)), Age: 1000})
				case 5:
					fdb.AddStatic(0, m, port)
				}
			}
		})
	}
	wg.Wait()
	learned := 0
	for id := packet.PortID(1); id <= 4; id++ {
		learned += fdb.PerPort(id)
	}
	static := 0
	for _, e := range fdb.Entries() {
		if e.Static {
			static++
		}
	}
	if learned > 200 || fdb.Len() != learned+static {
		t.Errorf("%d learned and %d static of %d entries", learned, static, fdb.Len())
	}
}

// While an address moves between two ports, a lease that still holds names the right one.
func TestFDBLeaseNamesItsPort(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 2)
	stop, done := make(chan struct{}), make(chan struct{})
	learn := func(i int64) { // slowly enough not to be damped
		fdb.Learn(0, mac(1), packet.PortID(1+i&1), i*int64(l2switch.MoveWindow))
	}
	learn(0)
	go func() {
		defer close(done)
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
				learn(i)
			}
		}
	}()
	defer func() { close(stop); <-done }()

	byVersion, seen := map[uint64]packet.PortID{}, map[packet.PortID]int{}
	for len(seen) < 2 || seen[1]+seen[2] < 500_000 {
		port, _, version, ok := fdb.Lookup(0, mac(1), 0)
		if was, known := byVersion[version]; !ok || known && was != port {
			t.Fatalf("version %d stood for port %d and %d", version, was, port)
		}
		byVersion[version] = port
		seen[port]++
	}
}

func TestFDBSlowPathDoesNotAllocate(t *testing.T) {
	fdb := newFDB(l2switch.Limits{MACs: 2048}, 4)
	n := uint32(0)
	learn := func() {
		n++
		fdb.Learn(0, mac(n), packet.PortID(1+n%4), int64(n))
		fdb.Learn(0, mac(n), packet.PortID(1+(n+1)%4), int64(n))
		fdb.Lookup(0, mac(n), int64(n))
		fdb.Peek(0, mac(n), 1, int64(n))
	}
	for range 10000 {
		learn()
	}
	if a := testing.AllocsPerRun(10000, learn); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func TestFDBCounters(t *testing.T) {
	fdb := newFDB(l2switch.Limits{MACs: 4, PerPort: 3, Age: time.Second}, 3)
	for n := range uint32(4) {
		fdb.Learn(0, mac(n), 1, 0) // the fourth evicts on its port
	}
	fdb.Learn(0, mac(10), 2, 0)
	fdb.Learn(0, mac(11), 2, 0) // the table is full
	fdb.Learn(0, mac(11), 1, 0) // moves
	fdb.AddStatic(0, mac(20), 3)
	fdb.Learn(0, mac(20), 1, 0) // refused
	fdb.Sweep(int64(time.Second))
	want := l2switch.Counters{Learned: 6, Moved: 1, Expired: 4, EvictedPort: 1, EvictedTable: 1, RefusedStatic: 1}
	if got := fdb.Counters(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// full returns a table at its limit: 16 ports of 1024 addresses.
func full() *l2switch.FDB {
	fdb := newFDB(l2switch.Limits{}, 17)
	for n := range uint32(16384) {
		fdb.Learn(0, mac(n), packet.PortID(1+n/1024), 0)
	}
	return fdb
}

func BenchmarkFDBLearnUnchanged(b *testing.B) {
	fdb := full()
	b.ReportAllocs()
	for i := range uint32(b.N) {
		n := i * 2654435761 % 16384
		fdb.Learn(0, mac(n), packet.PortID(1+n/1024), int64(i))
	}
}

func BenchmarkFDBLearnNewAtPortLimit(b *testing.B) {
	fdb := full()
	b.ReportAllocs()
	for i := range uint32(b.N) {
		fdb.Learn(0, mac(1<<24+i), 1, int64(i))
	}
}

func BenchmarkFDBLearnNewInFullTable(b *testing.B) {
	fdb := full()
	b.ReportAllocs()
	for i := range uint32(b.N) {
		fdb.Learn(0, mac(1<<24+i), 17, int64(i))
	}
}

func BenchmarkFDBLookup(b *testing.B) {
	fdb := full()
	b.ReportAllocs()
	for i := range uint32(b.N) {
		fdb.Lookup(0, mac(i*2654435761%16384), 0)
	}
}

func BenchmarkFDBLookupParallel(b *testing.B) {
	fdb := full()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := uint32(0); pb.Next(); i++ {
			fdb.Lookup(0, mac(i*2654435761%16384), 0)
		}
	})
}

func BenchmarkFDBSweep(b *testing.B) {
	fdb := full()
	for b.Loop() {
		fdb.Sweep(0)
	}
}

func BenchmarkFDBEntries(b *testing.B) {
	fdb := full()
	for b.Loop() {
		fdb.Entries()
	}
}
