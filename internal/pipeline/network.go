package pipeline

import (
	"sync/atomic"

	l2switch "vswitch/switch"

	"vswitch/internal/packet"
	"vswitch/router"
)

// Pipeline knows which network each port belongs to, and what a network decides with. Classify is safe for concurrent use,
// and with Bind and Unbind.
type Pipeline struct {
	bound [1 << 16]atomic.Pointer[binding] // by slot of the PortID
	woken chan struct{}

	fragments *router.Fragments
	judged    chan Judged
}

type binding struct {
	id  packet.PortID
	net *Network
}

// Network is what the pipeline decides with for one network.
type Network struct {
	Name   string
	Bridge *l2switch.Bridge

	gateway atomic.Pointer[Gateway]
	nat     atomic.Pointer[NAT]

	advertiser atomic.Pointer[advertiser] // nil: none is sent
	rules      atomic.Pointer[Rules]
	rejects    router.Limiter // of what tells senders that a rule rejects
	told       told
}

// New makes a pipeline to which no port is bound.
func New() *Pipeline {
	return &Pipeline{woken: make(chan struct{}, 1), fragments: router.NewFragments(), judged: make(chan Judged, maxJudged)}
}

// Woken tells that a decision left something to do with one of the networks: their Bridge.Tend and FDB.TakeFlaps. What it is
// they know themselves, so that nothing is lost when many things happen before somebody looks.
func (p *Pipeline) Woken() <-chan struct{} { return p.woken }

// Wake makes Woken tell. It never blocks.
func (p *Pipeline) Wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// Bind says that frames of the port belong to the network. The port is part of the network's bridge by then.
func (p *Pipeline) Bind(id packet.PortID, n *Network) {
	p.bound[id.Slot()].Store(&binding{id, n})
}

// Unbind undoes Bind. Frames of the port that are still under way are dropped.
func (p *Pipeline) Unbind(id packet.PortID) { p.bound[id.Slot()].Store(nil) }

// network returns the network of a port, or nil.
func (p *Pipeline) network(id packet.PortID) *Network {
	if b := p.bound[id.Slot()].Load(); b != nil && b.id == id {
		return b.net
	}
	return nil
}
