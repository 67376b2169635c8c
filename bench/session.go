package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"vswitch/bench/cpu"
	"vswitch/bench/lab"
	"vswitch/bench/load"
)

// session runs generators over the peers of a lab.
type session struct {
	lab     *lab.Lab
	seconds float64 // length of a sample
	preset  string  // the machine's default congestion control
	port    uint16  // of the last sample; each has its own, so that no late packet reaches the next
	cores   []int   // that we may use
}

// values are what a sample measured, by the names of the case's metrics and a few more.
type values = map[string]float64

func newSession(l *lab.Lab, seconds float64) (*session, error) {
	preset, _, err := lab.CongestionControls()
	if err != nil {
		return nil, err
	}
	cores, err := load.Cores()
	return &session{lab: l, seconds: seconds, preset: preset, port: lab.FirstPort, cores: cores}, err
}

// meeting is where a server listens, and where its client goes, which differ when ports are published.
type meeting struct{ at, to netip.AddrPort }

// meet returns an unused port of the server of a peer.
func (s *session) meet(p *lab.Peer, v6 bool) meeting {
	if s.port++; s.port > lab.LastPort {
		s.port = lab.FirstPort
	}
	at, to := p.B4, p.To4
	if v6 {
		at, to = p.B6, p.To6
	}
	return meeting{netip.AddrPortFrom(at, s.port), netip.AddrPortFrom(to, s.port)}
}

// generate starts a generator in a namespace and waits until it is ready.
func (s *session) generate(ctx context.Context, namespace string, args ...string) (*lab.Child, error) {
	limit := fmt.Sprintf("--limit=%v", duration(s.seconds)+20*time.Second)
	argv := append([]string{s.lab.Bench, "load"}, args...)
	child, err := s.lab.Start(ctx, namespace, []string{load.Env}, append(argv, limit)...)
	if err != nil {
		return nil, err
	}
	line, err := child.Line()
	if err == nil && line != "ready" {
		err = fmt.Errorf("generator %s says %q, want ready", args[0], line)
	}
	if err != nil {
		child.Kill()
		return nil, err
	}
	return child, nil
}

// awaitReport waits for a generator's report.
func awaitReport(child *lab.Child, into any) error {
	line, err := child.Line()
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(line), into); err != nil {
		return fmt.Errorf("parse the report of a generator: %w", err)
	}
	return child.Wait()
}

// meter is a reading of the clocks.
type meter struct {
	machine cpu.Machine
	sw      time.Duration // of the process that switches
}

func read(p *lab.Peer) (meter, error) {
	var m meter
	var err error
	if p.Switch != nil {
		if m.sw, err = cpu.OfTree(p.Switch.PID()); err != nil {
			return m, fmt.Errorf("peer %s does not run: %w", p.Name, err)
		}
	}
	m.machine, err = cpu.ReadMachine()
	return m, err
}

// used is the CPU time between two readings.
type used struct {
	wall    float64 // seconds
	machine float64 // cores busy
	sw      float64 // cores busy with the process that switches
}

func between(from, to meter) used {
	wall := to.machine.At.Sub(from.machine.At).Seconds()
	return used{
		wall:    wall,
		machine: cpu.BusyCores(from.machine, to.machine),
		sw:      (to.sw - from.sw).Seconds() / wall,
	}
}

// put stores CPU use under the names that all cases share. A peer without a process has no CPU use of its own: what the
// kernel bridge takes is part of its senders' and receivers' time.
func (u used) put(v values, p *lab.Peer) {
	v["machine_cores"] = u.machine
	if p.Switch != nil {
		v["switch_cores"] = u.sw
	}
}

// perFrame stores what each of so many frames took of the CPU, in ns.
func (u used) perFrame(v values, p *lab.Peer, frames uint64) {
	v["machine"] = 1e9 * u.machine * u.wall / float64(frames)
	if p.Switch != nil {
		v["switch"] = 1e9 * u.sw * u.wall / float64(frames)
	}
}

// metered runs do between two readings.
func metered(p *lab.Peer, do func() error) (used, error) {
	from, err := read(p)
	if err != nil {
		return used{}, err
	}
	if err := do(); err != nil {
		return used{}, err
	}
	to, err := read(p)
	return between(from, to), err
}

// pause waits, but not longer than the context lives.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }
