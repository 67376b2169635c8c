package stat_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/bench/stat"
)

func TestOf(t *testing.T) {
	tests := []struct {
		name string
		xs   []float64
		want stat.Spread
	}{
		{"none", nil, stat.Spread{}},
		{"one", []float64{4}, stat.Spread{N: 1, Median: 4, Min: 4, Max: 4, Q1: 4, Q3: 4}},
		{"odd, unsorted", []float64{5, 1, 3}, stat.Spread{N: 3, Median: 3, Min: 1, Max: 5, Q1: 2, Q3: 4}},
		{"even", []float64{1, 2, 3, 4}, stat.Spread{N: 4, Median: 2.5, Min: 1, Max: 4, Q1: 1.75, Q3: 3.25}},
		{"NaN is no sample", []float64{math.NaN(), 2}, stat.Spread{N: 1, Median: 2, Min: 2, Max: 2, Q1: 2, Q3: 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, stat.Of(test.xs)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOfLeavesItsArgumentAlone(t *testing.T) {
	xs := []float64{3, 1, 2}
	stat.Of(xs)
	if diff := cmp.Diff([]float64{3, 1, 2}, xs); diff != "" {
		t.Error(diff)
	}
}

func TestPairedRatios(t *testing.T) {
	tests := []struct {
		name        string
		value, base map[int]float64
		want        []float64
	}{
		{"pairs in order of rounds", map[int]float64{2: 6, 0: 1, 1: 4}, map[int]float64{0: 2, 1: 2, 2: 2}, []float64{0.5, 2, 3}},
		{"a round without base is left out", map[int]float64{0: 1, 1: 4}, map[int]float64{1: 2}, []float64{2}},
		{"a base of zero is left out", map[int]float64{0: 1}, map[int]float64{0: 0}, []float64{}},
		{"nothing", nil, nil, []float64{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, stat.PairedRatios(test.value, test.base)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
