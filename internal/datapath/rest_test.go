package datapath

import (
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// A port that sends nothing but what is dropped is read 64 frames at a time, with pauses; one that sends anything else is not made
// to wait.
func TestRest(t *testing.T) {
	now := int64(1)
	var out packet.PortID
	d := newTest(t, Config{Workers: 1, MaxSpin: -1, Clock: func() int64 { return now }}, outputTo(&out))
	bad, good, to := newPort(t, "bad"), newPort(t, "good"), newPort(t, "to")
	badID, goodID := add(t, d, bad), add(t, d, good)
	out = add(t, d, to)
	frame := packettest.UDP()
	inject := func(n int) {
		t.Helper()
		for i := range n {
			if err := bad.Inject(nil, frame.Bytes()[:13]); err != nil {
				t.Fatal(err)
			}
			some := frame.Bytes()
			if i%64 != 0 {
				some = some[:13]
			}
			if err := good.Inject(nil, some); err != nil {
				t.Fatal(err)
			}
		}
	}
	turns := func(n int) (fromBad, fromGood uint64) {
		t.Helper()
		for range n {
			if err := d.Turn(); err != nil {
				t.Fatal(err)
			}
		}
		c := d.PortCounters()
		return c[badID].RxFrames, c[goodID].RxFrames
	}
	inject(640)
	if b, g := turns(12); b != restAfter || g != 640 {
		t.Errorf("%d bad frames and %d good and bad ones were read, want %d and 640", b, g, restAfter)
	}
	now += int64(restTime) - 1
	if b, _ := turns(2); b != restAfter {
		t.Errorf("%d frames were read from a port that should rest", b)
	}
	now++
	if b, _ := turns(3); b != 2*restAfter {
		t.Errorf("%d frames were read after the rest, want %d", b, 2*restAfter)
	}
	if _, err := d.Remove(badID); err != nil {
		t.Fatal(err)
	}
	now += int64(restTime)
	newID := add(t, d, newPort(t, "new")) // may have the file descriptor of the one that rested
	turns(3)
	if len(d.workers[0].resting) != 0 || d.PortCounters()[newID].RxFrames != 0 {
		t.Error("a port that is no more still rests")
	}
}
