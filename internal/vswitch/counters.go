package vswitch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// counted are the counters of one port.
type counted struct {
	name, network string
	state         datapath.PortState
	datapath.Counters
}

// counters returns those of all ports, with what the kernel dropped, and the sum of the ports that are no more.
func (s *Switch) counters() (ports []counted, deleted counted) {
	s.mu.RLock()
	deleted = counted{name: api.DeletedPorts, Counters: s.past}
	s.mu.RUnlock()
	all := s.path.PortCounters()
	for _, e := range s.endpoints() {
		c := counted{name: e.port.Name, network: e.port.Network, state: s.path.PortState(e.id), Counters: all[e.id]}
		s.addKernelDrops(&e, &c.Counters)
		ports = append(ports, c)
	}
	s.mu.RLock()
	legs := slices.SortedFunc(maps.Values(s.legs), func(a, b *leg) int { return strings.Compare(a.name, b.name) })
	s.mu.RUnlock()
	for _, l := range legs {
		c := counted{name: l.name, state: s.path.PortState(l.id), Counters: all[l.id]}
		s.addKernelDrops(&l.end, &c.Counters)
		ports = append(ports, c)
	}
	return ports, deleted
}

// Stats returns the counters of ports and workers.
func (s *Switch) Stats(context.Context) (api.Stats, error) {
	counters, deleted := s.counters()
	st := api.Stats{Ports: []api.PortStats{}, Deleted: deleted.stats(), Workers: []api.WorkerStats{}}
	for _, c := range counters {
		st.Ports = append(st.Ports, c.stats())
	}
	for _, c := range s.path.WorkerCounters() {
		st.Workers = append(st.Workers, workerStats(c))
	}
	st.Networks = s.networkStats()
	for _, r := range s.allRouters() {
		sent, held := r.Errors().Counts()
		st.Routers = append(st.Routers, api.RouterStats{Router: r.Name(), ErrorsSent: sent, ErrorsHeld: held})
	}
	st.Fragments.Datagrams, st.Fragments.Bytes = s.line.Fragments()
	c := s.conns.Counters()
	st.Connections = api.ConnectionStats{
		Connections: s.conns.Len(), Bytes: s.conns.Memory(), Opened: c.Opened, Expired: c.Expired, Evicted: c.Evicted, Refused: c.Refused,
		NoPort: c.NoPort, Shared: c.Shared, Replaced: c.Replaced,
	}
	return st, nil
}

// networkStats returns what the MAC tables did, by network.
func (s *Switch) networkStats() []api.NetworkStats {
	nets, _ := s.chosen("") // all: no error
	out := make([]api.NetworkStats, 0, len(nets))
	if s.ruled() {
		s.path.Settle()
	}
	for _, n := range nets {
		fdb := n.line.Bridge.FDB()
		c := fdb.Counters()
		st := api.NetworkStats{
			Network: n.line.Name, MACs: fdb.Len(), Learned: c.Learned, Moved: c.Moved, Expired: c.Expired, EvictedPort: c.EvictedPort,
			EvictedTable: c.EvictedTable, RefusedStatic: c.RefusedStatic, Damped: c.Damped, Held: c.Held,
		}
		for _, r := range n.filter.Snapshot().Stats() {
			st.Rules++
			*map[string]*uint64{"allow": &st.RuleAllowed, "deny": &st.RuleDenied, "reject": &st.RuleRejected}[r.Rule.Action] += r.Hits
		}
		out = append(out, st)
	}
	return out
}

func (c *counted) stats() api.PortStats {
	p := api.PortStats{
		Port: c.name, Network: c.network, Worker: c.state.Worker, Slow: c.state.Slow, Moved: c.state.Moves,
		RxPackets: c.RxPackets, RxBytes: c.RxBytes, RxFrames: c.RxFrames,
		TxPackets: c.TxPackets, TxBytes: c.TxBytes, TxFrames: c.TxFrames, Drops: map[string]uint64{},
		KernelRxDropped: c.Drops[packet.DropKernelRx], KernelTxDropped: c.Drops[packet.DropKernelTx],
	}
	for r, n := range c.Drops {
		if n != 0 {
			p.Drops[packet.DropReason(r).String()] = n
		}
	}
	return p
}

func workerStats(c datapath.WorkerCounters) api.WorkerStats {
	return api.WorkerStats{
		Worker: c.ID, Ports: c.Ports, Quarantine: c.Quarantine, Turns: c.Turns, Sleeps: c.Sleeps, SpinWins: c.SpinWins,
		FlowHits: c.FlowHits, FlowMisses: c.FlowMisses, FlowInvalid: c.FlowInvalid, FlowEntries: c.Flows, Coalesced: c.Coalesced,
	}
}

// Drops lists what was dropped, by port and reason, most first.
func (s *Switch) Drops(context.Context) ([]api.Drop, error) {
	counters, deleted := s.counters()
	out := []api.Drop{}
	for _, c := range append(counters, deleted) {
		for r, n := range c.Drops {
			if n != 0 {
				reason := packet.DropReason(r)
				out = append(out, api.Drop{Port: c.name, Reason: reason.String(), Packets: n, Sentence: reason.Sentence()})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b api.Drop) int { return cmp.Compare(b.Packets, a.Packets) })
	return out, nil
}

// addKernelDrops adds what the kernel dropped on its side: frames that we did not read in time, and frames that it took from us.
// The kernel counts a super-frame once. A TAP whose namespace died meanwhile has no counters any more.
func (s *Switch) addKernelDrops(e *endpoint, c *datapath.Counters) {
	if e.dev == nil {
		return
	}
	d := e.dev
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return
	}
	rx, tx, err := s.watchedDrops(e)
	if err != nil {
		rx, tx = s.deviceDrops(d)
	}
	refused := d.before // writes that failed are counted already
	if p, ok := d.port.(port.Counters); ok {
		if inQueue, counted, err := p.KernelDrops(); err == nil {
			rx, refused = rx+inQueue, refused+counted
		}
	}
	c.Drops[packet.DropKernelRx] += rx
	c.Drops[packet.DropKernelTx] += tx - min(tx, refused)
}

// watchedDrops is deviceDrops of a port whose interface is watched, at a fraction of the cost.
func (s *Switch) watchedDrops(e *endpoint) (rx, tx uint64, err error) {
	switch e.dev.kind {
	case "": // what its interface drops may be the host's
		return 0, 0, nil
	case api.PortVeth:
		return s.watcher.KernelDrops(s.private.ID(), e.dev.index)
	}
	tx, rx, err = s.watcher.KernelDrops(e.ns, e.index) // the device transmits to us
	return rx, tx, err
}

// deviceDrops returns the counters of the port's device, rx being on the way to us. Of a veth pair it is our end, which counts
// what it could not hand to the other one.
func (s *Switch) deviceDrops(d *device) (rx, tx uint64) {
	if d.kind == api.PortVeth {
		rx, tx, _ = link.KernelDrops(s.private, d.index)
		return rx, tx
	}
	ns, st, err := link.WhereIs(d.fd)
	if err != nil {
		return 0, 0
	}
	defer ns.Close()
	tx, rx, _ = link.KernelDrops(ns, st.Index) // the device transmits to us
	return rx, tx
}

// bequeath adds the counters of a port that is being removed to those of all that are no more: rates and sums stay right.
func (s *Switch) bequeath(c *datapath.Counters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past.Add(c)
}
