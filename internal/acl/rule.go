package acl

import (
	"cmp"

	"vswitch/internal/api"
)

// Rule is one rule as a user writes it. Empty fields match everything.
type Rule struct {
	ID        string `json:"id,omitempty"`
	On        string `json:"on"`                  // whose it is: a network or port by name; "network:NAME" or "port:NAME" where both have the name
	Direction string `json:"direction"`           // in: what the port sends; out: what it gets
	Action    string `json:"action"`              // allow, deny, reject
	Priority  int    `json:"priority,omitempty"`  // 1 to 65535, the highest is asked first; 0: 32768
	Proto     string `json:"proto,omitempty"`     // by name or number
	Src       string `json:"src,omitempty"`       // a prefix, "@NAME" of a port or network, "@port:NAME", "@network:NAME"
	Dst       string `json:"dst,omitempty"`       // likewise
	SrcPorts  string `json:"sport,omitempty"`     // "80", "8000-8099", "80,443"
	DstPorts  string `json:"dport,omitempty"`     // likewise
	ICMPType  string `json:"icmp_type,omitempty"` // "echo-request", "3", "3/4": type/code
	SrcMAC    string `json:"src_mac,omitempty"`
	DstMAC    string `json:"dst_mac,omitempty"`
	EtherType string `json:"ethertype,omitempty"` // "arp", "ipv4", "ipv6", "0x88cc"
	Log       bool   `json:"log,omitempty"`
}

// Priorities of rules.
const (
	MaxPriority     = 65535
	DefaultPriority = 32768
)

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
func (r *Rule) priority() int { return cmp.Or(r.Priority, DefaultPriority) }

func invalid(format string, args ...any) error { return api.Errorf(api.CodeInvalid, format, args...) }
