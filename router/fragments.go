package router

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Fragments knows the datagrams that come in fragments, so that all of these are treated as the first one, which alone has the
// ports (RFC 4787 REQ-14): virtual reassembly. Nothing is put together: a fragment goes on as soon as the ports are known, and of SCTP
// also where the last one ends: how its CRC32c changes with the ports depends on the length.
//
//	maps     (ingress port, VLAN, source, destination, identification; IPv4: protocol) -> ports; which parts have come; fragments that
//	         came before the first one, and wait for it; of SCTP the first one too, which waits for the last one
//	writes   the slow path of any worker, in Place; Tend, once a second
//	limits   MaxDatagrams, MaxFragments of each, MaxHeldBytes wait in all. Beyond them the oldest datagram makes room, of the port that
//	         has most: a flood ends what it began itself
//	ageing   FragmentTime after its first fragment came a datagram is forgotten, and at once when it is complete
//	trust    a datagram whose fragments overlap, or disagree about its end, is dead: what comes of it yet dies too (RFC 5722 4,
//	         RFC 8200 4.5). Fragments that came before are gone on, but the receiver never gets all. Only the same place
//	         twice is taken for what happens on networks: the second one is dropped. Ports can't disturb each other's
//	safety   one mutex, on the slow path only
type Fragments struct {
	mu    sync.Mutex
	all   map[fragmentKey]*datagram        // guarded by mu
	ports map[packet.PortID]*fragmentsFrom // guarded by mu; those with datagrams
	bytes int                              // guarded by mu
}

// Limits and times of fragments.
const (
	MaxDatagrams = 1024
	MaxFragments = 128     // of a datagram: one of 64 KiB at an MTU of 576 has 119
	MaxHeldBytes = 4 << 20 // each frame counts for heldCost more
	FragmentTime = 15 * time.Second

	heldCost = 512
)

type fragmentKey struct {
	src, dst  [16]byte
	id        uint32
	in        packet.PortID
	etherType uint16
	vlan      uint16
	proto     uint8 // of IPv4
}

// fragmentsFrom lists the datagrams that come by one port, the oldest first.
type fragmentsFrom struct {
	list  list.List // of *datagram
	bytes int
}

// NewFragments makes an empty table.
func NewFragments() *Fragments {
	return &Fragments{all: map[fragmentKey]*datagram{}, ports: map[packet.PortID]*fragmentsFrom{}}
}

// Placed is what becomes of a fragment: it goes on, with its ports in its Key, or else Drop or Held says otherwise.
type Placed struct {
	Drop packet.DropReason
	Held bool         // a copy of it waits for others, or is the last of Made
	Made []*flow.Made // fragments that waited: they go on now, or are lost
}

