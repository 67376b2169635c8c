package report

import (
	"fmt"
	"io"
	"strings"

	"vswitch/bench/result"
)

// Markdown writes the page of results: ratios first, then the values behind them.
func Markdown(w io.Writer, run *result.Run) error {
	var b strings.Builder
	b.WriteString("# Results\n\nWritten by `bench`; how it measures is told in its README.\n\n")
	for _, line := range facts(run) {
		fmt.Fprintf(&b, "- %s\n", escape(line))
	}
	b.WriteString("\n| peer | what it is |\n|---|---|\n")
	for _, p := range run.Peers {
		about := p.About
		if len(p.Args) > 0 {
			about += " (`" + strings.Join(p.Args, " ") + "`)"
		}
		if p.Version != "" {
			about += "; " + p.Version
		}
		fmt.Fprintf(&b, "| %s | %s |\n", escape(p.Name), escape(about))
	}
	fmt.Fprintf(&b, "\n## Ratio to the %s\n\nMedian of the ratios of each round, with the lowest and the highest. "+
		"↑ more is better, ↓ less is better; ~ mostly measured under foreign load.\n\n", result.Baseline)
	matrix(&b, run, func(row *result.Row) bool { return row.Metric.Plot }, func(cell *result.Cell) string {
		if cell.Peer == result.Baseline {
			return "1"
		}
		if cell.Ratio.N == 0 {
			return ""
		}
		return fmt.Sprintf("**%s** %.2f..%.2f", Ratio(cell.Ratio.Median), cell.Ratio.Min, cell.Ratio.Max)
	})
	b.WriteString("\n## Values\n\nMedian, lowest and highest, and the number of samples.\n\n")
	matrix(&b, run, func(*result.Row) bool { return true }, func(cell *result.Cell) string {
		if cell.Spread.N == 0 {
			return ""
		}
		s := cell.Spread
		return fmt.Sprintf("**%s** %s..%s (%d)", Number(s.Median), Number(s.Min), Number(s.Max), s.N)
	})
	b.WriteString("\n## Cases\n\n| case | what it measures |\n|---|---|\n")
	for _, c := range run.Cases {
		var metrics []string
		for _, metric := range c.Metrics {
			metrics = append(metrics, fmt.Sprintf("%s: %s", metric.Name, metric.About))
		}
		fmt.Fprintf(&b, "| %s | %s. %s |\n", c.Name, escape(c.About), escape(strings.Join(metrics, "; ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// matrix writes a line for each row and a column for each peer.
func matrix(b *strings.Builder, run *result.Run, want func(*result.Row) bool, text func(*result.Cell) string) {
	b.WriteString("| |")
	for _, p := range run.Peers {
		fmt.Fprintf(b, " %s |", escape(p.Name))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(run.Peers)) + "\n")
	for i := range run.Rows {
		row := &run.Rows[i]
		if !want(row) {
			continue
		}
		fmt.Fprintf(b, "| %s, %s%s |", row.Name(), escape(row.Metric.Unit), arrow(row.Metric.Better))
		for j := range row.Cells {
			cell := &row.Cells[j]
			content := text(cell)
			if cell.Noisy && content != "" {
				content += " ~"
			}
			if cell.Failed > 0 {
				content += fmt.Sprintf(" (%d failed)", cell.Failed)
			}
			fmt.Fprintf(b, " %s |", content)
		}
		b.WriteString("\n")
	}
}

func arrow(b result.Better) string {
	switch b {
	case result.Higher:
		return " ↑"
	case result.Lower:
		return " ↓"
	default:
		return ""
	}
}

// escape keeps text from ending its table cell or becoming markup.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(text)
}
