package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// rules compares the rules of each network and port that is wanted, or stays. Those of others go with them.
func (c *comparison) rules(have, want []Rules, noDelete bool) {
	key := func(r *Rules) string { return r.Kind + ":" + r.Name }
	had, wanted := byName(have, key), byName(want, key)
	owners := slices.SortedFunc(slices.Values(slices.Concat(have, want)), func(a, b Rules) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	for i, o := range owners {
		if i > 0 && key(&o) == key(&owners[i-1]) || c.goes(&o) {
			continue
		}
		var old, now []string
		if r := had[key(&o)]; r != nil {
			old = r.Texts
		}
		if r := wanted[key(&o)]; r != nil {
			now = r.Texts
		}
		if noDelete {
			now = slices.Concat(old, missingFrom(old, now))
		}
		c.ruleList(&Rules{o.Kind, o.Name, now}, old)
	}
}

// ruleList adds the steps to the rules of one owner. Only the last of them carries out something: all.
func (c *comparison) ruleList(want *Rules, had []string) {
	anew := slices.ContainsFunc(c.changes, func(x Change) bool {
		return x.Kind == want.Kind && x.Name == want.Name && x.Action == api.ActionReplace
	})
	same := slices.Equal(had, want.Texts)
	if same && (!anew || len(had) == 0) {
		return
	}
	before := len(c.changes)
	for _, text := range missingFrom(want.Texts, had) {
		c.add(api.ActionDelete, api.KindRule, want.Name, "", text, nil)
	}
	for _, text := range missingFrom(had, want.Texts) {
		c.add(api.ActionAdd, api.KindRule, want.Name, "", text, nil)
	}
	switch {
	case same:
		c.add(api.ActionReplace, api.KindRule, want.Name, "", "they come again with it", nil)
	case len(c.changes) == before:
		c.add(api.ActionChange, api.KindRule, want.Name, "", "in another order", nil)
	}
	c.changes[len(c.changes)-1].Rules = want
}

// goes tells whether the owner of rules is deleted.
func (c *comparison) goes(r *Rules) bool {
	return slices.ContainsFunc(c.changes, func(x Change) bool { return x.Kind == r.Kind && x.Name == r.Name && x.Action == api.ActionDelete })
}
