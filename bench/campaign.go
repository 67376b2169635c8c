package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"vswitch/bench/cpu"
	"vswitch/bench/lab"
	"vswitch/bench/report"
	"vswitch/bench/result"
)

// campaign measures cases over peers, round after round.
type campaign struct {
	*session
	o        *options
	cases    []benchCase
	peers    []*lab.Peer
	run      *result.Run
	progress io.Writer
	spare    float64 // seconds left for samples that are taken again
}

// measure is the whole of a run: build the peers, measure, take everything down, report.
func measure(ctx context.Context, o *options) error {
	run, err := campaignOf(ctx, o)
	if run == nil {
		return err
	}
	return errors.Join(err, publish(run, o))
}

// campaignOf measures what the options choose. The run is nil when it could not begin.
func campaignOf(ctx context.Context, o *options) (*result.Run, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	cases, err := o.chooseCases()
	if err != nil {
		return nil, err
	}
	kinds, notes, err := o.choosePeers()
	if err != nil {
		return nil, err
	}
	return campaignOver(ctx, o, cases, kinds, notes, os.Stderr)
}

// publish writes the reports that were asked for.
func publish(run *result.Run, o *options) error {
	if err := report.Text(os.Stdout, run); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	for _, out := range []struct {
		path  string
		write func(io.Writer, *result.Run) error
	}{{o.json, report.JSON}, {o.svg, report.SVG}, {o.markdown, report.Markdown}} {
		if out.path == "" {
			continue
		}
		var text strings.Builder
		if err := out.write(&text, run); err != nil {
			return fmt.Errorf("report to %s: %w", out.path, err)
		}
		if err := os.WriteFile(out.path, []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("report to %s: %w", out.path, err)
		}
	}
	if failed := run.Failed(); failed > 0 {
		return fmt.Errorf("%d of %d samples failed", failed, len(run.Samples))
	}
	return nil
}

// campaignOver measures cases on kinds of peers in a lab of its own. A run that was interrupted is returned with the error.
func campaignOver(ctx context.Context, o *options, cases []benchCase, kinds []lab.Kind, notes []string, progress io.Writer) (run *result.Run, err error) {
	l, err := lab.Open(ctx, o.programs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := newSession(l, o.seconds)
	if err != nil {
		return nil, err
	}
	c := &campaign{session: s, o: o, progress: progress}
	c.run = &result.Run{
		Format: result.Format, Command: os.Args, Started: time.Now().UTC(),
		Rounds: o.rounds, Seconds: o.seconds, Threshold: o.foreign, Notes: notes,
	}
	if c.run.Machine, err = describeMachine(ctx); err != nil {
		return nil, err
	}
	c.admit(cases)
	if err := c.build(ctx, kinds); err != nil {
		return nil, err
	}
	err = c.rounds(ctx)
	c.run.Cut = err != nil
	c.run.Finished = time.Now().UTC()
	c.run.Condense()
	return c.run, err
}

// admit leaves out the cases that this machine cannot run, with a note for each.
func (c *campaign) admit(cases []benchCase) {
	cubic := error(nil)
	if slices.ContainsFunc(cases, func(b benchCase) bool { return b.cubic }) {
		if c.preset == "cubic" {
			cubic = errors.New("the machine's default is cubic already")
		} else {
			cubic = c.lab.AllowCongestion("cubic")
		}
	}
	for _, b := range cases {
		switch {
		case b.cubic && cubic != nil:
			c.note("skipped case %s: %v", b.Name, cubic)
		case b.cores > len(c.cores):
			c.note("skipped case %s: it needs %d cores", b.Name, b.cores)
		default:
			c.cases = append(c.cases, b)
			c.run.Cases = append(c.run.Cases, b.Case)
		}
	}
}

func (c *campaign) note(format string, args ...any) {
	c.run.Notes = append(c.run.Notes, fmt.Sprintf(format, args...))
}

// build makes the peers and lets a first transaction over IPv4 and IPv6 find its way through each.
func (c *campaign) build(ctx context.Context, kinds []lab.Kind) error {
	for i, kind := range kinds {
		p, err := c.lab.Build(ctx, kind, i)
		if err != nil {
			return err
		}
		for _, v6 := range []bool{false, true} {
			if v6 && kind.V4Only {
				continue
			}
			warm := &session{lab: c.lab, seconds: 0.05, preset: c.preset, port: c.port, cores: c.cores}
			if _, err := warm.exchange(ctx, p, exchange{v6: v6}); err != nil {
				return fmt.Errorf("peer %s carries no traffic (IPv6: %v): %w", kind.Name, v6, err)
			}
			c.port = warm.port
		}
		c.peers = append(c.peers, p)
		c.run.Peers = append(c.run.Peers, result.Peer{Name: p.Name, About: p.About, Version: p.Version, Args: p.Args})
	}
	return nil
}

// runs reports whether a case makes sense on a peer.
func (b *benchCase) runs(p *lab.Peer) bool {
	return (!b.switches || p.Switch != nil) && (!b.attaches || p.Attaches()) && (!b.many || p.Many) &&
		(!b.v6 || !p.V4Only) && (!b.udp || !p.TCPOnly)
}

// estimate returns how many samples a run takes and for how long, in seconds.
func (c *campaign) estimate() (samples int, length float64) {
	const overhead = 0.1 // reading clocks and the process table, changing the congestion control
	for i := range c.cases {
		for _, p := range c.peers {
			if c.cases[i].runs(p) {
				samples += c.o.rounds
				length += float64(c.o.rounds) * (c.cases[i].cost(c.seconds) + overhead)
			}
		}
	}
	return samples, length
}

// rounds measures. Its time is bounded: what is spent on samples taken again may add half of the estimate.
func (c *campaign) rounds(ctx context.Context) error {
	samples, length := c.estimate()
	if samples == 0 {
		return errors.New("nothing to measure: no case runs on these peers")
	}
	c.spare = length / 2
	most := duration(1.6*length + 30)
	for _, note := range c.run.Notes {
		fmt.Fprintln(c.progress, note)
	}
	fmt.Fprintf(c.progress, "%d cases, %d peers, %d rounds: %d samples, about %v, at most %v\n",
		len(c.cases), len(c.peers), c.o.rounds, samples, duration(length).Round(time.Second), most.Round(time.Second))
	bounded, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("the run was cut off after %v", most))
	defer cancel()
	for round := range c.o.rounds {
		peers := order(c.peers, round)
		for i := range c.cases {
			fmt.Fprintf(c.progress, "round %d/%d %s:", round+1, c.o.rounds, c.cases[i].Name)
			for _, p := range peers {
				if !c.cases[i].runs(p) {
					continue
				}
				s := c.sample(bounded, round, &c.cases[i], p)
				if err := context.Cause(bounded); err != nil {
					fmt.Fprintln(c.progress)
					return err
				}
				fmt.Fprintf(c.progress, "  %s %s", p.Name, brief(&c.cases[i], s))
			}
			fmt.Fprintln(c.progress)
		}
	}
	return nil
}

