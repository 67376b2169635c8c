package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"vswitch/internal/packet"
)

// Published says where connections to our own addresses go: the published ports of containers.
//
//	maps     (zone, protocol, address or any of its family) -> ranges of ports that don't overlap -> publication
//	writes   control verbs, under a mutex: each makes a new snapshot of the range list that it changes
//	reads    the slow path of any worker, in Lookup: an atomic load and two binary searches at most
//	limits   none of its own: what a user published is intent. A range is one object, however wide; 100 to 200 bytes each
type Published struct {
	mu   sync.Mutex // serialises writers
	tree atomic.Pointer[tree]
}

// tree is a snapshot.
type tree struct {
	at map[binding][]*Publication // by where they listen, in the order of ports
	to map[binding][]*Publication // by the container's address
}

// binding is where a publication listens. A zero address is any of its family.
type binding struct {
	addr          [16]byte
	zone          uint16
	proto, family uint8
}

// Publication is a published port, or a range of them. It is immutable.
type Publication struct {
	Owner     string // who published it, in messages
	Zone      uint16
	Proto     uint8          // TCP, UDP or SCTP
	Addr      netip.Addr     // ours that it listens on; the zero Addr: all of them
	Low, High uint16         // ours
	To        []netip.Addr   // the container's: one of each family at most, of which one at least fits Addr
	ToPort    uint16         // the container's, of Low
	From      []netip.Prefix // who may connect; none: all
}

// Same tells whether two publications do the same.
func (p *Publication) Same(q *Publication) bool {
	return p.Owner == q.Owner && p.Zone == q.Zone && p.Proto == q.Proto && p.Addr == q.Addr && p.Low == q.Low && p.High == q.High &&
		slices.Equal(p.To, q.To) && p.ToPort == q.ToPort && slices.Equal(p.From, q.From)
}

// Conflict is why a port can't be published: another one has it.
type Conflict struct {
	Wanted, Other *Publication
}

func (e *Conflict) Error() string {
	return fmt.Sprintf("%s is published for %s already, as %s: unpublish that, or take another port", e.Wanted.spec(""), e.Other.Owner, e.Other.spec(":"+portsText(e.Other.ToPort, e.Other.ToPort+e.Other.High-e.Other.Low)))
}

