package router_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"vswitch/internal/cputime"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/router"
)

const second = int64(1e9)

func table() (*router.Neighbors, *router.Interface, *packet.Frame) {
	m := router.New("main")
	i := m.SetInterface(router.Interface{Name: "a", MAC: [6]byte{2, 1}, MTU: 1500, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}})
	f := packettest.UDP(packettest.From("02:00:00:00:00:07", "10.1.0.2", 1), packettest.To("02:01:00:00:00:00", "10.0.0.2", 1))
	f.Key.InPort = 7
	f.Parse()
	return m.Neighbors(), i, f
}

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// The way of an entry: asked for, answered, stale, asked again when used, forgotten.
func TestNeighborLife(t *testing.T) {
	n, i, f := table()
	a, mac := addr(2), [6]byte{2, 2}
	now := second
	for k := range router.MaxParked + 2 {
		got := n.Resolve(i, a, f, now)
		if got.Hop != nil || got.Ask != (k == 0) || (got.Drop != packet.DropNone) != (k >= router.MaxParked) {
			t.Fatalf("frame %d to an unknown neighbor: %+v", k, got)
		}
	}
	if w := n.Hear(i, router.Saying{Addr: addr(3), MAC: mac, Answer: true, Override: true}, now); w != nil || len(n.List()) != 1 {
		t.Fatal("what nobody asked for made an entry")
	}
	for _, bad := range [][6]byte{{}, {1, 2}, i.MAC} {
		if w := n.Hear(i, router.Saying{Addr: a, MAC: bad, Answer: true, Override: true}, now); w != nil {
			t.Fatalf("an answer with the MAC %x was taken", bad)
		}
	}
	if w := n.Hear(i, router.Saying{Addr: a, MAC: mac, Answer: true, Override: true}, now); len(w) != router.MaxParked {
		t.Fatalf("%d frames waited, want %d", len(w), router.MaxParked)
	}
	got := n.Resolve(i, a, f, now)
	if got.State != router.Reachable || got.Hop == nil || got.Hop.Dst != mac || got.Hop.Src != i.MAC {
		t.Fatalf("answered: %+v", got)
	}
	if n.Hear(i, router.Saying{Addr: a, MAC: [6]byte{2, 9}}, now); n.Resolve(i, a, f, now).Hop.Dst != mac || got.Cell.Version() != got.Version {
		t.Fatal("an advertisement without the override flag replaced the MAC (RFC 4861 7.2.5)")
	}
	n.Hear(i, router.Saying{Addr: a, MAC: mac, Answer: true, Override: true}, now)
	now += int64(router.ReachableTime)
	n.Tend(now)
	if s := n.List()[0].State; s != router.Stale {
		t.Fatalf("state %v, want stale", s)
	}
	if ask, _ := n.Tend(now + second); len(ask) != 0 {
		t.Fatal("a stale neighbor that nobody uses is asked")
	}
	now += 2 * second
	n.Resolve(i, a, f, now)
	asked := 0
	for range 6 {
		now += second
		ask, _ := n.Tend(now)
		asked += len(ask)
		for _, s := range ask {
			if s.MAC != mac {
				t.Errorf("the probe goes to %x, want %x alone", s.MAC, mac)
			}
		}
	}
	if asked != router.Retries || got.Cell.Version() == got.Version || len(n.List()) != 0 {
		t.Fatalf("asked %d times, then %v", asked, n.List())
	}
}

// Fragments of one datagram wait together.
func TestNeighborFragments(t *testing.T) {
	n, i, whole := table()
	a := addr(2)
	waits := func(f *packet.Frame, want bool) {
		t.Helper()
		if got := n.Resolve(i, a, f, second); (got.Drop == packet.DropNone) != want {
			t.Errorf("dropped as %v, waits: %v", got.Drop, want)
		}
	}
	for k := range 20 {
		waits(fragment(7, 1, 800*k, 800, true), true)
	}
	waits(fragment(7, 2, 0, 800, true), true)
	for range router.MaxParked - 2 {
		waits(whole, true)
	}
	waits(whole, false)
	waits(fragment(7, 3, 0, 800, true), false)
	waits(fragment(7, 2, 800, 800, true), true)
	if w := n.Hear(i, router.Saying{Addr: a, MAC: [6]byte{2, 2}, Answer: true, Override: true}, second); len(w) != 20+2+router.MaxParked-2 {
		t.Errorf("%d frames waited, want %d", len(w), 20+2+router.MaxParked-2)
	}
}

