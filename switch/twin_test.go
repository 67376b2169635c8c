package l2switch_test

import (
	"slices"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	l2switch "vswitch/switch"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// twin is the FDB done naively: lists, searched from end to end.
type twin struct {
	limits l2switch.Limits
	ports  map[packet.PortID]*twinPort
}

type twinPort struct {
	limit   int
	learned []*twinEntry // in the order in which they are up for eviction
	static  []*twinEntry
}

type twinEntry struct {
	vlan       uint16
	mac        [6]byte
	static     bool
	used, seen int64

	moved []int64       // when, since it is behind home
	home  packet.PortID // where it was before the first of them
	until int64         // the end of its hold-down
}

// lease is what a flow holds, and which entry it was.
type lease struct {
	cell    *flow.Cell
	version uint64
	entry   *twinEntry
	port    packet.PortID
}

func (w *twin) find(vlan uint16, mac [6]byte) (packet.PortID, *twinEntry) {
	for id, p := range w.ports {
		for _, e := range slices.Concat(p.learned, p.static) {
			if e.vlan == vlan && e.mac == mac {
				return id, e
			}
		}
	}
	return 0, nil
}

func (w *twin) findLive(vlan uint16, mac [6]byte, now int64) (packet.PortID, *twinEntry) {
	id, e := w.find(vlan, mac)
	if e != nil && !e.static && now-e.used >= int64(w.limits.Age) {
		return 0, nil
	}
	return id, e
}

func (w *twin) drop(e *twinEntry) {
	for _, p := range w.ports {
		p.learned = slices.DeleteFunc(p.learned, func(x *twinEntry) bool { return x == e })
		p.static = slices.DeleteFunc(p.static, func(x *twinEntry) bool { return x == e })
	}
}

func (w *twin) limit(p *twinPort) int {
	if p.limit > 0 {
		return p.limit
	}
	return w.limits.PerPort
}

func (p *twinPort) evict() {
	for range len(p.learned) {
		e := p.learned[0]
		if e.used == e.seen {
			break
		}
		e.seen = e.used
		p.learned = append(p.learned[1:], e)
	}
	p.learned = p.learned[1:]
}

func (w *twin) count() (n, most int) {
	for _, p := range w.ports {
		n += len(p.learned)
		most = max(most, len(p.learned))
	}
	return n, most
}

// pair drives the table and its twin with the same inputs.
type pair struct {
	*rapid.T
	fdb    *l2switch.FDB
	twin   *twin
	now    int64
	leases []lease
}

func newPair(t *rapid.T) *pair {
	l := l2switch.Limits{MACs: 12, PerPort: 6, Age: 100}
	p := &pair{T: t, fdb: l2switch.NewFDB(l), twin: &twin{limits: l, ports: map[packet.PortID]*twinPort{}}}
	for id := packet.PortID(1); id <= 3; id++ {
		p.setPort(id, 0)
	}
	return p
}

func (p *pair) port() packet.PortID { return packet.PortID(rapid.IntRange(1, 4).Draw(p.T, "port")) }
func (p *pair) vlan() uint16        { return rapid.SampledFrom([]uint16{0, 1, 4094}).Draw(p.T, "vlan") }
func (p *pair) mac() [6]byte {
	return [6]byte{2, 0, 0, 0, 0, byte(rapid.IntRange(1, 8).Draw(p.T, "mac"))}
}

func (p *pair) setPort(id packet.PortID, limit int) {
	p.fdb.SetPort(id, limit)
	q := p.twin.ports[id]
	if q == nil {
		q = &twinPort{}
		p.twin.ports[id] = q
	}
	q.limit = limit
	for len(q.learned) > p.twin.limit(q) {
		q.evict()
	}
}

// makeRoom evicts from the twin what the table must have evicted for a new entry on q. Which of several ports that have most
// gives way is left to the table.
func (p *pair) makeRoom(q *twinPort, moved bool) {
	if len(q.learned) >= p.twin.limit(q) {
		q.evict()
	} else if n, most := p.twin.count(); !moved && n >= p.twin.limits.MACs {
		victim := q
		if len(q.learned) < most {
			victim = nil
			for id, v := range p.twin.ports {
				if len(v.learned) == most && p.fdb.PerPort(id) == most-1 {
					victim = v
				}
			}
			if victim == nil {
				p.Fatal("full table: none of the ports that have most gave way")
			}
		}
		victim.evict()
	}
}

func (p *pair) learn(vlan uint16, mac [6]byte, port packet.PortID) {
	at, e := p.twin.findLive(vlan, mac, p.now)
	want, wantOld := l2switch.Unchanged, packet.PortID(0)
	switch {
	case e != nil && at == port:
	case p.twin.ports[port] == nil:
		want = l2switch.RefusedGone
	case e == nil:
		want = l2switch.New
	case e.static:
		want, wantOld = l2switch.RefusedStatic, at
	case p.now < e.until:
		want, wantOld = l2switch.Held, at
	case len(e.moved) >= l2switch.MaxMoves && p.now-e.moved[0] < int64(l2switch.MoveWindow):
		want, wantOld = l2switch.Damped, at
	default:
		want, wantOld = l2switch.Moved, at
	}
	if got, old := p.fdb.Peek(vlan, mac, port, p.now); got != want || old != wantOld {
		p.Fatalf("peek: %v from %d, want %v from %d", got, old, want, wantOld)
	}
	cell, version, got, old := p.fdb.Learn(vlan, mac, port, p.now)
	if got != want || old != wantOld {
		p.Fatalf("learn: %v from %d, want %v from %d", got, old, want, wantOld)
	}
	q := p.twin.ports[port]
	switch want {
	case l2switch.RefusedGone:
		if cell.Version() == version {
			p.Fatal("a decision about a port that is gone could be cached")
		}
		return
	case l2switch.New:
		if _, expired := p.twin.find(vlan, mac); expired != nil {
			p.twin.drop(expired)
		}
		p.makeRoom(q, false)
		e = &twinEntry{vlan: vlan, mac: mac, seen: p.now}
		q.learned = append(q.learned, e)
	case l2switch.Moved:
		moved, home := e.moved, e.home
		if len(moved) == 0 || p.now-moved[0] >= int64(l2switch.MoveWindow) {
			moved, home = nil, at
		}
		p.makeRoom(q, true)
		p.twin.drop(e)
		e = &twinEntry{vlan: vlan, mac: mac, seen: p.now, moved: append(moved, p.now), home: home}
		q.learned = append(q.learned, e)
	case l2switch.Damped:
		e.until = p.now + int64(l2switch.HoldDown)
		if home := p.twin.ports[e.home]; home != nil && e.home != at {
			p.makeRoom(home, true)
			p.twin.drop(e)
			c := *e
			e = &c
			home.learned = append(home.learned, e)
		}
	}
	if want != l2switch.Damped && want != l2switch.Held && want != l2switch.RefusedStatic {
		e.used = p.now
	}
	p.leases = append(p.leases, lease{cell, version, e, 0})
}

func (p *pair) lookup(vlan uint16, mac [6]byte) {
	at, e := p.twin.findLive(vlan, mac, p.now)
	port, cell, version, ok := p.fdb.Lookup(vlan, mac, p.now)
	if ok != (e != nil) || port != at {
		p.Fatalf("lookup: port %d, %v, want %d, %v", port, ok, at, e != nil)
	}
	if ok {
		p.leases = append(p.leases, lease{cell, version, e, port})
	}
}

// touch is a hit of a flow.
func (p *pair) touch() {
	for _, l := range p.leases {
		if l.cell.Version() == l.version && rapid.Bool().Draw(p.T, "touch") {
			l.cell.Touch(p.now)
			l.entry.used = p.now
		}
	}
}

func (p *pair) addStatic(vlan uint16, mac [6]byte, port packet.PortID) {
	at, e := p.twin.find(vlan, mac)
	q := p.twin.ports[port]
	ok := q != nil && (e == nil || !e.static || at == port)
	if err := p.fdb.AddStatic(vlan, mac, port); (err == nil) != ok {
		p.Fatalf("add static: %v, want success: %v", err, ok)
	}
	if ok && (e == nil || !e.static) {
		if e != nil {
			p.twin.drop(e)
		}
		q.static = append(q.static, &twinEntry{vlan: vlan, mac: mac, static: true})
	}
}

func (p *pair) delete(vlan uint16, mac [6]byte) {
	_, e := p.twin.find(vlan, mac)
	if p.fdb.DeleteEntry(vlan, mac) != (e != nil) {
		p.Fatalf("delete: want %v", e != nil)
	}
	p.twin.drop(e)
}

func (p *pair) flush(port packet.PortID, keepStatic bool) {
	want := 0
	for id, q := range p.twin.ports {
		if port != l2switch.AllPorts && id != port {
			continue
		}
		want += len(q.learned)
		q.learned = nil
		if !keepStatic {
			want += len(q.static)
			q.static = nil
		}
	}
	if got := p.fdb.Flush(port, keepStatic); got != want {
		p.Fatalf("flushed %d, want %d", got, want)
	}
}

func (p *pair) sweep() {
	want := 0
	for _, q := range p.twin.ports {
		for _, e := range slices.Clone(q.learned) {
			if p.now-e.used >= int64(p.twin.limits.Age) {
				p.twin.drop(e)
				want++
			}
		}
	}
	if got := p.fdb.Sweep(p.now); got != want {
		p.Fatalf("swept %d, want %d", got, want)
	}
}

// setLimits keeps the limit of all entries, since which of several ports gives way is not for the twin to say.
func (p *pair) setLimits(perPort int, age time.Duration) {
	p.twin.limits.PerPort, p.twin.limits.Age = perPort, age
	p.fdb.SetLimits(p.twin.limits)
	for _, q := range p.twin.ports {
		for len(q.learned) > p.twin.limit(q) {
			q.evict()
		}
	}
}

// check compares the contents, and that exactly those leases hold whose entry stands where it stood.
func (p *pair) check() {
	var want []l2switch.Entry
	for id, q := range p.twin.ports {
		for _, e := range slices.Concat(q.learned, q.static) {
			want = append(want, l2switch.Entry{VLAN: e.vlan, MAC: e.mac, Port: id, Static: e.static, LastUsed: e.used})
			if e.static {
				want[len(want)-1].LastUsed = 0
			}
		}
		if got := p.fdb.PerPort(id); got != len(q.learned) {
			p.Fatalf("port %d has %d entries, want %d", id, got, len(q.learned))
		}
	}
	slices.SortFunc(want, func(a, b l2switch.Entry) int {
		if a.VLAN != b.VLAN {
			return int(a.VLAN) - int(b.VLAN)
		}
		return slices.Compare(a.MAC[:], b.MAC[:])
	})
	if want == nil {
		want = []l2switch.Entry{}
	}
	if diff := cmp.Diff(want, p.fdb.Entries()); diff != "" {
		p.Fatalf("entries (-want +got):\n%s", diff)
	}
	if p.fdb.Len() != len(want) {
		p.Fatalf("%d entries, want %d", p.fdb.Len(), len(want))
	}
	for _, l := range p.leases {
		_, e := p.twin.find(l.entry.vlan, l.entry.mac)
		if holds := l.cell.Version() == l.version; holds != (e == l.entry) {
			p.Fatalf("a flow leaning on %x in VLAN %d holds: %v", l.entry.mac, l.entry.vlan, holds)
		}
	}
}

// fdbEqualsTwin is the property: whatever happens, the table answers as its twin.
func fdbEqualsTwin(t *rapid.T) {
	p := newPair(t)
	t.Repeat(map[string]func(*rapid.T){
		"learn": func(*rapid.T) { p.learn(p.vlan(), p.mac(), p.port()) },
		"burst": func(t *rapid.T) {
			vlan, port := p.vlan(), p.port()
			for range rapid.IntRange(1, 12).Draw(t, "frames") {
				p.learn(vlan, p.mac(), port)
			}
		},
		"flap": func(t *rapid.T) {
			vlan, mac := p.vlan(), p.mac()
			for range rapid.IntRange(1, 15).Draw(t, "moves") {
				p.learn(vlan, mac, p.port())
			}
		},
		"lookup":    func(*rapid.T) { p.lookup(p.vlan(), p.mac()) },
		"touch":     func(*rapid.T) { p.touch() },
		"step":      func(t *rapid.T) { p.now += rapid.Int64Range(1, 60).Draw(t, "ns") },
		"addStatic": func(*rapid.T) { p.addStatic(p.vlan(), p.mac(), p.port()) },
		"delete":    func(*rapid.T) { p.delete(p.vlan(), p.mac()) },
		"flush": func(t *rapid.T) {
			p.flush(packet.PortID(rapid.IntRange(0, 4).Draw(t, "port or all")), rapid.Bool().Draw(t, "keep static"))
		},
		"forget": func(*rapid.T) {
			id := p.port()
			p.fdb.ForgetPort(id)
			delete(p.twin.ports, id)
		},
		"setPort": func(t *rapid.T) { p.setPort(p.port(), rapid.IntRange(0, 7).Draw(t, "limit")) },
		"setLimits": func(t *rapid.T) {
			p.setLimits(rapid.IntRange(1, 7).Draw(t, "per port"), time.Duration(rapid.IntRange(50, 200).Draw(t, "age")))
		},
		"sweep": func(*rapid.T) { p.sweep() },
		"":      func(*rapid.T) { p.check() },
	})
}

func TestFDBEqualsTwin(t *testing.T) { rapid.Check(t, fdbEqualsTwin) }

func FuzzFDBEqualsTwin(f *testing.F) { f.Fuzz(rapid.MakeFuzz(fdbEqualsTwin)) }
