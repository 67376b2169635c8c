package vswitch

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/store"
)

// dropRules forgets the rules of a port that is deleted.
func (s *Switch) dropRules(port string) {
	s.mu.Lock()
	list := s.rules[acl.Owner(api.KindPort, port)]
	delete(s.rules, acl.Owner(api.KindPort, port))
	s.mu.Unlock()
	if len(list) == 0 {
		return
	}
	if err := s.store.Update(func(tx *store.Tx) error { return deleteRules(tx, list) }); err != nil {
		s.log.Error("delete the rules of a port; the next start will finish it", "port", port, "err", err)
	}
	s.publishRules("rule.deleted", list)
}

func deleteRules(tx *store.Tx, list []*acl.Rule) error {
	for _, r := range list {
		if err := tx.DeleteRule(r.ID); err != nil {
			return err
		}
	}
	return nil
}

// loadRules brings back the rules of the networks and ports that there are, and forgets others. owned tells whether an owner is there.
func (s *Switch) loadRules(owned func(owner string) bool) error {
	records, err := s.store.Rules()
	if err != nil {
		return err
	}
	var gone []*acl.Rule
	s.mu.Lock()
	for i := range records {
		r, err := acl.Check(acl.Rule(records[i]))
		s.lastRule = max(s.lastRule, ruleNumber(records[i].ID))
		if err != nil || !owned(r.On) {
			s.log.Warn("a rule is forgotten: what it is on is no more, or it makes no sense", "rule", records[i].ID, "on", records[i].On, "err", err)
			gone = append(gone, (*acl.Rule)(&records[i]))
			continue
		}
		s.rules[r.On] = append(s.rules[r.On], &r)
	}
	for _, list := range s.rules {
		slices.SortFunc(list, byID)
	}
	s.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	return s.store.Update(func(tx *store.Tx) error { return deleteRules(tx, gone) })
}

// isOwner tells whether there is such a network, or the record of such a port that is to stay.
func (s *Switch) isOwner(owner string, ports []store.PortRecord) bool {
	kind, name, _ := strings.Cut(owner, ":")
	if kind == api.KindNetwork {
		return s.networks[name] != nil
	}
	return slices.ContainsFunc(ports, func(r store.PortRecord) bool { return r.Port.Name == name && r.Phase == store.PhasePresent })
}

// Rules lists the rules of a network and its ports, of a port, or all, in the order in which they are asked.
func (s *Switch) Rules(_ context.Context, on string) ([]api.RuleEntry, error) {
	s.mu.RLock()
	owner, network := "", ""
	if on != "" {
		var err error
		if owner, err = acl.ResolveName(on, s.has); err != nil {
			s.mu.RUnlock()
			return nil, err
		}
		network, _ = strings.CutPrefix(owner, api.KindNetwork+":")
	}
	var list []*acl.Rule
	for o, rules := range s.rules {
		kind, name, _ := strings.Cut(o, ":")
		if on == "" || o == owner || kind == api.KindPort && s.facts[name].network == network {
			list = append(list, rules...)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b *acl.Rule) int {
		return cmp.Or(strings.Compare(s.networkOfRule(a), s.networkOfRule(b)), strings.Compare(a.Direction, b.Direction), cmp.Compare(b.Priority, a.Priority),
			strings.Compare(b.On[:1], a.On[:1]), byID(a, b)) // a port's before its network's
	})
	counts := s.ruleCounts()
	out := make([]api.RuleEntry, 0, len(list))
	for _, r := range list {
		out = append(out, s.ruleEntry(r, counts))
	}
	return out, nil
}

// networkOfRule returns the network whose frames the rule judges; "" when its port is on none.
func (s *Switch) networkOfRule(r *acl.Rule) string {
	kind, name, _ := strings.Cut(r.On, ":")
	if kind == api.KindNetwork {
		return name
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.facts[name].network
}

// ruleCounts returns what all rules have counted, by their ids.
func (s *Switch) ruleCounts() map[string]acl.Stats {
	counts := make(map[string]acl.Stats)
	s.path.Settle()
	for _, n := range s.allNetworks() {
		for _, st := range n.filter.Snapshot().Stats() {
			counts[st.Rule.ID] = st
		}
	}
	return counts
}

// ruled tells whether there are rules.
func (s *Switch) ruled() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.rules) > 0
}

func (s *Switch) ruleEntry(r *acl.Rule, counts map[string]acl.Stats) api.RuleEntry {
	e := api.RuleEntry{Rule: api.Rule(s.briefly(*r)), Network: s.networkOfRule(r)}
	if st := counts[r.ID]; st.Hits > 0 {
		e.Packets, e.Idle = st.Hits, max(1, int(time.Duration(s.path.Now()-st.Last).Seconds()))
	}
	return e
}

// describeRule tells of a rule that was added, or would be. What one that was there has counted is not looked up.
func (s *Switch) describeRule(r *acl.Rule) api.RuleEntry { return s.ruleEntry(r, nil) }

// ruleTexts returns the owner's rules as a configuration has them.
func (st *state) ruleTexts(owner string) (texts []string) {
	for _, r := range st.rules[owner] {
		brief := r.Brief(st.has)
		texts = append(texts, brief.Text())
	}
	return texts
}
