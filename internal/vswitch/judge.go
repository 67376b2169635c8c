package vswitch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
)

// fact is what rules have to know of a port that is on a network.
type fact struct {
	id      packet.PortID
	network string
	addrs   []netip.Addr
}

// judge gives the network the rules that there are for it now. While ports are brought back nothing is judged: judgeAll does it, before
// they are read. Safe for concurrent use.
func (s *Switch) judge(n *network) {
	s.judging.Lock()
	defer s.judging.Unlock()
	if s.restored {
		s.judgeAt(n, s.path.Now())
	}
}

// judgeAll begins to judge, after a start: what connections there are nobody knows.
func (s *Switch) judgeAll() {
	s.judging.Lock()
	defer s.judging.Unlock()
	s.restored = true
	for _, n := range s.allNetworks() {
		s.judgeAt(n, 0)
	}
}

// judgeAt is judge. Callers hold judging.
func (s *Switch) judgeAt(n *network, now int64) {
	s.mu.Lock()
	rules := slices.Clone(s.rules[acl.Owner(api.KindNetwork, n.Name)])
	for name, f := range s.facts {
		if f.network == n.Name {
			rules = append(rules, s.rules[acl.Owner(api.KindPort, name)]...)
		}
	}
	conf := acl.Config{Network: n.Name, NoICC: n.NoICC}
	if len(rules) > 0 && n.zone == 0 {
		n.zone = s.ownZone()
	}
	zone := n.zone
	s.mu.Unlock()
	slices.SortFunc(rules, byID)
	for _, r := range rules {
		conf.Rules = append(conf.Rules, *r)
	}
	n.line.SetRules(&pipeline.Rules{Filter: n.filter, Zone: zone, Network: s.numberOf(n), Conns: s.conns})
	if err := n.filter.Set(conf, known{s}, now); err != nil { // what the verbs let pass is right
		s.log.Error("set rules", "network", n.Name, "err", err)
	}
}

// ownZone returns a zone of the table of connections that neither a router nor another network has: those count from the other end. Callers
// hold mu.
func (s *Switch) ownZone() uint16 {
	used := make(map[uint16]bool)
	for _, n := range s.networks {
		used[n.zone] = true
	}
	zone := uint16(65535)
	for used[zone] && zone > 65535-maxRuled {
		zone--
	}
	return zone
}

func (s *Switch) allNetworks() (list []*network) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.networks {
		list = append(list, n)
	}
	return list
}

// tellRules notes what is now so of a port, the zero fact that it is on no network, and judges anew where rules care.
func (s *Switch) tellRules(port string, now fact) {
	s.mu.Lock()
	was := s.facts[port]
	if was.id == now.id && was.network == now.network && slices.Equal(was.addrs, now.addrs) {
		s.mu.Unlock()
		return
	}
	if now.id == 0 {
		delete(s.facts, port)
	} else {
		s.facts[port] = now
	}
	ruled := len(s.rules[acl.Owner(api.KindPort, port)]) > 0
	s.mu.Unlock()
	for _, n := range s.allNetworks() {
		if ruled && n.Name == now.network || n.filter.Snapshot().UsesPort(port) {
			s.judge(n)
		}
	}
}

// factOf is what rules have to know of the port.
func factOf(e *endpoint) fact {
	f := fact{id: e.id, network: e.net.Name}
	for _, ip := range e.port.IPs {
		f.addrs = append(f.addrs, ip.Addr())
	}
	return f
}

// judgeUsers judges anew where rules name a network that has changed, and in that network itself.
func (s *Switch) judgeUsers(changed string) {
	for _, n := range s.allNetworks() {
		if n.Name == changed || n.filter.Snapshot().UsesNetwork(changed) {
			s.judge(n)
		}
	}
}

// known are ports and networks as rules ask for them. What is no more, or not yet again, stands for nobody.
type known struct{ *Switch }

// Port implements acl.Names.
func (k known) Port(name string) (acl.Port, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	f := k.facts[name]
	return acl.Port{ID: f.id, Addrs: f.addrs}, true
}

// Network implements acl.Names.
func (k known) Network(name string) (subnets []netip.Prefix, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if n := k.networks[name]; n != nil {
		for _, sub := range n.Subnets {
			subnets = append(subnets, sub.Prefix)
		}
	}
	return subnets, true
}

// tellJudged logs what rules with --log have decided.
func (s *Switch) tellJudged(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-s.line.Judged():
			r := s.briefly(*j.Rule)
			frame := flowspec.MatchText(&j.Key, false, s.nameOf())
			s.log.Info("rule", "id", r.ID, "action", r.Action, "network", j.Network, "port", j.Port, "direction", j.Direction, "frame", frame, "missed", j.Missed)
			text := fmt.Sprintf("rule %s: %s %s, %s", r.ID, r.Action, j.Direction, frame)
			if j.Missed > 0 {
				text += fmt.Sprintf("; and %d more since the last", j.Missed)
			}
			s.events.Publish("rule."+r.Action, j.Port, text)
		}
	}
}

// briefly writes the names in a rule without their kinds, where they are clear without.
func (s *Switch) briefly(r acl.Rule) acl.Rule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.Brief(s.has)
}
