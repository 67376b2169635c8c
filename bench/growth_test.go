package main

import (
	"strings"
	"testing"

	"vswitch/bench/result"
)

// Growth is a factor of time, the inverse of that of a rate, or of CPU time. Rounds are paired, and what was not measured is not told.
func TestGrowthTable(t *testing.T) {
	rate := []result.Metric{{Name: "received", Better: result.Higher}, {Name: "switch", Better: result.Lower}}
	run := &result.Run{Cases: []result.Case{
		{Name: "flows-1", Metrics: rate}, {Name: "flows-100k", Metrics: rate},
		{Name: "flows-1-60k", Metrics: rate}, {Name: "flows-100k-60k", Metrics: rate},
		{Name: "rr", Metrics: []result.Metric{{Name: "p50", Better: result.Lower}}},
	}}
	add := func(test, peer, metric string, values ...float64) {
		for round, v := range values {
			run.Samples = append(run.Samples, result.Sample{Case: test, Peer: peer, Round: round, Values: map[string]float64{metric: v}})
		}
	}
	add("flows-1", "bridge", "received", 100, 200, 300)
	add("flows-100k", "bridge", "received", 50, 50, 300)
	add("flows-1", "vswitch", "received", 400)
	add("flows-100k", "vswitch", "received", 320)
	add("flows-1-60k", "vswitch", "switch", 4000, 5000)
	add("flows-100k-60k", "vswitch", "switch", 6000, 6000)
	add("rr", "vswitch", "p50", 20)
	add("rr", "vswitch-1000", "p50", 30)
	var out strings.Builder
	if err := growthTable(&out, run); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(out.String())) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"Time of a frame the kernel vswitch",
		"flow, time at full rate: one to 100,000 2.00x (1.00x..4.00x) 1.25x (1.25x..1.25x)",
		"flow, CPU of the switch at 60 kpps: one to 100,000 - 1.35x (1.20x..1.50x)",
		"two to 1002 ports: request/response - 1.50x (1.50x..1.50x)",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}
