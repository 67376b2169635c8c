package vswitch

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/flow"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/internal/port"
)

// Flows lists the cached decisions, those of one port or all.
func (s *Switch) Flows(_ context.Context, portName string) ([]api.Flow, error) {
	var only packet.PortID
	if portName != "" {
		e, err := s.endpoint(portName)
		if err != nil {
			return nil, err
		}
		only = e.id
	}
	now := s.path.Now()
	all := s.path.Flows(func(f *flow.Flow) bool { return (only == 0 || f.Key.InPort == only) && f.Valid() })
	name := s.nameOf()
	out := []api.Flow{}
	for worker, flows := range all {
		for i := range flows {
			f := &flows[i]
			out = append(out, api.Flow{
				Worker: worker, InPort: name(f.Key.InPort), Match: pipeline.MatchText(&f.Key, name),
				Actions: pipeline.ActionsText(&f.Verdict, name), Packets: f.Packets, Bytes: f.Bytes,
				Idle: int(time.Duration(now - f.LastUsed).Seconds()),
			})
		}
	}
	slices.SortFunc(out, func(a, b api.Flow) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), strings.Compare(a.Match, b.Match))
	})
	return out, nil
}

// FlushFlows forgets all cached decisions and returns how many there were.
func (s *Switch) FlushFlows(context.Context) (int, error) { return s.path.FlushFlows(), nil }

// nameOf returns a function that names ports.
func (s *Switch) nameOf() func(packet.PortID) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make(map[packet.PortID]string, len(s.byID))
	for id, e := range s.byID {
		names[id] = e.port.Name
	}
	return func(id packet.PortID) string {
		if n, ok := names[id]; ok {
			return n
		}
		return fmt.Sprintf("port%d", id.Slot())
	}
}

// Stats returns the counters of ports and workers.
func (s *Switch) Stats(context.Context) (api.Stats, error) {
	counters := s.path.PortCounters()
	st := api.Stats{Ports: []api.PortStats{}, Workers: []api.WorkerStats{}}
	for _, e := range s.endpoints() {
		c := counters[e.id]
		p := api.PortStats{
			Port: e.port.Name, Network: e.port.Network,
			RxPackets: c.RxPackets, RxBytes: c.RxBytes, RxFrames: c.RxFrames,
			TxPackets: c.TxPackets, TxBytes: c.TxBytes, TxFrames: c.TxFrames, Drops: map[string]uint64{},
		}
		for r, n := range c.Drops {
			if n != 0 {
				p.Drops[packet.DropReason(r).String()] = n
			}
		}
		p.KernelRxDropped, p.KernelTxDropped = s.kernelDrops(&e)
		st.Ports = append(st.Ports, p)
	}
	ports := make([]int, s.path.Workers())
	for _, e := range s.endpoints() {
		if w := s.path.WorkerOf(e.id); w >= 0 {
			ports[w]++
		}
	}
	for i, c := range s.path.WorkerCounters() {
		st.Workers = append(st.Workers, workerStats(i, ports[i], c))
	}
	return st, nil
}

func workerStats(i, ports int, c datapath.WorkerCounters) api.WorkerStats {
	return api.WorkerStats{
		Worker: i, Ports: ports, Turns: c.Turns, Sleeps: c.Sleeps, SpinWins: c.SpinWins,
		FlowHits: c.FlowHits, FlowMisses: c.FlowMisses, FlowInvalid: c.FlowInvalid, FlowEntries: c.Flows, Coalesced: c.Coalesced,
	}
}

// kernelDrops returns what the kernel dropped on its side: frames that we did not read in time, and frames we wrote. A TAP
// whose namespace died meanwhile has none.
func (s *Switch) kernelDrops(e *endpoint) (rx, tx uint64) {
	d := e.dev
	if d == nil {
		return 0, 0
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return 0, 0
	}
	if c, ok := d.port.(port.Counters); ok {
		rx, tx, _ = c.KernelDrops()
		return rx, tx
	}
	ns, st, err := link.WhereIs(d.fd)
	if err != nil {
		return 0, 0
	}
	defer ns.Close()
	// The device's tx is our rx.
	tx, rx, _ = link.KernelDrops(ns, st.Index)
	return rx, tx
}

// Drops lists what was dropped, by port and reason, most first.
func (s *Switch) Drops(context.Context) ([]api.Drop, error) {
	counters := s.path.PortCounters()
	out := []api.Drop{}
	for _, e := range s.endpoints() {
		c := counters[e.id]
		for r, n := range c.Drops {
			if n != 0 {
				reason := packet.DropReason(r)
				out = append(out, api.Drop{Port: e.port.Name, Reason: reason.String(), Packets: n, Sentence: reason.Sentence()})
			}
		}
		if rx, tx := s.kernelDrops(&e); rx+tx > 0 {
			if rx > 0 {
				out = append(out, api.Drop{Port: e.port.Name, Reason: "kernel_rx_dropped", Packets: rx,
					Sentence: "the queue between container and switch was full (see --txqueuelen)"})
			}
			if tx > 0 {
				out = append(out, api.Drop{Port: e.port.Name, Reason: "kernel_tx_dropped", Packets: tx,
					Sentence: "the container's interface dropped what the switch wrote"})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b api.Drop) int { return cmp.Compare(b.Packets, a.Packets) })
	return out, nil
}

// Show returns everything at a glance.
func (s *Switch) Show(ctx context.Context) (api.Show, error) {
	var sh api.Show
	var err error
	if sh.Daemon, err = s.Daemon(ctx); err != nil {
		return sh, err
	}
	if sh.Networks, err = s.Networks(ctx); err != nil {
		return sh, err
	}
	sh.Ports, err = s.Ports(ctx)
	return sh, err
}

// Daemon describes the daemon and the kernel features in use.
func (s *Switch) Daemon(context.Context) (api.Daemon, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return api.Daemon{}, fmt.Errorf("uname: %w", err)
	}
	on := func(b bool) string { return map[bool]string{true: "on", false: "off"}[b] }
	spin := "off"
	if s.cfg.MaxSpin >= 0 {
		spin = s.cfg.MaxSpin.String()
	}
	return api.Daemon{
		Version: Version, APIVersion: api.Version, Go: runtime.Version(), Kernel: unix.ByteSliceToString(u.Release[:]),
		PID: os.Getpid(), Started: s.started, StateDir: s.cfg.StateDir, Workers: s.path.Workers(), FDStore: s.fds.Kind(),
		Features: s.features(),
		Options:  map[string]string{"flow-cache": on(!s.cfg.NoCache), "coalesce": on(!s.cfg.NoCoalesce), "spin": spin, "keep-awake": on(s.cfg.KeepAwake)},
	}, nil
}

// features says which rung of what the kernel may or may not have is in use, as far as a port has tried it.
func (s *Switch) features() map[string]string {
	f := make(map[string]string)
	for _, e := range s.endpoints() {
		if e.dev == nil {
			continue
		}
		f[e.dev.kind+"-offloads"] = offloadText(e.dev.offload)
		if e.dev.drop != "" {
			f["veth-drop"] = e.dev.drop
		}
	}
	return f
}

func macString(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