// A container that opens many connections at once, before the router knows its MAC, gets the answers to all of them. What waits for one
// port's frames, however large they are, takes no place from another's.
func TestNeighborBurst(t *testing.T) {
	n, i, f := table()
	for k := range 30 {
		if a := n.Resolve(i, addr(2), f, second); a.Drop != packet.DropNone {
			t.Fatalf("answer %d of 30: dropped as %v", k, a.Drop)
		}
	}
	super := packettest.UDP(packettest.From("02:00:00:00:00:07", "10.1.0.2", 1), packettest.To("02:01:00:00:00:00", "10.0.0.2", 1), packettest.Size(60000))
	super.Key.InPort = 8
	super.Parse()
	waits := 0
	for k := range 4 * router.MaxParkedBytes / super.Len() {
		if a := n.Resolve(i, addr(3+k/4), super, second); a.Drop == packet.DropNone {
			waits++
		}
	}
	if want := router.MaxParkedPort / (super.Len() + 512); waits != want {
		t.Errorf("%d super-frames of a port wait, want %d", waits, want)
	}
	f.Key.InPort = 9
	if a := n.Resolve(i, addr(2), f, second); a.Drop != packet.DropNone {
		t.Errorf("another port's frame is dropped as %v", a.Drop)
	}
	answer := router.Saying{Addr: addr(2), MAC: [6]byte{2, 2}, Answer: true, Override: true}
	if w := n.Hear(i, answer, second); len(w) != 31 {
		t.Errorf("%d frames waited, want 31", len(w))
	}
	if lost := n.Abandon(8); len(lost) != waits {
		t.Errorf("%d super-frames came back, want %d", len(lost), waits)
	}
	if a := n.Resolve(i, addr(500), super, second); a.Drop != packet.DropNone {
		t.Errorf("when all have gone, a super-frame is dropped as %v", a.Drop)
	}
}

// A neighbor that never answers fails, is not asked for a while, and is forgotten; its frames come back.
func TestNeighborFails(t *testing.T) {
	n, i, f := table()
	n.Resolve(i, addr(2), f, 0)
	asked, lost := 1, 0
	for k := range int64(4) {
		ask, l := n.Tend((k + 1) * second)
		asked, lost = asked+len(ask), lost+len(l)
	}
	if asked != router.Retries || lost != 1 {
		t.Errorf("asked %d times, %d frames came back", asked, lost)
	}
	if a := n.Resolve(i, addr(2), f, 4*second); a.State != router.Failed || a.Drop != packet.DropNeighborFailed {
		t.Errorf("after failing: %+v", a)
	}
	if a := n.Resolve(i, addr(2), f, 4*second+int64(router.FailedTime)); !a.Ask {
		t.Errorf("later: %+v", a)
	}
}

