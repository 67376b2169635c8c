package l2switch

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// PortConf is what a bridge knows of one of its ports.
type PortConf struct {
	ID       packet.PortID
	Name     string
	Member   Membership
	Isolated bool // exchanges nothing with the network's other isolated ports
	MTU      int  // bytes at L3
	MACLimit int  // MACs learned on it; 0 is the network's limit per port
	Blocked  bool // carries nothing, since frames loop over it. Not for SetPort, which leaves it as it is

	Guard *Guard      // what its frames are held against; nil: nothing
	Storm flow.Meters // which its floods pass; of this port alone
}

// Bridge is one network as a learning switch: its configuration and its FDB.
//
//	maps     PortID -> PortConf; (VLAN, MAC) -> port by its FDB
//	writes   control verbs, one at a time
//	reads    the slow path of any worker, through Snapshot
//	limits   as many ports as there are; MACs see FDB
//	safety   each change publishes a new immutable Snapshot and only then raises the generation. Who reads the generation
//	         before the snapshot thus never keeps an old decision under the new generation
type Bridge struct {
	fdb   *FDB
	loops *Loops
	gen   flow.Generation
	cell  flow.Cell // invalidated with each change: for decisions about frames that come from another network
	snap  atomic.Pointer[Snapshot]
	mu    sync.Mutex // held by writers
}

// Snapshot is a bridge's configuration at one moment. It never changes.
type Snapshot struct {
	ids    []packet.PortID // ascending: searched apart from ports, since it fits a few cache lines
	ports  []*PortConf     // in the order of ids
	floods floods
}

// NewBridge makes a bridge without ports. Zero limits are the defaults.
func NewBridge(limits Limits) *Bridge {
	b := &Bridge{fdb: NewFDB(limits), loops: newLoops()}
	b.snap.Store(&Snapshot{})
	return b
}

// FDB returns the bridge's table of MAC addresses.
func (b *Bridge) FDB() *FDB { return b.fdb }

// Loops returns the bridge's search for loops.
func (b *Bridge) Loops() *Loops { return b.loops }

// Gen returns the generation of the configuration: load it before Snapshot.
func (b *Bridge) Gen() *flow.Generation { return &b.gen }

// Config returns what decisions of other networks lean on, that send frames out by this one: load its version before Snapshot.
func (b *Bridge) Config() *flow.Cell { return &b.cell }

// Renew raises the generation: something else has changed that the network's decisions lean on.
func (b *Bridge) Renew() {
	b.gen.Bump()
	b.cell.Invalidate()
}

// Snapshot returns the current configuration.
func (b *Bridge) Snapshot() *Snapshot { return b.snap.Load() }

// SetPort adds a port or replaces what is known of it. MACs learned on it in VLANs that it no longer carries are forgotten.
func (b *Bridge) SetPort(c PortConf) { b.SetPorts([]PortConf{c}) }

// SetPorts is SetPort for many ports in one change. When a port is named twice, the last one holds.
func (b *Bridge) SetPorts(confs []PortConf) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.Snapshot()
	ports := make([]*PortConf, len(s.ports), len(s.ports)+len(confs))
	copy(ports, s.ports)
	for _, c := range confs {
		b.fdb.SetPort(c.ID, c.MACLimit) // before a frame of the port can come
		b.loops.join(c.ID)
		i, found := slices.BinarySearchFunc(ports, c.ID, func(p *PortConf, id packet.PortID) int { return cmp.Compare(p.ID, id) })
		c.Blocked = false
		if found {
			c.Blocked = ports[i].Blocked
		} else {
			ports = slices.Insert(ports, i, nil)
		}
		ports[i] = &c
	}
	b.publish(ports)
	for _, c := range confs {
		b.fdb.forgetVLANs(c.ID, &c.Member)
	}
}

// RemovePort forgets a port and its FDB entries, static ones too. A worker that still decides by an older snapshot cannot
// bring them back.
func (b *Bridge) RemovePort(id packet.PortID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.Snapshot()
	if i, ok := slices.BinarySearch(s.ids, id); ok {
		b.publish(slices.Delete(slices.Clone(s.ports), i, i+1))
	}
	b.fdb.ForgetPort(id)
	b.loops.leave(id)
}

// publish makes ports, ascending by id, the configuration. Callers hold mu.
func (b *Bridge) publish(ports []*PortConf) {
	s := &Snapshot{ids: make([]packet.PortID, len(ports)), ports: ports}
	for i, c := range ports {
		s.ids[i] = c.ID
	}
	b.snap.Store(s)
	b.Renew()
}

// Port returns what is known of a port, or nil when it is not one of the bridge's. The caller doesn't change it.
func (s *Snapshot) Port(id packet.PortID) *PortConf {
	if i, ok := slices.BinarySearch(s.ids, id); ok {
		return s.ports[i]
	}
	return nil
}

// Ports returns all ports, ascending by id. The caller doesn't change them.
func (s *Snapshot) Ports() []*PortConf { return s.ports }

// Isolated tells whether frames from in to out are forbidden because both are isolated.
func (s *Snapshot) Isolated(in, out packet.PortID) bool {
	a, b := s.Port(in), s.Port(out)
	return a != nil && b != nil && a.Isolated && b.Isolated
}
