package flow_test

import (
	"math/rand/v2"
	"testing"

	"vswitch/internal/flow"
)

const second = int64(1e9)

func TestMeterBurst(t *testing.T) {
	for _, c := range []struct{ rate, burst int }{{1, 10}, {50, 10}, {100, 10}, {1000, 100}, {flow.MaxRate, flow.MaxRate / 10}} {
		m := flow.NewMeter(flow.StormBroadcast, c.rate)
		if m.Burst() != c.burst {
			t.Errorf("rate %d: a burst of %d, want %d", c.rate, m.Burst(), c.burst)
		}
		for _, now := range []int64{0, 3600 * second, 7200 * second} { // full at first, and after a silence
			n := 0
			for m.Take(now, 1) {
				n++
			}
			if n != c.burst {
				t.Errorf("rate %d: %d packets pass at once, want %d", c.rate, n, c.burst)
			}
		}
	}
}

// A sender far above the rate gets the rate, whatever the steps of the clock and the sizes of its super-frames are.
func TestMeterRate(t *testing.T) {
	for _, c := range []struct {
		name       string
		rate, size int
		step       int64 // nanoseconds between attempts
	}{
		{"slow", 7, 1, 1e6},
		{"single frames", 1000, 1, 1e5},
		{"many a turn", 1000, 1, 1e4},
		{"super-frames", 1000, 40, 1e5},
		{"super-frames above the burst", 20, 64, 1e6},
		{"fast", 1_000_000, 1, 200},
		{"not a divisor of a second", 300_007, 3, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := flow.NewMeter(flow.StormMulticast, c.rate)
			const seconds = 10
			now, passed, sent := int64(0), 0, 0
			for ; now < seconds*second && sent < 2e6; now += c.step {
				sent += c.size
				if m.Take(now, c.size) {
					passed += c.size
				}
			}
			most := int(int64(c.rate)*now/second) + m.Burst() + c.size
			if least := int(int64(c.rate) * now / second * 99 / 100); passed < least || passed > most {
				t.Errorf("%d packets pass in %d ns, want %d to %d", passed, now, least, most)
			}
			if int(m.Dropped()) != sent-passed {
				t.Errorf("%d packets are counted as dropped, want %d", m.Dropped(), sent-passed)
			}
		})
	}
}

// A sender below the rate loses nothing.
func TestMeterLetsTheQuietPass(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	m := flow.NewMeter(flow.StormUnknown, 1000)
	for now := int64(0); now < 100*second; now += 1e6 + r.Int64N(1e5) {
		if !m.Take(now, 1) {
			t.Fatalf("a packet is dropped at %d ns", now)
		}
	}
}

// The clock of a worker that takes a port over may be behind that of the one before by a turn.
func TestMeterClockGoesBack(t *testing.T) {
	m := flow.NewMeter(flow.StormUnknown, 1000)
	passed := 0
	for i := range int64(20000) {
		now := i*50_000 - i%2*1_000_000
		if m.Take(now, 1) {
			passed++
		}
	}
	if passed < 990 || passed > 1000+m.Burst() {
		t.Errorf("%d packets pass in a second", passed)
	}
}