// portsText writes a port, or a range of them.
func portsText(low, high uint16) string {
	if low == high {
		return strconv.Itoa(int(low))
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// spec writes what a publication listens on, and before its protocol what it leads to, if that is given: as in "[fd00::1]:8080-8090/tcp".
func (p *Publication) spec(to string) string {
	s := portsText(p.Low, p.High) + to
	if p.Addr.Is6() {
		s = fmt.Sprintf("[%v]:%s", p.Addr, s)
	} else if p.Addr.IsValid() {
		s = fmt.Sprintf("%v:%s", p.Addr, s)
	}
	name, ok := map[uint8]string{packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp", packet.ProtoSCTP: "sctp"}[p.Proto]
	if !ok {
		name = fmt.Sprint(p.Proto)
	}
	return s + "/" + name
}

// to returns the container's address of the family.
func (p *Publication) to(family uint8) (b [16]byte, ok bool) {
	for _, a := range p.To {
		if b, f := bytesOf(a.Unmap()); f == family {
			return b, true
		}
	}
	return b, false
}

// check refuses what makes no sense.
func (p *Publication) check() error {
	switch {
	case p.Proto != packet.ProtoTCP && p.Proto != packet.ProtoUDP && p.Proto != packet.ProtoSCTP:
		return fmt.Errorf("publish protocol %d: only tcp, udp and sctp have ports to publish", p.Proto)
	case p.Low == 0 || p.High < p.Low:
		return fmt.Errorf("publish %s: give ports from 1 to 65535, the lower one first", p.spec(""))
	case p.ToPort == 0 || int(p.ToPort)+int(p.High-p.Low) > 65535:
		return fmt.Errorf("publish %s to port %d: as many ports from there on end beyond 65535", p.spec(""), p.ToPort)
	case len(p.bindings()) == 0:
		return fmt.Errorf("publish %s: %s has no address of that family", p.spec(""), p.Owner)
	}
	return nil
}

// bindings returns where a publication listens: one place, or one of each family that the container has an address of.
func (p *Publication) bindings() (all []binding) {
	for _, family := range []uint8{4, 6} {
		b := binding{zone: p.Zone, proto: p.Proto, family: family}
		if p.Addr.IsValid() {
			a, f := bytesOf(p.Addr.Unmap())
			if f != family {
				continue
			}
			b.addr = a
		}
		if _, ok := p.to(family); ok {
			all = append(all, b)
		}
	}
	return all
}

// NewPublished makes an empty table.
func NewPublished() *Published {
	t := &Published{}
	t.tree.Store(&tree{map[binding][]*Publication{}, map[binding][]*Publication{}})
	return t
}

// Add publishes p, or returns a *Conflict, or says what is wrong with it. Connections that are there stay as they are.
func (t *Published) Add(p *Publication) error { return t.Replace(nil, []*Publication{p}) }

// Remove takes back what Add published; false when it is not there. Who calls it removes the connections that came by it, if it wants.
func (t *Published) Remove(p *Publication) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.Edit()
	found := e.Remove(p)
	t.tree.Store(&e.tree)
	return found
}

// Replace publishes what comes in place of what goes. After an error, a *Conflict or what is wrong with one of them, all is as it was.
// Lookup sees all of it or nothing.
func (t *Published) Replace(goes, comes []*Publication) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.Edit()
	for _, p := range goes {
		e.Remove(p)
	}
	for _, p := range comes {
		if err := e.Add(p); err != nil {
			return err
		}
	}
	t.tree.Store(&e.tree)
	return nil
}

// Clone returns a table with the same publications, to try what Become can make true. It costs nothing.
func (t *Published) Clone() *Published {
	c := &Published{}
	c.tree.Store(t.tree.Load())
	return c
}

// Become makes the table be what the other one is, at once.
func (t *Published) Become(other *Published) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tree.Store(other.tree.Load())
}

// search returns where a range that begins with the port is in the list, or belongs.
func search(list []*Publication, low uint16) (int, bool) {
	return slices.BinarySearchFunc(list, low, func(p *Publication, low uint16) int { return cmp.Compare(p.Low, low) })
}

// Lookup returns where a connection to one of our own addresses goes, and by which publication; nil when its port is not published.
// DropPublishFrom: it is, but not for that source.
func (t *Published) Lookup(q *Tuple) (Endpoint, *Publication, packet.DropReason) {
	tree := t.tree.Load()
	b := binding{addr: q.Dst, zone: q.Zone, proto: q.Proto, family: q.Family}
	p := covering(tree.at[b], q.DstPort)
	if p == nil {
		b.addr = [16]byte{}
		if p = covering(tree.at[b], q.DstPort); p == nil {
			return Endpoint{}, nil, packet.DropNone
		}
	}
	if len(p.From) > 0 {
		src := q.SrcAddr()
		if !slices.ContainsFunc(p.From, func(n netip.Prefix) bool { return n.Contains(src) }) {
			return Endpoint{}, p, packet.DropPublishFrom
		}
	}
	to, _ := p.to(q.Family)
	return Endpoint{to, p.ToPort + q.DstPort - p.Low}, p, packet.DropNone
}

// covering returns the range that the port is in.
func covering(list []*Publication, port uint16) *Publication {
	i, exact := search(list, port)
	if exact {
		return list[i]
	}
	if i > 0 && list[i-1].High >= port {
		return list[i-1]
	}
	return nil
}

// All returns the publications, in the order of zone, protocol and port.
func (t *Published) All() []*Publication {
	var all []*Publication
	for b, list := range t.tree.Load().at {
		for _, p := range list {
			if b == p.bindings()[0] { // once, though it may listen on two families
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Publication) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Low, b.Low), a.Addr.Compare(b.Addr))
	})
	return all
}
