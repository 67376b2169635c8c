package acl

import (
	"cmp"

	"vswitch/internal/api"
)

// Rule is one rule as a user writes it.
type Rule api.Rule

// MaxPriority is the highest priority of rules; the lowest is 1.
const MaxPriority = 65535

// Direction is a frame's way as the switch sees it.
type Direction uint8

// In is from a port into the switch, Out is from the switch to a port.
const (
	In Direction = iota
	Out
)

var directions = []string{"in", "out"}

// String returns the word for it.
func (d Direction) String() string { return directions[d] }

func (d Direction) other() Direction { return 1 - d }

// Action is what becomes of a frame.
type Action uint8

// Deny is silent. Reject tells the sender: a RST for TCP, an ICMP error for the rest of IP; what can't be told so is denied.
const (
	Allow Action = iota
	Deny
	Reject
)

var actions = []string{"allow", "deny", "reject"}

// String returns the word for it.
func (a Action) String() string { return actions[a] }

// Check tells what is wrong with a rule, and returns it in its canonical form: of rules that mean the same it is the same. It does
// not know which names exist.
func Check(r Rule) (Rule, error) {
	m, err := read(&r)
	if err != nil {
		return Rule{}, err
	}
	return m.canonical(&r), nil
}

// name is how errors and logs call the rule.
func (r *Rule) name() string {
	if r.ID == "" {
		return "rule '" + r.String() + "'"
	}
	return "rule " + r.ID + " '" + r.String() + "'"
}

// priority returns the rule's priority with the default filled in.
func (r *Rule) priority() int { return cmp.Or(r.Priority, api.DefaultRulePriority) }

func invalid(format string, args ...any) error { return api.Errorf(api.CodeInvalid, format, args...) }
