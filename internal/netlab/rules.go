package netlab

import (
	"fmt"
	"net/netip"
	"slices"

	"vswitch/internal/acl"
	"vswitch/internal/pipeline"
)

// rules is what one network is judged by.
type rules struct {
	acl.Config
	filter *acl.Filter
}

// Rules gives the network and its ports these rules, in place of those they have, in the words of `vsctl add-rule`. Their IDs are r1,
// r2 and so on.
func (l *Lab) Rules(network string, texts ...string) {
	l.t.Helper()
	r := l.rulesOf(network)
	r.Rules = nil
	for i, text := range texts {
		rule, err := acl.Parse(text)
		if err != nil {
			l.t.Fatalf("%v", err)
		}
		rule.ID = fmt.Sprintf("r%d", i+1)
		r.Rules = append(r.Rules, rule)
	}
	l.setRules(r)
}

// ICC says whether the network's ports may reach each other; they may at first.
func (l *Lab) ICC(network string, on bool) {
	l.t.Helper()
	r := l.rulesOf(network)
	r.NoICC = !on
	l.setRules(r)
}

func (l *Lab) rulesOf(network string) *rules {
	r := l.rules[network]
	if r == nil {
		n := l.Network(network)
		r = &rules{Config: acl.Config{Network: network}, filter: acl.NewFilter(n.Bridge.Renew)}
		l.rules[network] = r
		number := slices.Index(l.order, n) + 1
		n.SetRules(&pipeline.Rules{Filter: r.filter, Zone: uint16(1000 + number), Network: uint32(number), Conns: l.Connections()})
	}
	return r
}

func (l *Lab) setRules(r *rules) {
	l.t.Helper()
	if err := r.filter.Set(r.Config, names{l}, l.Now()); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// RuleHits returns how many packets the network's rules decided about, by their IDs.
func (l *Lab) RuleHits(network string) map[string]int {
	l.Settle()
	l.path.Settle()
	hits := map[string]int{}
	for _, s := range l.rulesOf(network).filter.Snapshot().Stats() {
		hits[s.Rule.ID] = int(s.Hits)
	}
	return hits
}

// Judged returns the judgements by rules with --log that were told since the last call.
func (l *Lab) Judged() (all []pipeline.Judged) {
	l.Settle()
	for {
		select {
		case j := <-l.line.Judged():
			all = append(all, j)
		default:
			return all
		}
	}
}

// names are those of a lab's ports and networks.
type names struct{ lab *Lab }

func (n names) Port(name string) (acl.Port, bool) {
	for _, p := range n.lab.ports {
		if p.Name == name && !p.gone {
			return acl.Port{ID: p.id, Addrs: []netip.Addr{p.IP4, p.IP6}}, true
		}
	}
	return acl.Port{}, slices.ContainsFunc(n.lab.ports, func(p *Port) bool { return p.Name == name })
}

func (n names) Network(name string) (subnets []netip.Prefix, ok bool) {
	net := n.lab.networks[name]
	if net == nil {
		return nil, false
	}
	if gw := net.Gateway(); gw != nil {
		subnets = gw.If.Prefixes
	}
	return subnets, true
}