// Place finds a fragment's datagram. The frame has FlagFragment.
func (t *Fragments) Place(f *packet.Frame, now int64) (p Placed) {
	at, drop := f.Fragment()
	key := keyOf(f, at.ID)
	var ports packet.Ports
	if drop == packet.DropNone && at.Start == 0 {
		ports, drop = f.Ports()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.all[key]
	if d != nil && now-d.since >= int64(FragmentTime) {
		p.lose(t.forget(d), packet.DropFragLate)
		d = nil
	}
	if d == nil {
		d = t.enter(key, now, &p)
	}
	switch {
	case d.dead != packet.DropNone:
		p.Drop = d.dead
		return p
	case drop == packet.DropNone:
		drop = d.take(at)
	}
	switch drop {
	case packet.DropNone:
	case packet.DropFragDuplicate:
		p.Drop = drop
		return p
	default:
		t.kill(d, drop, &p)
		return p
	}
	if at.Start == 0 {
		d.known, d.ports = true, ports
	}
	d.measure()
	if !d.ready() || at.Start != 0 && len(d.held) > 0 { // the one that the first one waited for goes behind it
		t.hold(d, at.Start == 0, f, &p)
	}
	if !d.ready() || p.Drop != packet.DropNone {
		return p
	}
	f.SetPorts(d.ports)
	for _, f := range t.release(d) {
		f.SetPorts(d.ports)
		p.Made = append(p.Made, &flow.Made{Frame: f})
	}
	if d.got == d.end {
		t.forget(d)
	}
	return p
}

// measure notes how long the transport's packet is, once that is known.
func (d *datagram) measure() {
	if d.known && d.end != 0 {
		d.ports.Length = d.end - d.ports.Start
	}
}

// ready tells whether enough has come to let fragments pass: the ports, and where SCTP's CRC is to be carried along, the length.
func (d *datagram) ready() bool {
	return d.known && (d.ports.Proto != packet.ProtoSCTP || d.ports.Length != 0)
}

// Peek says what Place would, but for what it would do to others, and changes nothing but the frame.
func (t *Fragments) Peek(f *packet.Frame, now int64) (p Placed) {
	at, drop := f.Fragment()
	if drop != packet.DropNone {
		return Placed{Drop: drop}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.all[keyOf(f, at.ID)]
	if d == nil || now-d.since >= int64(FragmentTime) {
		d = &datagram{}
	}
	what := datagram{known: d.known, ports: d.ports, end: d.end}
	if !at.More {
		what.end = at.End
	}
	if at.Start == 0 {
		what.known = true
		what.ports, drop = f.Ports()
	}
	what.measure()
	switch {
	case d.dead != packet.DropNone:
		return Placed{Drop: d.dead}
	case drop == packet.DropNone && !what.ready():
		return Placed{Held: true}
	}
	f.SetPorts(what.ports)
	return Placed{Drop: drop}
}

func keyOf(f *packet.Frame, id uint32) fragmentKey {
	k := &f.Key
	key := fragmentKey{src: k.Src, dst: k.Dst, id: id, in: k.InPort, etherType: k.EtherType, vlan: k.VLAN}
	if k.EtherType == packet.EtherTypeIPv4 {
		key.proto = k.Proto
	}
	return key
}

// enter notes a new datagram, and makes room for it.
func (t *Fragments) enter(key fragmentKey, now int64, p *Placed) *datagram {
	if len(t.all) >= MaxDatagrams {
		from := t.most(key.in, func(o *fragmentsFrom) int { return o.list.Len() * MaxHeldBytes / MaxDatagrams })
		p.lose(t.forget(from.list.Front().Value.(*datagram)), packet.DropFragMany)
	}
	from := t.ports[key.in]
	if from == nil {
		from = &fragmentsFrom{}
		t.ports[key.in] = from
	}
	d := &datagram{key: key, from: from, since: now}
	d.place = from.list.PushBack(d)
	t.all[key] = d
	return d
}

// most returns the port that has most of what size counts, of MaxHeldBytes in all; that is the port itself, without a search, when it has
// more than its share.
func (t *Fragments) most(port packet.PortID, size func(*fragmentsFrom) int) *fragmentsFrom {
	most := t.ports[port]
	if most != nil && size(most) >= MaxHeldBytes/len(t.ports) {
		return most
	}
	for _, from := range t.ports {
		if most == nil || size(from) > size(most) {
			most = from
		}
	}
	return most
}

// hold keeps a copy of the frame until enough of its datagram has come, the first fragment before all others.
func (t *Fragments) hold(d *datagram, first bool, f *packet.Frame, p *Placed) {
	cost := f.Len() + heldCost
	for t.bytes+cost > MaxHeldBytes {
		from := t.most(d.key.in, func(o *fragmentsFrom) int { return o.bytes })
		oldest := from.list.Front().Value.(*datagram)
		if oldest == d {
			t.kill(d, packet.DropFragMany, p)
			return
		}
		p.lose(t.forget(oldest), packet.DropFragMany)
	}
	place := len(d.held)
	if first {
		place = 0
	}
	d.held = slices.Insert(d.held, place, f.Clone())
	t.charge(d, cost)
	p.Held = true
}

func (t *Fragments) charge(d *datagram, bytes int) {
	d.bytes += bytes
	d.from.bytes += bytes
	t.bytes += bytes
}

// release takes from a datagram the fragments that wait.
func (t *Fragments) release(d *datagram) []*packet.Frame {
	held := d.held
	d.held = nil
	t.charge(d, -d.bytes)
	return held
}

// kill lets no more of the datagram pass.
func (t *Fragments) kill(d *datagram, why packet.DropReason, p *Placed) {
	d.dead, d.parts, p.Drop = why, nil, why
	p.lose(t.release(d), why)
}

// forget removes the datagram and returns what waited.
func (t *Fragments) forget(d *datagram) []*packet.Frame {
	held := t.release(d)
	delete(t.all, d.key)
	d.from.list.Remove(d.place)
	if d.from.list.Len() == 0 {
		delete(t.ports, d.key.in)
	}
	return held
}

func (p *Placed) lose(frames []*packet.Frame, why packet.DropReason) {
	for _, f := range frames {
		p.Made = append(p.Made, &flow.Made{Frame: f, Drop: why})
	}
}

// Tend forgets the datagrams whose time is over, and returns the fragments of them that waited.
func (t *Fragments) Tend(now int64) []*flow.Made {
	t.mu.Lock()
	defer t.mu.Unlock()
	var p Placed
	for _, from := range t.ports {
		for e := from.list.Front(); e != nil; e = from.list.Front() {
			d := e.Value.(*datagram)
			if now-d.since < int64(FragmentTime) {
				break
			}
			p.lose(t.forget(d), packet.DropFragLate)
		}
	}
	return p.Made
}

// Abandon forgets the datagrams of a port that leaves its network, and gives back the fragments that wait.
func (t *Fragments) Abandon(port packet.PortID) (lost []*packet.Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for from := t.ports[port]; from != nil && from.list.Len() > 0; {
		lost = append(lost, t.forget(from.list.Front().Value.(*datagram))...)
	}
	return lost
}

// Len returns the number of datagrams, and the bytes that wait, each frame with what it costs beside.
func (t *Fragments) Len() (datagrams, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all), t.bytes
}
