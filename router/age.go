package router

import (
	"cmp"
	"net/netip"
	"slices"

	"vswitch/internal/packet"
)

// remove forgets an entry. Frames that wait for it are lost.
func (t *Neighbors) remove(key neighborKey, n *neighbor) {
	n.cell.Invalidate()
	delete(t.entries, key)
	if n.hop != nil {
		if t.resolved[key.ifID]--; t.resolved[key.ifID] == 0 {
			delete(t.resolved, key.ifID)
		}
	}
	t.orphans = append(t.orphans, t.unpark(n)...)
}

// How many entries a full table looks at to make room for one, and how many of them it chooses from: a flood of new neighbors, each of
// which answers, must not cost a walk of the table for each.
const (
	roomLooks  = 1024
	roomChoice = 32
)

// room makes room for one entry that is not resolved yet, and tells whether it could. Of some entries that could go, in the map's random
// order, it takes one that failed, or else the one that was unused longest.
func (t *Neighbors) room() bool {
	if len(t.entries) < MaxNeighbors {
		return true
	}
	most := t.busiest()
	var victim neighborKey
	var oldest *neighbor
	looks, choice := 0, 0
	for k, n := range t.entries {
		if looks++; n.state == Failed {
			victim, oldest = k, n
			break
		}
		if n.hop != nil && k.ifID == most {
			if choice++; oldest == nil || n.used() < oldest.used() {
				victim, oldest = k, n
			}
		}
		if oldest != nil && (choice >= roomChoice || looks >= roomLooks) {
			break
		}
	}
	if oldest == nil {
		return false
	}
	t.remove(victim, oldest)
	return true
}

// busiest returns the interface that has most resolved entries.
func (t *Neighbors) busiest() (most uint32) {
	for id, n := range t.resolved {
		if c := t.resolved[most]; n > c || n == c && id < most {
			most = id
		}
	}
	return most
}

// used is when the entry was last used, or entered its state.
func (n *neighbor) used() int64 { return max(n.cell.LastUsed(), n.since) }

// Solicit is a solicitation that is due: to MAC alone, or to everybody when it is zero.
type Solicit struct {
	If   *Interface
	Addr netip.Addr
	MAC  [6]byte
}

// Tend ages the entries and returns the solicitations that are due at now, and the frames that waited in vain.
func (t *Neighbors) Tend(now int64) (ask []Solicit, lost []*packet.Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys(func(_ neighborKey, n *neighbor) bool { return n.due() <= now }) {
		n := t.entries[key]
		switch {
		case n.state == Reachable:
			n.state, n.since = Stale, now
			continue
		case n.state == Failed || n.state == Stale && n.cell.LastUsed() < n.since:
			t.remove(key, n)
			continue
		case n.state == Stale:
			n.state, n.since, n.tries = Probe, now, 0
		case n.state == Probe && n.tries >= Retries: // it may have come back with another MAC: who needs it asks everybody
			t.remove(key, n)
			continue
		case n.tries >= Retries:
			lost = append(lost, t.unpark(n)...)
			n.state, n.since = Failed, now
			continue
		}
		n.tries++
		n.asked = now
		s := Solicit{If: n.iface, Addr: key.addr}
		if n.state == Probe {
			s.MAC = n.hop.Dst
		}
		ask = append(ask, s)
	}
	lost = append(lost, t.orphans...)
	t.orphans = nil
	return ask, lost
}

// keys returns those of the entries that match, always in the same order.
func (t *Neighbors) keys(match func(neighborKey, *neighbor) bool) (list []neighborKey) {
	for key, n := range t.entries {
		if match(key, n) {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, neighborKey.compare)
	return list
}

// due returns when something is to be done with the entry, if nothing happens before.
func (n *neighbor) due() int64 {
	switch n.state {
	case Reachable:
		return n.since + int64(ReachableTime)
	case Failed:
		return n.since + int64(FailedTime)
	case Stale:
		if n.cell.LastUsed() >= n.since {
			return n.since
		}
		return n.since + int64(IdleTime)
	}
	return n.asked + int64(RetryTime)
}

func (k neighborKey) compare(o neighborKey) int {
	return cmp.Or(cmp.Compare(k.ifID, o.ifID), k.addr.Compare(o.addr))
}

// retain forgets the interface's neighbors that are in none of its subnets, and all that lean on a MAC of its own that it has no
// more.
func (t *Neighbors) retain(i *Interface) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys(func(k neighborKey, _ *neighbor) bool { return k.ifID == i.id }) {
		n := t.entries[key]
		if !i.OnLink(key.addr) || i.Owns(key.addr) || n.hop != nil && n.hop.Src != i.MAC {
			t.remove(key, n)
		} else {
			n.iface = i
		}
	}
}

// Forget forgets the neighbors of the interface that have the MAC, and those at the addresses that failed: the port with these went, or is
// down or up again. Who sends to them asks anew, and flows that had the choice take another next hop at once.
func (t *Neighbors) Forget(i *Interface, mac [6]byte, addrs []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys(func(k neighborKey, n *neighbor) bool {
		return k.ifID == i.id && (n.hop != nil && n.hop.Dst == mac || n.state == Failed && slices.Contains(addrs, k.addr))
	}) {
		t.remove(key, t.entries[key])
	}
}

// Abandon gives back the frames of a port that wait: it leaves its network, where they were to go.
func (t *Neighbors) Abandon(port packet.PortID) (lost []*packet.Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := func(f *packet.Frame) bool { return f.Key.InPort == port }
	take := func(frames []*packet.Frame) []*packet.Frame {
		for _, f := range frames {
			if of(f) {
				lost = append(lost, f)
			}
		}
		return slices.DeleteFunc(frames, of)
	}
	t.orphans = take(t.orphans)
	if t.parked == 0 {
		return lost
	}
	orphans := len(lost)
	for _, n := range t.entries {
		n.parked, n.firsts = take(n.parked), slices.DeleteFunc(n.firsts, of)
	}
	t.release(lost[orphans:])
	return lost
}

// Neighbor is a row of the table.
type Neighbor struct {
	Interface string
	Addr      netip.Addr
	MAC       [6]byte // zero until resolved
	State     State
	Used      int64 // when last, nanoseconds
	Parked    int   // frames that wait
}

// List returns all entries, by interface and address.
func (t *Neighbors) List() []Neighbor {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Neighbor, 0, len(t.entries))
	for k, n := range t.entries {
		row := Neighbor{Interface: n.iface.Name, Addr: k.addr, State: n.state, Used: n.used(), Parked: len(n.parked)}
		if n.hop != nil {
			row.MAC = n.hop.Dst
		}
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b Neighbor) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Addr.Compare(b.Addr))
	})
	return list
}

// Flush forgets the entries of the interface of that name, or all when it is empty, and returns how many.
func (t *Neighbors) Flush(name string) (count int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys(func(_ neighborKey, n *neighbor) bool { return name == "" || n.iface.Name == name }) {
		t.remove(key, t.entries[key])
		count++
	}
	return count
}