// Scans fill their own port's share, and no scan takes the place of a neighbor that answered.
func TestNeighborLimits(t *testing.T) {
	n, i, f := table()
	n.Resolve(i, addr(1), f, 0)
	n.Hear(i, router.Saying{Addr: addr(1), MAC: [6]byte{2, 2}, Answer: true, Override: true}, 0)
	drops := 0
	for k := range 20000 {
		f.Key.InPort = packet.PortID(10 + k/2000)
		if a := n.Resolve(i, addr(100+k), f, 0); a.Drop == packet.DropNeighborQueue {
			drops++
		}
	}
	if made := 20000 - drops; made > router.MaxPending || made < router.MaxPending/2 {
		t.Errorf("%d addresses are being resolved", made)
	}
	if n.Resolve(i, addr(1), f, 0).Hop == nil {
		t.Error("the known neighbor was forgotten")
	}
	now := second
	for range 3 { // none of them answers
		now += second
		n.Tend(now)
	}
	f.Key.InPort = 9
	start := cputime.Used(t)
	for k := range 8 * router.MaxNeighbors { // all answer, some thousand a second: the table stays within its limit
		if now += second / 20000; k%1000 == 0 {
			n.Resolve(i, addr(1), f, now) // in use
		}
		n.Resolve(i, addr(100000+k), f, now)
		if w := n.Hear(i, router.Saying{Addr: addr(100000 + k), MAC: [6]byte{2, 3}, Answer: true, Override: true}, now); len(w) != 1 {
			t.Fatalf("neighbor %d: %d frames waited", k, len(w))
		}
	}
	if got := len(n.List()); got != router.MaxNeighbors {
		t.Errorf("%d neighbors, want a full table", got)
	}
	if took := cputime.Used(t) - start; took > 5*time.Second { // a walk of the table for each takes minutes
		t.Errorf("%d neighbors that answer took %v", 8*router.MaxNeighbors, took)
	}
	if n.Resolve(i, addr(1), f, now).Hop == nil {
		t.Error("the neighbor in use made room for others")
	}
	if c := n.Flush(""); c == 0 || len(n.List()) != 0 {
		t.Errorf("flushed %d, left %d", c, len(n.List()))
	}
}

// A port that leaves takes the frames with it that wait, and nobody else's.
func TestNeighborAbandon(t *testing.T) {
	n, i, f := table()
	for k := range 3 {
		f.Key.InPort = packet.PortID(7 + k%2)
		n.Resolve(i, addr(2), f, 0)
		n.Resolve(i, addr(3+k), f, 0)
	}
	n.Flush("") // makes orphans of them
	n.Resolve(i, addr(2), f, 0)
	if lost := n.Abandon(8); len(lost) != 2 {
		t.Errorf("%d frames of port 8 came back, want 2", len(lost))
	}
	if lost := n.Abandon(7); len(lost) != 5 {
		t.Errorf("%d frames of port 7 came back, want 5", len(lost))
	}
	if waited := n.Hear(i, router.Saying{Addr: addr(2), MAC: [6]byte{2, 2}, Answer: true, Override: true}, 0); len(waited) != 0 {
		t.Errorf("%d frames wait yet", len(waited))
	}
}

// What a port that is down or gone had is forgotten, and nothing else; an address of its that failed is asked for at once.
func TestNeighborForget(t *testing.T) {
	n, i, f := table()
	gone, other := [6]byte{2, 2}, [6]byte{2, 3}
	for k, mac := range map[int][6]byte{2: gone, 3: gone, 4: other} {
		n.Resolve(i, addr(k), f, 0)
		n.Hear(i, router.Saying{Addr: addr(k), MAC: mac, Answer: true, Override: true}, 0)
	}
	n.Resolve(i, addr(5), f, 0)
	n.Resolve(i, addr(6), f, 0)
	for k := range int64(4) {
		n.Tend((k + 1) * second) // 5 and 6 fail
	}
	n.Resolve(i, addr(7), f, 4*second)
	kept := n.Resolve(i, addr(4), f, 4*second)
	n.Forget(i, gone, []netip.Addr{addr(2), addr(5), addr(7)})
	var left []netip.Addr
	for _, row := range n.List() {
		left = append(left, row.Addr)
	}
	if want := []netip.Addr{addr(4), addr(6), addr(7)}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	if kept.Cell.Version() != kept.Version {
		t.Error("another neighbor's flows are decided anew")
	}
}

func TestLimiter(t *testing.T) {
	var l router.Limiter
	take := func(now int64) (n int) {
		for range 10000 {
			if l.Take(now) {
				n++
			}
		}
		return n
	}
	if n := take(second); n != router.ErrorBurst {
		t.Errorf("%d at once", n)
	}
	total := 0
	for k := range int64(1000) {
		total += take(second + (k+1)*1e6)
	}
	if total != router.ErrorRate {
		t.Errorf("%d in a second", total)
	}
	if sent, held := l.Counts(); sent != router.ErrorBurst+router.ErrorRate || sent+held != 1001*10000 {
		t.Errorf("counted %d sent and %d held back", sent, held)
	}
}
