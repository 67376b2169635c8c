package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"

	"vswitch/bench/result"
)

// The plot: a group of bars for each row, a bar for each peer. The scale is logarithmic and bars start at 1, the baseline:
// twice as much and half as much are equally long.
//
//	tcp1 rate ↑          ██████████|            0.52x
//	                          ▒▒▒▒▒|            0.76x
//	                      1/2      1       2
const (
	plotWidth  = 940
	plotLeft   = 230 // labels of the rows
	plotRight  = 90  // room for the values beside the longest bar
	barHeight  = 11
	groupSpace = 12
	legendLine = 18
)

// palette has a color for each peer that can be told from its neighbors, also by the color-blind (Okabe and Ito).
var palette = []string{"#999999", "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#6a51a3", "#8c6d31"}

// plot is a drawing in progress.
type plot struct {
	b         strings.Builder
	low, high float64 // exponents of two at the edges
	colors    map[string]string
}

// SVG writes the plot of all rows that are worth one.
func SVG(w io.Writer, run *result.Run) error {
	p := &plot{low: -1, high: 1, colors: map[string]string{}}
	var rows []*result.Row
	bars := 0
	for i := range run.Rows {
		row := &run.Rows[i]
		n := 0
		for _, cell := range row.Cells {
			if row.Metric.Plot && cell.Ratio.N > 0 {
				p.stretch(cell.Ratio.Min)
				p.stretch(cell.Ratio.Max)
				n++
			}
		}
		if n > 0 {
			rows, bars = append(rows, row), bars+n
		}
	}
	legend := p.assign(run)
	top := 50 + legendLine*((len(legend)+2)/3)
	bottom := top + bars*barHeight + len(rows)*groupSpace
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, bottom+50)
	fmt.Fprintf(&p.b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, bottom+50)
	p.text(16, 24, "start", `font-size="15" font-weight="bold"`, "Ratio to the kernel "+result.Baseline)
	p.text(plotWidth-16, 24, "end", `fill="#555555"`, "↑ more is better, ↓ less is better; lines show the range over rounds")
	p.legend(legend)
	p.grid(top, bottom)
	y := top
	for _, row := range rows {
		y = p.group(row, y+groupSpace/2) + groupSpace/2
	}
	m := run.Machine
	p.text(16, bottom+40, "start", `fill="#555555"`, fmt.Sprintf("%s, %d cores, %s, %s; %d rounds of %s s", m.CPU, m.Cores, m.Kernel, m.CongestionControl, run.Rounds, Number(run.Seconds)))
	p.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// stretch widens the scale to show a ratio. Beyond 1/32 and 32 bars are cut; their values are printed beside them.
func (p *plot) stretch(ratio float64) {
	if ratio <= 0 {
		return
	}
	p.low = max(-5, min(p.low, math.Floor(math.Log2(ratio))))
	p.high = min(5, max(p.high, math.Ceil(math.Log2(ratio))))
}

// x maps a ratio to the drawing.
func (p *plot) x(ratio float64) float64 {
	exponent := p.low
	if ratio > 0 {
		exponent = min(max(math.Log2(ratio), p.low), p.high)
	}
	return plotLeft + (exponent-p.low)/(p.high-p.low)*(plotWidth-plotLeft-plotRight)
}

// assign gives each peer but the baseline its color, in the order of the run.
func (p *plot) assign(run *result.Run) (names []string) {
	for _, peer := range run.Peers {
		if peer.Name != result.Baseline {
			p.colors[peer.Name] = palette[len(names)%len(palette)]
			names = append(names, peer.Name)
		}
	}
	return names
}

func (p *plot) legend(names []string) {
	for i, name := range names {
		x, y := 16+i%3*300, 44+i/3*legendLine
		fmt.Fprintf(&p.b, `<rect x="%d" y="%d" width="11" height="11" fill="%s"/>`+"\n", x, y, p.colors[name])
		p.text(float64(x+17), y+10, "start", "", name)
	}
}

func (p *plot) grid(top, bottom int) {
	for e := p.low; e <= p.high; e++ {
		x, color := p.x(math.Exp2(e)), "#dddddd"
		if e == 0 {
			color = "#222222"
		}
		fmt.Fprintf(&p.b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, top, x, bottom, color)
		label := fmt.Sprintf("%.0fx", math.Exp2(e))
		if e < 0 {
			label = fmt.Sprintf("1/%.0f", math.Exp2(-e))
		}
		p.text(x, bottom+16, "middle", "", label)
	}
}

// group draws the bars of a row and returns where it ends.
func (p *plot) group(row *result.Row, y int) int {
	p.text(plotLeft-10, y+10, "end", `font-weight="bold"`, row.Name()+arrow(row.Metric.Better))
	one := p.x(1)
	for _, cell := range row.Cells {
		r := cell.Ratio
		if r.N == 0 {
			continue
		}
		end := p.x(r.Median)
		middle := float64(y) + barHeight/2.0
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", min(one, end), y+1, max(math.Abs(end-one), 1), barHeight-2, p.colors[cell.Peer])
		fmt.Fprintf(&p.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222222" stroke-opacity="0.6"/>`+"\n", p.x(r.Min), middle, p.x(r.Max), middle)
		label := Ratio(r.Median)
		if cell.Noisy {
			label += " ~"
		}
		p.text(max(one, p.x(r.Max), end)+5, y+10, "start", `font-size="10"`, label)
		y += barHeight
	}
	return y
}

func (p *plot) text(x float64, y int, anchor, attributes, text string) {
	fmt.Fprintf(&p.b, `<text x="%.1f" y="%d" text-anchor="%s" %s>`, x, y, anchor, attributes)
	xml.EscapeText(&p.b, []byte(text)) // a strings.Builder takes everything
	p.b.WriteString("</text>\n")
}
