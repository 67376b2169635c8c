package vswitch

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/reconcile"
)

// maxRuled is how many networks may have rules: each is a zone of its own in the table of connections.
const maxRuled = 32768

// AddRule adds a rule. Frames are judged by it when it returns, also those of connections that there are.
func (s *Switch) AddRule(ctx context.Context, r api.RuleRequest) (api.RuleEntry, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	x, err := carryOne(ctx, s, (*draft).addRule, &r)
	if err != nil {
		return api.RuleEntry{}, err
	}
	return s.describeRule(x.rule), nil
}

// DeleteRule takes a rule away.
func (s *Switch) DeleteRule(ctx context.Context, r api.RuleDeletion) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	_, err := carryOne(ctx, s, (*draft).deleteRule, &r)
	return err
}

func (d *draft) addRule(r *api.RuleRequest) (outcome, error) {
	if r.ID != "" {
		return outcome{}, invalid("a rule gets its id when it is added: leave id out")
	}
	rule, err := acl.Resolve(acl.Rule(r.Rule), d.has)
	if err != nil {
		return outcome{}, err
	}
	list := d.rules[rule.On]
	if i := slices.IndexFunc(list, func(has *acl.Rule) bool { return sameRule(has, &rule) }); i >= 0 {
		if r.MayExist {
			return outcome{unchanged: true, rule: list[i]}, nil
		}
		return outcome{}, api.Errorf(api.CodeConflict, "there is the same rule already: %s; 'vsctl del-rule %s' takes it away, --may-exist takes it for done", list[i].ID, list[i].ID)
	}
	d.appendRule(&rule)
	return outcome{rule: &rule}, d.limitRules(rule.On)
}

// appendRule gives the rule an id, and puts it behind its owner's others.
func (d *draft) appendRule(r *acl.Rule) {
	d.lastRule++
	r.ID = ruleID(d.lastRule)
	d.rules[r.On] = append(slices.Clip(d.rules[r.On]), r)
}

func (d *draft) deleteRule(r *api.RuleDeletion) (outcome, error) {
	for owner, list := range d.rules {
		if i := slices.IndexFunc(list, func(x *acl.Rule) bool { return x.ID == r.ID }); i >= 0 {
			d.setRules(owner, slices.Delete(slices.Clone(list), i, i+1))
			return outcome{}, nil
		}
	}
	return outcome{unchanged: true}, unless(r.IfExists, api.Errorf(api.CodeNotFound, "no rule %.70q; 'vsctl list-rules' names those there are", r.ID))
}

// has tells whether there is a network or port of that name.
func (st *state) has(kind, name string) bool {
	if kind == api.KindNetwork {
		return st.networks[name] != nil
	}
	return st.ports[name] != nil
}

// setRules makes the owner's rules those of the list.
func (st *state) setRules(owner string, list []*acl.Rule) {
	if st.rules[owner] = list; len(list) == 0 {
		delete(st.rules, owner)
	}
}

// replaceRules makes the rules of a network or port those of the list, as apply asks for it. The ones that stay in place keep their ids, and so what they have counted; order is
// that of ids, so that those behind a new one get new ones.
func (d *draft) replaceRules(r *reconcile.Rules) (outcome, error) {
	owner := acl.Owner(r.Kind, r.Name)
	had := d.rules[owner]
	same := true
	d.setRules(owner, nil)
	for _, text := range r.Texts {
		rule, err := acl.Parse(owner + " " + text)
		if err != nil {
			return outcome{}, err
		}
		i := slices.IndexFunc(had, func(x *acl.Rule) bool { return sameRule(x, &rule) })
		if same = same && i >= 0; same {
			d.rules[owner] = append(d.rules[owner], had[i])
			had = had[i+1:]
			continue
		}
		d.lastRule++
		rule.ID = ruleID(d.lastRule)
		d.rules[owner] = append(d.rules[owner], &rule)
	}
	return outcome{}, d.limitRules(owner)
}

