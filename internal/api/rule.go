package api

import (
	"strconv"
	"strings"
)

// DefaultRulePriority is that of a rule that names none.
const DefaultRulePriority = 32768

// Rule allows, denies or rejects frames. Empty fields match everything.
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

// String writes the rule as vsctl add-rule takes it, without its id.
func (r Rule) String() string { return r.On + " " + r.Text() }

// Text is String from the direction on.
func (r Rule) Text() string {
	var b strings.Builder
	b.WriteString(r.Direction + " " + r.Action)
	for _, o := range [...]struct{ name, value string }{
		{"proto", r.Proto}, {"src", r.Src}, {"dst", r.Dst}, {"sport", r.SrcPorts}, {"dport", r.DstPorts}, {"icmp-type", r.ICMPType},
		{"src-mac", r.SrcMAC}, {"dst-mac", r.DstMAC}, {"ethertype", r.EtherType},
	} {
		if o.value != "" {
			b.WriteString(" --" + o.name + " " + o.value)
		}
	}
	if r.Priority != 0 && r.Priority != DefaultRulePriority {
		b.WriteString(" --priority " + strconv.Itoa(r.Priority))
	}
	if r.Log {
		b.WriteString(" --log")
	}
	return b.String()
}

// RuleRequest adds a rule behind those of its priority. Its ID is given by the daemon.
type RuleRequest struct {
	Rule
	MayExist bool `json:"may_exist,omitempty"` // that there is the same one already is no error
}

// RuleDeletion takes a rule away.
type RuleDeletion struct {
	ID       string `json:"id"`
	IfExists bool   `json:"if_exists,omitempty"` // that there is none is no error
}

// RuleEntry is a rule with what it has counted.
type RuleEntry struct {
	Rule
	Network string `json:"network,omitempty"` // whose frames it judges; none: its port is on no network
	Packets uint64 `json:"packets"`           // that it decided about
	Idle    int    `json:"idle,omitempty"`    // seconds since the last; none: there was none
}
