package pipeline

import (
	l2switch "vswitch/switch"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// Gateway is a network's router: the MAC and addresses that answer in the network's untagged VLAN. It never changes.
type Gateway struct {
	Router *router.Router
	If     *router.Interface
}

// SetGateway gives the network an interface on a router, in place of the one that it has; nil: none. The interface's Name, Segment
// and what else it takes from the network are set here.
func (n *Network) SetGateway(r *router.Router, i *router.Interface) {
	old := n.gateway.Load()
	if old != nil && (i == nil || old.Router != r) {
		old.Router.RemoveInterface(n.Name)
	}
	switch {
	case i == nil && old == nil:
		return
	case i == nil:
		n.gateway.Store(nil)
	default:
		conf := *i
		conf.Name, conf.Segment = n.Name, n
		n.gateway.Store(&Gateway{r, r.SetInterface(conf)})
	}
	n.Bridge.Renew()
}

// Gateway returns the network's router, or nil.
func (n *Network) Gateway() *Gateway { return n.gateway.Load() }

// Tend asks again for the router's neighbors that have not answered, and returns what is to be done with those that never did.
func (p *Pipeline) Tend(r *router.Router, now int64) *flow.Made {
	var v flow.Verdict
	ask, lost := r.Neighbors().Tend(now)
	for i := range ask {
		solicit(&v, &ask[i], now)
	}
	for _, f := range lost {
		v.Make(&flow.Made{Frame: f, Drop: packet.DropNeighborFailed})
		w := walk{p: p, f: f, now: now, v: &v, net: p.network(f.Key.InPort)}
		if w.net == nil {
			continue
		}
		w.gw = w.net.gateway.Load()
		w.in = w.net.Bridge.Snapshot().Port(f.Key.InPort)
		if w.gw != nil && w.gw.Router == r && w.in != nil {
			w.icmpError(hostUnreachable)
		}
	}
	return v.Made
}

// solicit asks who has an address: one MAC, if it is known where it is, or everybody.
func solicit(v *flow.Verdict, s *router.Solicit, now int64) {
	n, ok := s.If.Segment.(*Network)
	if !ok {
		return
	}
	m := &flow.Made{Bytes: solicitation(s)}
	if s.MAC != [6]byte{} {
		if id, _, _, ok := n.Bridge.FDB().Lookup(0, s.MAC, now); ok {
			m.Port = id
		}
	}
	if m.Port == 0 {
		if m.Set = n.Bridge.Snapshot().Flood(0, false); len(m.Set.Members) == 0 {
			return
		}
	}
	v.Make(m)
}

// toPort finds the port behind which a MAC of the network's untagged VLAN is.
func (n *Network) toPort(conf *l2switch.Snapshot, mac [6]byte, now int64) (out *l2switch.PortConf, cell *flow.Cell, version uint64) {
	id, cell, version, ok := n.Bridge.FDB().Lookup(0, mac, now)
	if !ok {
		return nil, nil, 0
	}
	out = conf.Port(id)
	if out == nil || out.Blocked {
		return nil, nil, 0
	}
	if _, ok := out.Member.Egress(0); !ok {
		return nil, nil, 0
	}
	return out, cell, version
}
