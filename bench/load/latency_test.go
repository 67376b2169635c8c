package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestLatencyBuckets(t *testing.T) {
	last := -1
	for _, ns := range []uint64{0, 1, 127, 128, 255, 256, 257, 258, 511, 512, 1000, 65535, 65536, 1 << 32, math.MaxInt64} {
		bucket := latencyBucket(ns)
		if bucket < last {
			t.Errorf("bucket %d of %d ns lies before that of a shorter time", bucket, ns)
		}
		last = bucket
		middle := latencyMiddle(bucket)
		if off := math.Abs(float64(middle)-float64(ns)) / max(1, float64(ns)); off > 0.008 {
			t.Errorf("%d ns comes back as %d: off by %.2f %%", ns, middle, 100*off)
		}
	}
}

func TestLatencyQuantileAgainstSort(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var l Latency
	var all []time.Duration
	for range 50_000 {
		d := time.Duration(math.Exp(random.NormFloat64()+10) + 1) // log-normal around 22 us
		l.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(len(all)-1, int(q*float64(len(all))))]
		got := l.Quantile(q)
		if off := math.Abs(float64(got-want)) / float64(want); off > 0.02 {
			t.Errorf("quantile %v is %v, sorted gives %v", q, got, want)
		}
	}
}

func TestLatencyEmpty(t *testing.T) {
	var l Latency
	if got := l.Quantile(0.5); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
}