// order changes the peers' order from round to round: turned every second one, and rotated, so that nobody always follows
// the same neighbour.
func order(peers []*lab.Peer, round int) []*lab.Peer {
	n := len(peers)
	ordered := make([]*lab.Peer, 0, n)
	for i := range n {
		ordered = append(ordered, peers[(i+round/2)%n])
	}
	if round%2 == 1 {
		slices.Reverse(ordered)
	}
	return ordered
}

// sample measures a case on a peer, again if others used the machine meanwhile, and keeps the quietest attempt. It returns
// the sample that counts.
func (c *campaign) sample(ctx context.Context, round int, b *benchCase, p *lab.Peer) *result.Sample {
	first := len(c.run.Samples)
	for attempt := 0; ; attempt++ {
		start := time.Now()
		if attempt > 0 {
			c.awaitQuiet(ctx)
		}
		s := c.attempt(ctx, b, p)
		s.Round, s.Attempt = round, attempt
		c.run.Samples = append(c.run.Samples, s)
		if ctx.Err() != nil {
			c.run.Samples = c.run.Samples[:first] // cut off half-way: no sample
			return nil
		}
		if attempt > 0 {
			c.spare -= time.Since(start).Seconds()
		}
		again := s.Noisy && attempt < c.o.retries || s.Error != "" && attempt == 0
		if !again || c.spare <= 0 {
			break
		}
	}
	attempts := c.run.Samples[first:]
	best := 0
	for i := range attempts {
		if quieter(&attempts[i], &attempts[best]) {
			best = i
		}
	}
	for i := range attempts {
		attempts[i].Retired = i != best
	}
	return &attempts[best]
}

// quieter reports whether a is the better attempt of the two.
func quieter(a, b *result.Sample) bool {
	if failed := a.Error != ""; failed != (b.Error != "") {
		return !failed
	}
	return cmp.Less(a.Foreign, b.Foreign)
}

// attempt measures once.
func (c *campaign) attempt(ctx context.Context, b *benchCase, p *lab.Peer) result.Sample {
	s := result.Sample{Case: b.Name, Peer: p.Name, At: time.Since(c.run.Started).Seconds()}
	limited, cancel := context.WithTimeoutCause(ctx, duration(3*b.cost(c.seconds)+20), errors.New("the sample took too long"))
	defer cancel()
	before, err := observe()
	if err == nil {
		s.Values, err = b.run(c.session, limited, p)
		// Also of a sample that failed: foreign load may be the reason.
		if after, late := observe(); late == nil {
			s.Foreign = cpu.ForeignShare(before.others, after.others, before.machine.Cores)
			s.Steal = cpu.StealShare(before.machine, after.machine)
			s.Noisy = s.Foreign > c.o.foreign
		}
	}
	if err != nil {
		if cause := context.Cause(limited); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		s.Values, s.Error = nil, err.Error()
	}
	return s
}

// observation is a reading of what others use.
type observation struct {
	others  cpu.Foreign
	machine cpu.Machine
}

func observe() (o observation, err error) {
	if o.others, err = cpu.ReadForeign(os.Getpid()); err != nil {
		return o, err
	}
	o.machine, err = cpu.ReadMachine()
	return o, err
}

// awaitQuiet waits, for a few seconds at most, until others leave the machine alone: a compiler that spoiled one attempt
// would spoil the next one as well.
func (c *campaign) awaitQuiet(ctx context.Context) {
	const look, most = 250 * time.Millisecond, 4 * time.Second
	for start := time.Now(); time.Since(start) < most; {
		before, err := observe()
		if err != nil || pause(ctx, look) != nil {
			return
		}
		after, err := observe()
		if err != nil || cpu.ForeignShare(before.others, after.others, before.machine.Cores) <= c.o.foreign {
			return
		}
	}
}

// brief is a sample in a word.
func brief(b *benchCase, s *result.Sample) string {
	if s.Error != "" {
		return "failed (" + s.Error + ")"
	}
	mark := ""
	if s.Noisy {
		mark = "~"
	}
	for _, metric := range b.Metrics {
		if value, ok := s.Values[metric.Name]; ok {
			return report.Number(value) + mark
		}
	}
	return "-"
}
