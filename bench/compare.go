package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"vswitch/bench/report"
	"vswitch/bench/result"
)

// compareCases show bulk, small packets and latency.
var compareCases = []string{"tcp1", "rr", "udp64"}

func newCompare() *cobra.Command {
	o := defaults()
	o.rounds, o.seconds, o.retries = 1, 3, 0
	o.cases, o.peers = compareCases, []string{"bridge", "vswitch"}
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Show vswitch beside the kernel bridge in 20 seconds",
		Long: `Compare starts a vswitchd of its own and a kernel bridge, runs iperf3, request/response and a flood of 64-byte frames over
both, and prints a small table. One round proves nothing: for numbers to rely on run bench itself.`,
		Example: `  bench compare --seconds 3
  bench compare --peers bridge,vswitch,naive --cases tcp1,udp1400`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return compare(cmd, o) },
	}
	o.programFlags(cmd)
	cmd.Flags().Float64Var(&o.seconds, "seconds", o.seconds, "length of a measurement")
	cmd.Flags().StringSliceVar(&o.cases, "cases", o.cases, "what to measure")
	cmd.Flags().StringSliceVar(&o.peers, "peers", o.peers, "whom to compare")
	return cmd
}

func compare(cmd *cobra.Command, o *options) error {
	run, err := campaignOf(cmd.Context(), o)
	if err != nil {
		return err
	}
	if err := sideBySide(cmd.OutOrStdout(), run); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if failed := run.Failed(); failed > 0 {
		return fmt.Errorf("%d of %d samples failed", failed, len(run.Samples))
	}
	return nil
}

// sideBySide prints a line for each metric and a column for each peer.
func sideBySide(w io.Writer, run *result.Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "\n\t")
	for _, p := range run.Peers {
		fmt.Fprintf(t, "%s\t", p.Name)
	}
	fmt.Fprintln(t)
	for i := range run.Rows {
		row := &run.Rows[i]
		fmt.Fprintf(t, "%s, %s\t", row.Name(), row.Metric.Unit)
		for _, cell := range row.Cells {
			text := report.Number(cell.Spread.Median)
			if cell.Spread.N == 0 {
				text = "-"
			}
			if cell.Ratio.N > 0 && row.Metric.Better != result.Neither {
				text += fmt.Sprintf(" (%s)", report.Ratio(cell.Ratio.Median))
			}
			if cell.Noisy {
				text += " ~"
			}
			fmt.Fprintf(t, "%s\t", text)
		}
		fmt.Fprintln(t, direction(row.Metric.Better))
	}
	fmt.Fprintf(t, "\nIn brackets: ratio to the %s.\n", result.Baseline)
	return t.Flush()
}

func direction(b result.Better) string {
	switch b {
	case result.Higher:
		return "more is better"
	case result.Lower:
		return "less is better"
	default:
		return ""
	}
}
