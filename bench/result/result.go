// Package result holds the plain types of a benchmark run, raw samples first, and condenses them into rows.
//
// The JSON file of a run is a Run: whoever doubts a row can compute it again from the samples.
package result

import "time"

// Run is everything that one run of the benchmark produced.
type Run struct {
	Format    int       `json:"format"` // raised when a field changes its meaning
	Command   []string  `json:"command"`
	Started   time.Time `json:"started"`
	Finished  time.Time `json:"finished"`
	Cut       bool      `json:"cut"` // interrupted before all rounds were done
	Rounds    int       `json:"rounds"`
	Seconds   float64   `json:"seconds_per_sample"`
	Threshold float64   `json:"foreign_threshold"` // share of the machine above which a sample is noisy
	Machine   Machine   `json:"machine"`
	Peers     []Peer    `json:"peers"`
	Cases     []Case    `json:"cases"`
	Samples   []Sample  `json:"samples"`
	Rows      []Row     `json:"rows"`
	Notes     []string  `json:"notes"` // peers and cases left out, and why
}

// Format is the version of the JSON that this package writes.
const Format = 1

// Baseline is the peer that the ratios are computed against.
const Baseline = "bridge"

// Machine describes where the run happened.
type Machine struct {
	Kernel             string   `json:"kernel"`
	CPU                string   `json:"cpu"`
	Cores              int      `json:"cores"`
	Virtual            bool     `json:"virtual"` // the CPU says that a hypervisor is present
	MemoryMiB          int64    `json:"memory_mib"`
	CongestionControl  string   `json:"congestion_control"` // the machine's default
	CongestionControls []string `json:"congestion_controls_available"`
	Go                 string   `json:"go"`
	Iperf3             string   `json:"iperf3"`
	Iproute2           string   `json:"iproute2"`
}

// Peer is one switch under comparison.
type Peer struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Version string   `json:"version,omitempty"`
	Args    []string `json:"args,omitempty"` // of its daemon
}

// Case is one measurement. Only metrics become rows; a sample may hold more values than that.
type Case struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Metrics []Metric `json:"metrics"`
}

// Metric names one value of a case's samples.
type Metric struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	About  string `json:"about"`
	Better Better `json:"better"`
	// Plot says that the metric's ratio to the bridge is worth a group of bars.
	Plot bool `json:"plot"`
}

// Better says which direction of a metric is good.
type Better string

// The directions. Neither is for values that explain others, like the rate at which a sender ran.
const (
	Higher  Better = "higher"
	Lower   Better = "lower"
	Neither Better = "neither"
)

// Sample is one measurement of one case over one peer.
type Sample struct {
	Case    string             `json:"case"`
	Peer    string             `json:"peer"`
	Round   int                `json:"round"`
	Attempt int                `json:"attempt"`         // 0, or the number of the retry
	At      float64            `json:"at"`              // seconds since the start of the run
	Values  map[string]float64 `json:"values"`          // by metric name, and a few more
	Foreign float64            `json:"foreign"`         // CPU used by processes that are not ours, share of the machine
	Steal   float64            `json:"steal"`           // CPU that the hypervisor took away, share of the machine
	Noisy   bool               `json:"noisy"`           // Foreign was above the threshold
	Retired bool               `json:"retired"`         // a later attempt of the same round took its place
	Error   string             `json:"error,omitempty"` // what failed; Values is then empty
}

// usable reports whether the sample may count at all.
func (s *Sample) usable() bool { return s.Error == "" && !s.Retired }
