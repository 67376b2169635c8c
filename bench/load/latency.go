package load

import (
	"math/bits"
	"time"
)

// Latency is a histogram of durations: 128 buckets for every power of two, so that a quantile is right to 0.8 %. It never
// allocates, which a slice of all samples of a long run would.
type Latency struct {
	counts [64 * latencySteps]uint32
	n      uint64
}

const (
	latencyBits  = 7
	latencySteps = 1 << latencyBits
)

// Add counts one duration.
func (l *Latency) Add(d time.Duration) {
	l.counts[latencyBucket(uint64(max(d, 0)))]++
	l.n++
}

// Count returns how many durations were added.
func (l *Latency) Count() uint64 { return l.n }

// Quantile returns the duration that a share q of all durations does not exceed; 0 when there are none.
func (l *Latency) Quantile(q float64) time.Duration {
	if l.n == 0 {
		return 0
	}
	rank := max(1, uint64(q*float64(l.n)+0.5))
	var sum uint64
	for bucket, count := range l.counts {
		sum += uint64(count)
		if sum >= rank {
			return latencyMiddle(bucket)
		}
	}
	return 0 // not reached: the counts add up to n
}

// latencyBucket keeps the seven bits below the highest one. Durations below 256 ns have a bucket of their own each.
func latencyBucket(ns uint64) int {
	shift := bits.Len64(ns) - latencyBits - 1
	if shift <= 0 {
		return int(ns)
	}
	return shift*latencySteps + int(ns>>shift)
}

func latencyMiddle(bucket int) time.Duration {
	shift := bucket/latencySteps - 1
	if shift <= 0 {
		return time.Duration(bucket)
	}
	low := uint64(bucket-shift*latencySteps) << shift
	return time.Duration(low + 1<<shift/2)
}
