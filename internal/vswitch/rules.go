package vswitch

import (
	"net/netip"

	"vswitch/internal/acl"
	"vswitch/internal/pipeline"
)

// judge gives the network the rules that its frames are judged by. Callers hold verb.
func (s *Switch) judge(n *network) {
	n.line.SetRules(&pipeline.Rules{Filter: n.filter, Zone: n.zone, Network: s.numberOf(n), Conns: s.conns})
	if err := n.filter.Set(acl.Config{Network: n.Name, NoICC: n.NoICC}, known{s}, s.path.Now()); err != nil {
		s.log.Error("set rules", "network", n.Name, "err", err) // they were tried out before
	}
}

// unjudge gives back what judge took, when the network is deleted.
func (s *Switch) unjudge(n *network) {
	n.line.SetRules(nil)
}

// known are the names of ports and networks at work, as rules ask for them.
type known struct{ *Switch }

// Port implements acl.Names.
func (k known) Port(name string) (acl.Port, bool) {
	e := k.ports[name]
	if e == nil {
		return acl.Port{}, false
	}
	p := acl.Port{ID: e.id}
	for _, ip := range e.port.IPs {
		p.Addrs = append(p.Addrs, ip.Addr())
	}
	return p, true
}

// Network implements acl.Names.
func (k known) Network(name string) (subnets []netip.Prefix, ok bool) {
	n := k.networks[name]
	if n == nil {
		return nil, false
	}
	for _, sub := range n.Subnets {
		subnets = append(subnets, sub.Prefix)
	}
	return subnets, true
}
