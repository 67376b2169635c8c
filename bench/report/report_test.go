package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/bench/report"
	"vswitch/bench/result"
)

// sampleRun has a peer with strange characters, a failed sample and a ratio far off the scale.
func sampleRun() *result.Run {
	run := &result.Run{
		Format: result.Format, Command: []string{"bench", "--quick"}, Rounds: 2, Seconds: 1, Threshold: 0.08,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Finished: time.Date(2026, 1, 2, 3, 9, 5, 0, time.UTC),
		Machine: result.Machine{CPU: "Some <CPU> & more", Cores: 2, Kernel: "Linux 6.18", CongestionControl: "bbr"},
		Peers:   []result.Peer{{Name: "bridge"}, {Name: "veth"}, {Name: "odd<c>&", About: "odd | name", Args: []string{"--spin=0"}}},
		Cases: []result.Case{
			{Name: "tcp1", About: "one stream", Metrics: []result.Metric{
				{Name: "rate", Unit: "Gbit/s", Better: result.Higher, Plot: true},
				{Name: "switch", Unit: "ms/Gbit", Better: result.Lower},
			}},
			{Name: "rr", About: "latency", Metrics: []result.Metric{{Name: "p50", Unit: "us", Better: result.Lower, Plot: true}}},
		},
		Notes: []string{"skipped: peer x needs a program"},
	}
	for round := range 2 {
		for i, peer := range run.Peers {
			run.Samples = append(run.Samples,
				result.Sample{Case: "tcp1", Peer: peer.Name, Round: round, Values: map[string]float64{"rate": 10 / float64(1+i*i*40)}},
				result.Sample{Case: "rr", Peer: peer.Name, Round: round, Values: map[string]float64{"p50": 20 * float64(1+i+round)}},
			)
		}
	}
	run.Samples = append(run.Samples, result.Sample{Case: "rr", Peer: "veth", Round: 2, Error: "no route to host"})
	run.Condense()
	return run
}

func TestSVGIsWellFormed(t *testing.T) {
	for name, run := range map[string]*result.Run{"full": sampleRun(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := report.SVG(&b, run); err != nil {
				t.Fatal(err)
			}
			d := xml.NewDecoder(strings.NewReader(b.String()))
			bars := 0
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%v in\n%s", err, b.String())
				}
				if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
					bars++
				}
			}
			if want := map[string]int{"full": 1 + 2 + 4, "empty": 1}[name]; bars != want { // background, legend, bars
				t.Errorf("%d rectangles, want %d", bars, want)
			}
			if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
				t.Errorf("a coordinate is no number:\n%s", b.String())
			}
		})
	}
}

func TestMarkdownTablesAreWellFormed(t *testing.T) {
	var b strings.Builder
	if err := report.Markdown(&b, sampleRun()); err != nil {
		t.Fatal(err)
	}
	columns := 0
	for line := range strings.Lines(b.String()) {
		line = strings.ReplaceAll(strings.TrimSpace(line), `\|`, "")
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(line, "|")
		if columns != 0 && n != columns {
			t.Errorf("line with %d bars in a table of %d: %s", n, columns, line)
		}
		if columns == 0 {
			columns = n
		}
	}
	for _, want := range []string{"**0.02x**", "skipped: peer x", "(1 failed)", "Some &lt;CPU> & more", "`--spin=0`", "rate, Gbit/s ↑"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestTextNamesEveryPeerAndFailure(t *testing.T) {
	var b strings.Builder
	if err := report.Text(&b, sampleRun()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tcp1 rate [Gbit/s], higher is better", "1.75x (1.50x..2.00x)", "1 failed", "Some <CPU> & more"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	run := sampleRun()
	var b strings.Builder
	if err := report.JSON(&b, run); err != nil {
		t.Fatal(err)
	}
	var got result.Run
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run, &got); diff != "" {
		t.Error(diff)
	}
}

func TestNumber(t *testing.T) {
	tests := map[float64]string{0: "0", 12345: "12345", 123.4: "123", 12.34: "12.3", 1.234: "1.23", 0.1234: "0.123", 0.0012345: "0.0012", -5.678: "-5.68", 0.00001: "0.0000"}
	for x, want := range tests {
		if got := report.Number(x); got != want {
			t.Errorf("Number(%v) = %s, want %s", x, got, want)
		}
	}
}
