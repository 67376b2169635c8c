package servertest

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/api"
)

func rules() []api.RuleEntry {
	return []api.RuleEntry{
		{Rule: api.Rule{ID: "r2", On: "web", Direction: "out", Action: "allow", Priority: 40000, Proto: "tcp", DstPorts: "80,443"}, Network: "net1", Packets: 1234, Idle: 5},
		{Rule: api.Rule{ID: "r1", On: "net1", Direction: "out", Action: "reject", Priority: 32768, Src: "@lab", Log: true}, Network: "net1"},
	}
}

// Rules returns the rules of a network or port, or all.
func (b *Backend) Rules(_ context.Context, on string) (list []api.RuleEntry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, name, ok := strings.Cut(on, ":"); ok {
		on = name
	}
	for _, r := range b.ruled {
		if on == "" || on == r.On || on == r.Network {
			list = append(list, r)
		}
	}
	return list, nil
}

// AddRule adds a rule with the next id.
func (b *Backend) AddRule(_ context.Context, r api.RuleRequest) (api.RuleEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := api.RuleEntry{Rule: r.Rule, Network: "net1"}
	e.ID = "r" + strconv.Itoa(len(b.ruled)+1)
	b.ruled = append(b.ruled, e)
	return e, nil
}

// DeleteRule deletes a rule by its id.
func (b *Backend) DeleteRule(_ context.Context, r api.RuleDeletion) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.ruled)
	b.ruled = slices.DeleteFunc(b.ruled, func(x api.RuleEntry) bool { return x.ID == r.ID })
	if len(b.ruled) == before && !r.IfExists {
		return missing("rule", r.ID)
	}
	return nil
}
