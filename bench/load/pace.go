package load

import "time"

// Pacer tells a sender how many packets are due.
//
// Packets are due at equal distances on a clock that starts at 0, so that the mean rate is exact whatever a sleep
// overshoots. A sender that sleeps between packets wakes at most once per quantum: below 1/quantum packets go one by one,
// above in small bursts, like those of a real application.
type Pacer struct {
	rate    float64 // packets a second
	given   float64 // packets handed out or forgiven since the clock's 0
	backlog float64
	missed  uint64
}

const (
	// quantum is the shortest sleep worth its wake-up: shorter ones would burn the sender's core on timers.
	quantum = 100 * time.Microsecond
	// patience is how long a sender may be late before what it missed is forgiven instead of sent in one burst, which would
	// measure buffers and not the switch.
	patience = 10 * time.Millisecond
)

// NewPacer makes a pacer for a rate in packets a second.
func NewPacer(rate float64) *Pacer {
	return &Pacer{rate: rate, backlog: max(1, rate*patience.Seconds())}
}

// Due returns how many packets should be sent by now, at most limit, and counts them as sent.
func (p *Pacer) Due(now time.Duration, limit int) int {
	due := now.Seconds()*p.rate - p.given
	if over := due - p.backlog; over >= 1 {
		forgiven := float64(uint64(over))
		p.missed += uint64(over)
		p.given += forgiven
		due -= forgiven
	}
	n := min(int(due+1e-6), limit) // the sum of many steps may lie a hair below a whole number
	if n <= 0 {
		return 0
	}
	p.given += float64(n)
	return n
}

// Wait returns how long to sleep when nothing was due.
func (p *Pacer) Wait(now time.Duration) time.Duration {
	next := time.Duration((p.given + 1) / p.rate * float64(time.Second))
	return max(next-now, quantum)
}

// Missed returns how many packets were forgiven. A run with many of them did not reach its rate.
func (p *Pacer) Missed() uint64 { return p.missed }
