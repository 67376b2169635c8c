package result_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/bench/result"
	"vswitch/bench/stat"
)

func run(samples ...result.Sample) *result.Run {
	return &result.Run{
		Peers:   []result.Peer{{Name: "bridge"}, {Name: "vswitch"}},
		Cases:   []result.Case{{Name: "tcp1", Metrics: []result.Metric{{Name: "rate", Better: result.Higher}}}},
		Samples: samples,
	}
}

func sample(peer string, round int, rate float64) result.Sample {
	return result.Sample{Case: "tcp1", Peer: peer, Round: round, Values: map[string]float64{"rate": rate}}
}

func TestCondensePairsRounds(t *testing.T) {
	r := run(
		sample("bridge", 0, 10), sample("vswitch", 0, 5),
		sample("vswitch", 1, 30), sample("bridge", 1, 20),
		sample("bridge", 2, 40), sample("vswitch", 2, 40),
	)
	r.Condense()
	if len(r.Rows) != 1 {
		t.Fatalf("got %d rows, want 1", len(r.Rows))
	}
	want := []result.Cell{
		{Peer: "bridge", Spread: stat.Spread{N: 3, Median: 20, Min: 10, Max: 40, Q1: 15, Q3: 30}},
		{
			Peer:   "vswitch",
			Spread: stat.Spread{N: 3, Median: 30, Min: 5, Max: 40, Q1: 17.5, Q3: 35},
			Ratio:  stat.Spread{N: 3, Median: 1, Min: 0.5, Max: 1.5, Q1: 0.75, Q3: 1.25},
		},
	}
	if diff := cmp.Diff(want, r.Rows[0].Cells); diff != "" {
		t.Error(diff)
	}
}

func TestCondenseThrowsNoisySamplesAway(t *testing.T) {
	noisy := func(s result.Sample) result.Sample { s.Noisy = true; return s }
	tests := []struct {
		name    string
		samples []result.Sample
		median  float64
		noisy   bool
	}{
		{"one of three is noisy", []result.Sample{sample("bridge", 0, 10), sample("bridge", 1, 12), noisy(sample("bridge", 2, 1))}, 11, false},
		{"two of three are noisy", []result.Sample{sample("bridge", 0, 10), noisy(sample("bridge", 1, 2)), noisy(sample("bridge", 2, 1))}, 2, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := run(test.samples...)
			r.Condense()
			got := r.Rows[0].Cells[0]
			if got.Spread.Median != test.median || got.Noisy != test.noisy {
				t.Errorf("median %v noisy %v, want %v %v", got.Spread.Median, got.Noisy, test.median, test.noisy)
			}
		})
	}
}

func TestCondenseSkipsRetiredAndFailed(t *testing.T) {
	retired := sample("bridge", 0, 1)
	retired.Retired = true
	failed := result.Sample{Case: "tcp1", Peer: "bridge", Round: 1, Error: "no route to host"}
	r := run(retired, sample("bridge", 0, 10), failed)
	r.Condense()
	got := r.Rows[0].Cells[0]
	if got.Spread.N != 1 || got.Spread.Median != 10 || got.Failed != 1 {
		t.Errorf("got n %d median %v failed %d, want 1 10 1", got.Spread.N, got.Spread.Median, got.Failed)
	}
	if r.Failed() != 1 {
		t.Errorf("Failed() = %d, want 1", r.Failed())
	}
}