// limitRules holds the draft against the limits, after the owner got rules.
func (d *draft) limitRules(owner string) error {
	kind, name, _ := strings.Cut(owner, ":")
	if kind == api.KindPort {
		e := d.ports[name]
		if e == nil || e.net == nil {
			return nil // connecting it will look
		}
		name = e.net.Name
	}
	return d.checkRules(name, 0)
}

// checkRules refuses more rules than a network may have, or more networks with rules than there may be.
func (st *state) checkRules(network string, more int) error {
	n := more
	ruled := make(map[string]bool)
	for owner, list := range st.rules {
		kind, name, _ := strings.Cut(owner, ":")
		if kind == api.KindPort {
			e := st.ports[name]
			if e == nil || e.net == nil {
				continue
			}
			name = e.net.Name
		}
		if ruled[name] = true; name == network {
			n += len(list)
		}
	}
	switch {
	case n > acl.MaxRules:
		return api.Errorf(api.CodeExhausted, "network %s and its ports would have %d rules; the limit is %d: one rule takes prefixes and lists of ports",
			network, n, acl.MaxRules)
	case len(ruled) > maxRuled:
		return api.Errorf(api.CodeExhausted, "%d networks would have rules; the limit is %d", len(ruled), maxRuled)
	}
	return nil
}

// sameRule tells whether two rules of one owner do the same.
func sameRule(a, b *acl.Rule) bool {
	x, y := *a, *b
	x.ID, y.ID = "", ""
	return x == y
}

func ruleID(n uint64) string { return "r" + strconv.FormatUint(n, 10) }

// number of a rule is what its id says: rules are in the order in which they were added.
func ruleNumber(id string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(id, "r"), 10, 64)
	return n
}

func byID(a, b *acl.Rule) int { return cmp.Compare(ruleNumber(a.ID), ruleNumber(b.ID)) }

// ruleNew gives new ports the rules that the draft has for them, so that these hold from the first frame on.
func (c *carry) ruleNew(context.Context) error {
	s := c.s
	for _, e := range c.new {
		owner := acl.Owner(api.KindPort, e.port.Name)
		was, is := s.rules[owner], c.d.rules[owner]
		if slices.Equal(was, is) {
			continue
		}
		s.mu.Lock()
		s.setRules(owner, is)
		s.mu.Unlock()
		c.undo = append(c.undo, func() error {
			s.mu.Lock()
			s.setRules(owner, was)
			s.mu.Unlock()
			return nil
		})
	}
	return nil
}

// otherRules returns the rules of a that b does not have.
func otherRules(a, b map[string][]*acl.Rule) (list []*acl.Rule) {
	for owner, rules := range a {
		if slices.Equal(rules, b[owner]) {
			continue
		}
		has := make(map[*acl.Rule]bool)
		for _, r := range b[owner] {
			has[r] = true
		}
		for _, r := range rules {
			if !has[r] {
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, byID)
	return list
}

// heedRules judges anew where rules came or went, and tells of them.
func (s *Switch) heedRules(added, gone []*acl.Rule) {
	changed := make(map[string]bool)
	for _, r := range slices.Concat(added, gone) {
		kind, name, _ := strings.Cut(r.On, ":")
		if kind == api.KindPort {
			s.mu.RLock()
			name = s.facts[name].network
			s.mu.RUnlock()
		}
		changed[name] = true
	}
	for name := range changed {
		if n := s.networks[name]; n != nil {
			s.judge(n)
		}
	}
	s.publishRules("rule.deleted", gone)
	s.publishRules("rule.added", added)
}

// publishRules tells of rules one by one, or of many how many they are.
func (s *Switch) publishRules(event string, list []*acl.Rule) {
	const most = 16
	for _, r := range list[:min(len(list), most)] {
		brief := s.briefly(*r)
		s.events.Publish(event, r.ID, brief.String())
	}
	if n := len(list) - most; n > 0 {
		s.events.Publish(event, "", strconv.Itoa(n)+" more")
	}
}
