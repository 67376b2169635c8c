// Package report writes a run for people and for programs: text, Markdown, SVG, JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"vswitch/bench/result"
)

// Number prints a value with three significant digits and without an exponent.
func Number(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(x))))
	return strconv.FormatFloat(x, 'f', min(max(digits, 0), 4), 64)
}

// Ratio prints a ratio to the baseline.
func Ratio(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) + "x" }

// JSON writes everything.
func JSON(w io.Writer, run *result.Run) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(run)
}

// Text writes a block of lines for each row.
func Text(w io.Writer, run *result.Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range run.Rows {
		row := &run.Rows[i]
		fmt.Fprintf(t, "\n%s [%s], %s\n", row.Name(), row.Metric.Unit, direction(row.Metric.Better))
		for _, cell := range row.Cells {
			if cell.Spread.N == 0 && cell.Failed == 0 {
				continue
			}
			fmt.Fprintf(t, "  %s\t%s\t%s..%s\tn=%d\t%s\t%s\n", cell.Peer, Number(cell.Spread.Median),
				Number(cell.Spread.Min), Number(cell.Spread.Max), cell.Spread.N, ratioText(&cell), remarks(&cell))
		}
	}
	for _, line := range facts(run) {
		fmt.Fprintf(t, "\n%s", line)
	}
	fmt.Fprintln(t)
	return t.Flush()
}

func ratioText(cell *result.Cell) string {
	if cell.Ratio.N == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s..%s)", Ratio(cell.Ratio.Median), Ratio(cell.Ratio.Min), Ratio(cell.Ratio.Max))
}

func remarks(cell *result.Cell) string {
	var all []string
	if cell.Noisy {
		all = append(all, "noisy")
	}
	if cell.Failed > 0 {
		all = append(all, fmt.Sprintf("%d failed", cell.Failed))
	}
	return strings.Join(all, ", ")
}

func direction(b result.Better) string {
	switch b {
	case result.Higher:
		return "higher is better"
	case result.Lower:
		return "lower is better"
	default:
		return "for information"
	}
}

// facts are sentences about the run and the machine.
func facts(run *result.Run) []string {
	m := run.Machine
	virtual := ""
	if m.Virtual {
		virtual = ", in a virtual machine"
	}
	thrown, noisy := 0, 0
	for i := range run.Samples {
		if run.Samples[i].Retired {
			thrown++
		} else if run.Samples[i].Noisy {
			noisy++
		}
	}
	lines := []string{
		fmt.Sprintf("Machine: %s, %d cores%s, %d GiB; %s.", m.CPU, m.Cores, virtual, (m.MemoryMiB+512)/1024, m.Kernel),
		fmt.Sprintf("TCP congestion control: %s where nothing else is said (the machine's default).", m.CongestionControl),
		fmt.Sprintf("Tools: %s; %s; %s.", m.Iperf3, m.Iproute2, m.Go),
		fmt.Sprintf("Run: %s, %d rounds, %s s per sample, took %v. Command: %s", run.Started.Format(time.DateOnly), run.Rounds,
			Number(run.Seconds), run.Finished.Sub(run.Started).Round(time.Second), strings.Join(run.Command, " ")),
		fmt.Sprintf("Samples: %d, of which %d were thrown away and taken again, and %d are noisy (other processes used more than %s %% of the machine).",
			len(run.Samples), thrown, noisy, Number(100*run.Threshold)),
	}
	if run.Cut {
		lines = append(lines, "The run was interrupted: not all rounds are complete.")
	}
	return append(lines, run.Notes...)
}
