package pipeline

import (
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// reassemble finds the ports of a fragment, which are in the first one of its datagram alone: for NAT and rules, so that all are treated
// as that one. A fragment that came before the first one waits for it, and SCTP's first one for the last. False: the walk ends here.
func (w *walk) reassemble(stage string) bool {
	f := w.f
	if f.Flags&packet.FlagFragment == 0 {
		return true
	}
	w.absent = true // each must be seen
	if f.Flags&packet.FlagPorts != 0 {
		return true // it waited, and was seen before
	}
	if w.trace != nil {
		return w.foreseeFragment(stage)
	}
	p := w.p.fragments.Place(f, w.now)
	for _, m := range p.Made {
		w.v.Make(m)
	}
	w.v.Taken = p.Held
	if p.Drop != packet.DropNone {
		return w.drop(stage, p.Drop)
	}
	return !p.Held
}

// foreseeFragment is reassemble for what-if.
func (w *walk) foreseeFragment(stage string) bool {
	p := w.p.fragments.Peek(w.f, w.now)
	switch {
	case p.Drop != packet.DropNone:
		return w.drop(stage, p.Drop)
	case p.Held:
		w.v.Taken = true
		w.trace.Verdict = "waits for other fragments of its datagram"
		w.trace.step(stage, "it %s", w.trace.Verdict)
		return false
	}
	w.trace.step(stage, "fragment: treated as the first one of its datagram")
	return true
}

// TendFragments returns what is to be done with the fragments whose first one did not come in time.
func (p *Pipeline) TendFragments(now int64) *flow.Made {
	var made *flow.Made
	for _, m := range p.fragments.Tend(now) {
		if n := p.network(m.Frame.Key.InPort); n != nil && n.shared() {
			m.Drop = packet.DropForeign // the first one went to the host
		}
		m.Next, made = made, m
	}
	return made
}

// shared tells whether the network is an uplink that the host uses too, of which later fragments come to both.
func (n *Network) shared() bool {
	gw := n.gateway.Load()
	return gw != nil && gw.If.Shared
}

// Abandon gives back the fragments of a port that wait: it leaves its network.
func (p *Pipeline) Abandon(port packet.PortID) (lost []*packet.Frame) {
	return p.fragments.Abandon(port)
}

// Fragments returns how many datagrams in fragments are known, and how many bytes of them wait.
func (p *Pipeline) Fragments() (datagrams, bytes int) { return p.fragments.Len() }
