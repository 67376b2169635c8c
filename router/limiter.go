package router

import "sync/atomic"

// Limits of the ICMP errors that a router sends (RFC 1812 4.3.2.8, RFC 4443 2.4 f).
const (
	ErrorRate  = 1000 // per second
	ErrorBurst = 50
)

// Limiter is a token bucket for ICMP errors, kept as the time when it is full again (as flow.Meter). The zero Limiter is full.
type Limiter struct {
	full       atomic.Int64
	sent, held atomic.Uint64
}

// Counts returns how many errors were sent, and how many were held back.
func (l *Limiter) Counts() (sent, held uint64) { return l.sent.Load(), l.held.Load() }

// Take tells whether one more may be sent at now, nanoseconds.
func (l *Limiter) Take(now int64) bool {
	const interval = int64(1e9 / ErrorRate)
	for {
		full := l.full.Load()
		if full-now > (ErrorBurst-1)*interval {
			l.held.Add(1)
			return false
		}
		if l.full.CompareAndSwap(full, max(full, now)+interval) {
			l.sent.Add(1)
			return true
		}
	}
}
