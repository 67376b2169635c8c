// Package stat holds the few statistics that the benchmark reports: median, quartiles, range and paired ratios.
//
// Medians and ranges are used throughout instead of means and standard deviations: scheduling on a small machine gives
// samples with two humps and long tails, for which a mean describes no sample that ever happened.
package stat

import (
	"cmp"
	"math"
	"slices"
)

// Spread describes a set of samples. N is 0 when there were none; the other fields are then 0 too.
type Spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
}

// Of computes the spread of xs. It does not change xs and ignores NaN.
func Of(xs []float64) Spread {
	sorted := make([]float64, 0, len(xs))
	for _, x := range xs {
		if !math.IsNaN(x) {
			sorted = append(sorted, x)
		}
	}
	if len(sorted) == 0 {
		return Spread{}
	}
	slices.SortFunc(sorted, cmp.Compare[float64])
	return Spread{
		N:      len(sorted),
		Median: quantile(sorted, 0.5),
		Min:    sorted[0],
		Max:    sorted[len(sorted)-1],
		Q1:     quantile(sorted, 0.25),
		Q3:     quantile(sorted, 0.75),
	}
}

// quantile interpolates linearly between the two nearest ranks (type 7 of Hyndman and Fan, as R and NumPy do).
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	frac := at - float64(low)
	return sorted[low] + frac*(sorted[low+1]-sorted[low])
}

// PairedRatios divides the value of each round by the base's value of the same round. Rounds that only one side has, or
// whose base is 0, are left out. Pairing removes what changes from round to round for both: temperature, a neighbour
// VM's load, the machine's mood.
func PairedRatios(value, base map[int]float64) []float64 {
	rounds := make([]int, 0, len(value))
	for round := range value {
		if b, ok := base[round]; ok && b != 0 {
			rounds = append(rounds, round)
		}
	}
	slices.Sort(rounds)
	ratios := make([]float64, 0, len(rounds))
	for _, round := range rounds {
		ratios = append(ratios, value[round]/base[round])
	}
	return ratios
}
