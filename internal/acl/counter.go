package acl

import (
	"sync/atomic"

	"vswitch/internal/flow"
)

// Limits of log lines, since any frame can cause one: lines per second, and at once after a silence, of one rule and of all rules of a
// network.
const (
	LogRate         = 1
	LogBurst        = 10
	NetworkLogRate  = 100
	NetworkLogBurst = 100
)

// counter is what a rule counts.
type counter struct {
	flow.Tally
	missed atomic.Uint64 // log lines since the last that was written
	log    limiter
}

func newCounter() *counter { return &counter{log: limiter{rate: LogRate, burst: LogBurst}} }

// limiter is a token bucket, kept as the time when it is full again (as flow.Meter).
type limiter struct {
	rate, burst int64
	full        atomic.Int64
}

// take tells whether there is a token at now, nanoseconds, and takes it.
func (l *limiter) take(now int64) bool {
	interval := int64(1e9) / l.rate
	for {
		full := l.full.Load()
		if full-now > (l.burst-1)*interval {
			return false
		}
		if l.full.CompareAndSwap(full, max(full, now)+interval) {
			return true
		}
	}
}
