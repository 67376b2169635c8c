package load_test

import (
	"testing"
	"time"

	"vswitch/bench/load"
)

func TestPacerKeepsItsRate(t *testing.T) {
	tests := []struct {
		name  string
		rate  float64
		sleep time.Duration // how long every sleep lasts beyond what was asked for
		over  time.Duration
		want  uint64
		burst int // the most that may be due at once
	}{
		{"sparse", 10_000, 0, time.Second, 10_000, 2},
		{"sparse, late timers", 10_000, 60 * time.Microsecond, time.Second, 10_000, 3},
		{"dense", 300_000, 0, time.Second, 300_000, 31},
		{"dense, late timers", 300_000, 60 * time.Microsecond, time.Second, 300_000, 50},
		{"slow", 7, 0, 3 * time.Second, 21, 1},
		{"fractional", 33_333.3, 0, 3 * time.Second, 100_000, 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := load.NewPacer(test.rate)
			var sent uint64
			for now := time.Duration(0); now < test.over; {
				n := p.Due(now, 1<<20)
				if n > test.burst {
					t.Fatalf("%d packets due at %v, want at most %d", n, now, test.burst)
				}
				sent += uint64(n)
				if n == 0 {
					now += p.Wait(now) + test.sleep
				}
			}
			if sent+uint64(test.burst) < test.want || sent > test.want+1 {
				t.Errorf("sent %d packets, want %d", sent, test.want)
			}
			if p.Missed() != 0 {
				t.Errorf("%d packets forgiven", p.Missed())
			}
		})
	}
}

func TestPacerLimitIsCarriedOver(t *testing.T) {
	p := load.NewPacer(1_000_000)
	if n := p.Due(time.Millisecond, 64); n != 64 {
		t.Fatalf("first call gives %d, want the limit of 64", n)
	}
	if n := p.Due(time.Millisecond, 10_000); n != 936 {
		t.Errorf("second call gives %d, want the other 936", n)
	}
}

func TestPacerForgivesALongStall(t *testing.T) {
	p := load.NewPacer(100_000)
	n := p.Due(time.Second, 1<<20) // a whole second without CPU
	if n != 1000 {
		t.Errorf("%d packets due after a stall, want 1000: those of the last 10 ms", n)
	}
	if p.Missed() != 99_000 {
		t.Errorf("%d packets forgiven, want 99000", p.Missed())
	}
	if n := p.Due(time.Second+time.Millisecond, 1<<20); n != 100 {
		t.Errorf("%d packets due in the next millisecond, want 100", n)
	}
}
