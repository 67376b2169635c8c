package router

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Neighbors says which MAC the neighbors of a router have: ARP (RFC 826) and Neighbor Discovery (RFC 4861 7), one state machine.
//
//	            frame to it              answer                  ReachableTime           use, then Retries probes
//	(nothing) --------------> incomplete --------> reachable ---------------> stale -----------------------+
//	                             |                     ^                        | ^                        |
//	                             | Retries             +----- answer -----------+ +-- other MAC heard      |
//	                             v                                              | unused for IdleTime      |
//	                           failed -- FailedTime --> (nothing) <-------------+--------------------------+
//
//	maps     (interface, address) -> MAC, state, frames that wait for it
//	writes   the slow path of any worker, in Resolve and Hear; control verbs; Tend, once a second
//	reads    the slow path of any worker. Cached flows lean on an entry's cell and touch it, without a lock
//	limits   MaxNeighbors in all; MaxPending of them unresolved, MaxPendingPort of these for frames of one port; MaxParked
//	         datagrams wait for each, MaxParkedBytes in all, MaxParkedPort of these from one port. An unresolved entry never takes a
//	         resolved one's place. In a full table one that failed makes room, else the interface that has most gives up one that was
//	         unused long
//	links    on a point-to-point interface all have its peer's MAC, and no entry
//	trust    an entry is made by a frame of ours to it alone, never by what somebody says unasked: requests are answered without.
//	         The router's own addresses are never in the table
//	memory   an entry's cell is its own and never used again: a stale reference to it is harmless
//	safety   one mutex, on the slow path only
type Neighbors struct {
	mu      sync.Mutex
	entries map[neighborKey]*neighbor
	pending map[packet.PortID]int // unresolved entries by the port that caused them
	unknown int                   // incomplete entries

	resolved map[uint32]int        // entries with a MAC by interface
	parked   int                   // bytes
	parkedOf map[packet.PortID]int // the same by the port that they came from
	orphans  []*packet.Frame       // of entries that were taken away: Tend returns them
}

// Limits and times of a neighbor table.
const (
	MaxNeighbors   = 8192
	MaxPending     = 4096
	MaxPendingPort = 512
	MaxParked      = 64      // datagrams, super-frames: the answers to as many connections that a container opens at once
	MaxParkedBytes = 4 << 20 // each frame counts for heldCost more
	MaxParkedPort  = 1 << 20 // likewise

	Retries       = 3                 // solicitations without an answer (RFC 4861 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT)
	RetryTime     = time.Second       // between them (RETRANS_TIMER)
	ReachableTime = 30 * time.Second  // since an answer (REACHABLE_TIME)
	IdleTime      = 300 * time.Second // unused
	FailedTime    = 3 * time.Second   // how long nobody asks again
)

// State of a neighbor.
type State uint8

// The states.
const (
	Incomplete State = iota
	Reachable
	Stale
	Probe // stale and in use: asked, not answered yet
	Failed
)

var states = [...]string{"incomplete", "reachable", "stale", "probe", "failed"}

// String returns the state's name, as iproute2 has it.
func (s State) String() string { return states[s] }

type neighborKey struct {
	ifID uint32
	addr netip.Addr
}

type neighbor struct {
	cell   flow.Cell
	iface  *Interface // as it was when the entry was made
	hop    *flow.Hop  // nil until resolved
	state  State
	since  int64 // when the state was entered; of Reachable the last answer
	asked  int64 // when the last solicitation went
	tries  int
	origin packet.PortID // that caused an incomplete one
	parked []*packet.Frame
	firsts []*packet.Frame // of these, the first one of each datagram
}

// newNeighbors makes an empty table.
func newNeighbors() *Neighbors {
	return &Neighbors{entries: map[neighborKey]*neighbor{}, pending: map[packet.PortID]int{}, resolved: map[uint32]int{}, parkedOf: map[packet.PortID]int{}}
}

// Answer is what Resolve found.
type Answer struct {
	State   State
	Hop     *flow.Hop  // the MACs that a frame to it gets; nil when it is not resolved
	Cell    *flow.Cell // to lean on, with Version; nil: nothing can change but the configuration
	Version uint64
	Ask     bool              // a solicitation is due now
	Drop    packet.DropReason // why the frame can't wait for it
}

