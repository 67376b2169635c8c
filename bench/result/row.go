package result

import (
	"vswitch/bench/stat"
)

// Row is one metric of one case over all peers that ran it.
type Row struct {
	Case   string `json:"case"`
	Metric Metric `json:"metric"`
	Cells  []Cell `json:"cells"` // in the order of Run.Peers; N is 0 where a peer has no value
}

// Cell is one metric of one case over one peer.
type Cell struct {
	Peer   string      `json:"peer"`
	Spread stat.Spread `json:"spread"`
	// Ratio is the spread of the ratios to the baseline of the same round. It is empty for the baseline itself.
	Ratio stat.Spread `json:"ratio"`
	// Noisy says that most samples were taken under foreign load, so that they had to be used all the same.
	Noisy  bool `json:"noisy"`
	Failed int  `json:"failed"` // samples that ended with an error
}

// Name is the row's title: the case and what was measured.
func (r *Row) Name() string { return r.Case + " " + r.Metric.Name }

// Condense computes the rows of a run from its samples.
func (r *Run) Condense() {
	r.Rows = r.Rows[:0]
	for _, c := range r.Cases {
		for _, metric := range c.Metrics {
			row := Row{Case: c.Name, Metric: metric}
			base, _ := r.values(c.Name, Baseline, metric.Name)
			seen := false
			for _, peer := range r.Peers {
				values, noisy := r.values(c.Name, peer.Name, metric.Name)
				cell := Cell{Peer: peer.Name, Noisy: noisy, Failed: r.failures(c.Name, peer.Name)}
				cell.Spread = stat.Of(list(values))
				if peer.Name != Baseline {
					cell.Ratio = stat.Of(stat.PairedRatios(values, base))
				}
				seen = seen || cell.Spread.N > 0 || cell.Failed > 0
				row.Cells = append(row.Cells, cell)
			}
			if seen {
				r.Rows = append(r.Rows, row)
			}
		}
	}
}

// Values returns a metric of a case over a peer by round, noisy samples left out where there are enough others, and which
// direction of it is good. A case or peer that was not measured has no values.
func (r *Run) Values(caseName, peer, metric string) (byRound map[int]float64, better Better) {
	for _, c := range r.Cases {
		if c.Name != caseName {
			continue
		}
		for _, m := range c.Metrics {
			if m.Name == metric {
				byRound, _ = r.values(caseName, peer, metric)
				return byRound, m.Better
			}
		}
	}
	return nil, Neither
}

// values returns a metric by round. Noisy samples are thrown away as long as at least half of the samples are clean;
// with fewer clean ones than that a median of them would be no better than of all, so all are used and noisy is true.
func (r *Run) values(caseName, peer, metric string) (values map[int]float64, noisy bool) {
	all, clean := map[int]float64{}, map[int]float64{}
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Case != caseName || s.Peer != peer || !s.usable() {
			continue
		}
		value, ok := s.Values[metric]
		if !ok {
			continue
		}
		all[s.Round] = value
		if !s.Noisy {
			clean[s.Round] = value
		}
	}
	if 2*len(clean) >= len(all) {
		return clean, false
	}
	return all, true
}

func (r *Run) failures(caseName, peer string) int {
	n := 0
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Case == caseName && s.Peer == peer && s.Error != "" && !s.Retired {
			n++
		}
	}
	return n
}

// Failed counts the samples of the run that ended with an error, also when tried again.
func (r *Run) Failed() int {
	n := 0
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Error != "" && !s.Retired {
			n++
		}
	}
	return n
}

func list(values map[int]float64) []float64 {
	xs := make([]float64, 0, len(values))
	for _, value := range values {
		xs = append(xs, value)
	}
	return xs
}
