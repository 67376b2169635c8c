package l2switch_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/packet"
	l2switch "vswitch/switch"
)

// flapping lets an address that is at home behind port 1 move between the ports n times, every step, and returns when the
// last frame came.
func flapping(fdb *l2switch.FDB, n int, start int64, step time.Duration, ports ...packet.PortID) (now int64) {
	for i := range n {
		now = start + int64(i)*int64(step)
		fdb.Learn(0, mac(1), ports[i%len(ports)], now)
	}
	return now
}

func at(t *testing.T, fdb *l2switch.FDB, now int64) packet.PortID {
	t.Helper()
	port, _, _, ok := fdb.Lookup(0, mac(1), now)
	if !ok {
		t.Fatal("the address is not known")
	}
	return port
}

func TestMovesAreImmediate(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	fdb.Learn(0, mac(1), 1, 0)
	for i := range l2switch.MaxMoves {
		to := packet.PortID(2 + i%2)
		if _, _, what, _ := fdb.Learn(0, mac(1), to, int64(i)); what != l2switch.Moved || at(t, fdb, int64(i)) != to {
			t.Fatalf("move %d: %v", i, what)
		}
	}
	// One that takes its time may do so for ever.
	if flapping(fdb, 100, int64(time.Hour), l2switch.MoveWindow/l2switch.MaxMoves, 1, 2); fdb.Counters().Damped != 0 {
		t.Error("a move every 100 ms was damped")
	}
}

func TestDamping(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	fdb.Learn(0, mac(1), 1, 0)
	now := flapping(fdb, l2switch.MaxMoves, 1, time.Millisecond, 2, 3) // the last one to 3
	_, cell, version, _ := fdb.Lookup(0, mac(1), now)
	if what, old := fdb.Peek(0, mac(1), 2, now); what != l2switch.Damped || old != 3 {
		t.Errorf("peek: %v from %d", what, old)
	}
	if _, _, what, old := fdb.Learn(0, mac(1), 2, now); what != l2switch.Damped || old != 3 {
		t.Errorf("learn: %v from %d", what, old)
	}
	if at(t, fdb, now) != 1 || cell.Version() == version {
		t.Errorf("it is at port %d, not at home; invalidated: %v", at(t, fdb, now), cell.Version() != version)
	}
	version = cell.Version()
	end := now + int64(l2switch.HoldDown)
	for ; now < end; now += int64(time.Millisecond) {
		if _, _, what, old := fdb.Learn(0, mac(1), 2, now); what != l2switch.Held || old != 1 {
			t.Fatalf("during the hold-down: %v from %d", what, old)
		}
		if _, _, what, _ := fdb.Learn(0, mac(1), 1, now); what != l2switch.Unchanged {
			t.Fatalf("at home: %v", what)
		}
	}
	if cell.Version() != version {
		t.Error("flows were invalidated during the hold-down")
	}
	if _, _, what, _ := fdb.Learn(0, mac(1), 2, end); what != l2switch.Moved {
		t.Errorf("after the hold-down: %v", what)
	}
	list, more := fdb.TakeFlaps()
	want := []l2switch.Flap{{MAC: mac(1), From: 3, To: 2, Home: 1}}
	if diff := cmp.Diff(want, list); diff != "" || more != 0 {
		t.Errorf("%d more, (-want +got):\n%s", more, diff)
	}
	if fdb.Flapping() {
		t.Error("told twice")
	}
}

// Ten thousand moves a second, for a minute.
func TestDampingBoundsInvalidations(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 2)
	cell, before, _, _ := fdb.Learn(0, mac(1), 1, 0)
	flapping(fdb, 600000, 1, 100*time.Microsecond, 2, 1)
	periods := uint64(time.Minute/l2switch.HoldDown) + 1
	if n := cell.Version() - before; n > periods*(l2switch.MaxMoves+1) {
		t.Errorf("flows were invalidated %d times", n)
	}
	list, more := fdb.TakeFlaps()
	if n := uint64(len(list) + more); n > periods || n < periods-2 || n != fdb.Counters().Damped {
		t.Errorf("told %d times, damped %d times", n, fdb.Counters().Damped)
	}
	if len(list) > 8 {
		t.Errorf("%d of them one by one", len(list))
	}
}

// Where the home is no more, or is full, the address stays somewhere all the same.
func TestDampingWithoutHome(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	fdb.Learn(0, mac(1), 1, 0)
	fdb.Learn(0, mac(1), 2, 1)
	fdb.ForgetPort(1)
	now := flapping(fdb, l2switch.MaxMoves+1, 2, time.Millisecond, 3, 2)
	if p := at(t, fdb, now); fdb.Counters().Damped != 1 || p != 2 && p != 3 {
		t.Errorf("at port %d, damped %d times", p, fdb.Counters().Damped)
	}
	fdb = newFDB(l2switch.Limits{PerPort: 1}, 3)
	fdb.Learn(0, mac(1), 1, 0)
	fdb.Learn(0, mac(1), 2, 1)
	fdb.Learn(0, mac(9), 1, 2)
	now = flapping(fdb, l2switch.MaxMoves+1, 3, time.Millisecond, 3, 2)
	if at(t, fdb, now) != 1 || fdb.PerPort(1) != 1 || fdb.Len() != 1 {
		t.Errorf("at port %d, %d entries", at(t, fdb, now), fdb.Len())
	}
}

// An entry that takes a damped one's place in memory is not damped.
func TestDampingEndsWithItsEntry(t *testing.T) {
	fdb := newFDB(l2switch.Limits{}, 3)
	fdb.Learn(0, mac(1), 1, 0)
	now := flapping(fdb, l2switch.MaxMoves+1, 1, time.Millisecond, 2, 3)
	fdb.DeleteEntry(0, mac(1))
	fdb.Learn(0, mac(2), 1, now)
	if _, _, what, _ := fdb.Learn(0, mac(2), 2, now); what != l2switch.Moved {
		t.Errorf("another address: %v", what)
	}
}