// Resolve returns the MACs for frames to addr by interface i. When they are not known, a copy of f is kept, or Drop says why not;
// the caller sends a solicitation when Ask says so. The caller made sure that addr is no address of the router's.
func (t *Neighbors) Resolve(i *Interface, addr netip.Addr, f *packet.Frame, now int64) Answer {
	if i.hop != nil {
		return Answer{State: Reachable, Hop: i.hop}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := neighborKey{i.id, addr}
	n := t.current(key, now)
	if n != nil && n.hop != nil {
		n.cell.Touch(now)
		return Answer{State: n.state, Hop: n.hop, Cell: &n.cell, Version: n.cell.Version()}
	}
	if n != nil && n.state == Failed {
		return Answer{State: Failed, Drop: packet.DropNeighborFailed}
	}
	a := Answer{State: Incomplete}
	if n == nil {
		if n = t.enter(i, key, f.Key.InPort, now); n == nil {
			a.Drop = packet.DropNeighborQueue
			return a
		}
		a.Ask = true
	}
	joins := slices.ContainsFunc(n.firsts, f.SameDatagram)
	size := f.Len() + heldCost
	if !joins && len(n.firsts) >= MaxParked || t.parked+size > MaxParkedBytes || t.parkedOf[f.Key.InPort]+size > MaxParkedPort {
		a.Drop = packet.DropNeighborQueue
		return a
	}
	f = f.Clone()
	if !joins {
		n.firsts = append(n.firsts, f)
	}
	n.parked = append(n.parked, f)
	t.parked += size
	t.parkedOf[f.Key.InPort] += size
	return a
}

// release takes frames that wait no more off the count.
func (t *Neighbors) release(frames []*packet.Frame) {
	for _, f := range frames {
		size := f.Len() + heldCost
		t.parked -= size
		if t.parkedOf[f.Key.InPort] -= size; t.parkedOf[f.Key.InPort] == 0 {
			delete(t.parkedOf, f.Key.InPort)
		}
	}
}

// Want is Resolve for a next hop that no frame waits for: it tells whether a solicitation is due now. origin is the port whose frame
// could have used it.
func (t *Neighbors) Want(i *Interface, addr netip.Addr, origin packet.PortID, now int64) (ask bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := neighborKey{i.id, addr}
	n := t.current(key, now)
	return n == nil && t.enter(i, key, origin, now) != nil
}

// current returns the entry, or nil: one that failed so long ago that it may be asked again is removed.
func (t *Neighbors) current(key neighborKey, now int64) *neighbor {
	n := t.entries[key]
	if n != nil && n.state == Failed && now-n.since >= int64(FailedTime) {
		t.remove(key, n)
		return nil
	}
	return n
}

// enter notes a neighbor that is about to be asked for the first time, or returns nil where a limit forbids it.
func (t *Neighbors) enter(i *Interface, key neighborKey, origin packet.PortID, now int64) *neighbor {
	if t.unknown >= MaxPending || t.pending[origin] >= MaxPendingPort || !t.room() {
		return nil
	}
	n := &neighbor{iface: i, state: Incomplete, since: now, asked: now, tries: 1, origin: origin}
	t.entries[key] = n
	t.unknown++
	t.pending[origin]++
	return n
}

// Peek says what Resolve would answer, and changes nothing.
func (t *Neighbors) Peek(i *Interface, addr netip.Addr, now int64) Answer {
	if i.hop != nil {
		return Answer{State: Reachable, Hop: i.hop}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.entries[neighborKey{i.id, addr}]
	switch {
	case n == nil || n.state == Failed && now-n.since >= int64(FailedTime):
		return Answer{State: Incomplete, Ask: true}
	case n.hop != nil:
		return Answer{State: n.state, Hop: n.hop, Cell: &n.cell, Version: n.cell.Version()}
	case n.state == Failed:
		return Answer{State: Failed, Drop: packet.DropNeighborFailed}
	}
	return Answer{State: Incomplete}
}

// Saying is what an ARP packet or a message of Neighbor Discovery says about its sender.
type Saying struct {
	Addr     netip.Addr
	MAC      [6]byte
	Answer   bool // to a solicitation of ours
	Override bool // what was known before is to be replaced; ARP always means it
}

// Hear takes note of what a neighbor says of itself, when the table has an entry for it (RFC 826, RFC 4861 7.2.5), and returns the
// frames that waited for it.
func (t *Neighbors) Hear(i *Interface, s Saying, now int64) (waited []*packet.Frame) {
	if s.MAC[0]&1 != 0 || s.MAC == [6]byte{} || s.MAC == i.MAC {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := neighborKey{i.id, s.Addr}
	n := t.entries[key]
	if n == nil {
		return nil
	}
	same := n.hop != nil && n.hop.Dst == s.MAC
	if n.hop != nil && !same && !s.Override {
		if n.state == Reachable {
			n.state, n.since = Stale, now
		}
		return nil
	}
	waited = t.unpark(n)
	if n.hop == nil {
		t.resolved[key.ifID]++
	}
	if !same {
		n.cell.Invalidate()
		n.hop = &flow.Hop{Dst: s.MAC, Src: i.MAC}
	}
	n.iface = i
	switch {
	case s.Answer:
		n.state, n.since = Reachable, now
	case !same:
		n.state, n.since = Stale, now
	}
	if n.tries = 0; len(waited) > 0 {
		n.cell.Touch(now)
	}
	return waited
}

// unpark takes the frames that wait for the entry, which is not pending any more.
func (t *Neighbors) unpark(n *neighbor) []*packet.Frame {
	if n.state == Incomplete {
		t.unknown--
		if t.pending[n.origin]--; t.pending[n.origin] == 0 {
			delete(t.pending, n.origin)
		}
	}
	frames := n.parked
	n.parked, n.firsts = nil, nil
	t.release(frames)
	return frames
}
