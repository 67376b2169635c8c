package acl

import (
	"strconv"
	"strings"

	"vswitch/internal/api"
)

// The grammar of one rule, as `vsctl add-rule` takes it; options in any order, each once, "--option value" or "--option=value":
//
//	NETWORK|PORT in|out allow|deny|reject [--proto P] [--src CIDR|@PORT|@NETWORK] [--dst ...] [--sport R] [--dport R]
//	    [--icmp-type T[/CODE]] [--src-mac MAC] [--dst-mac MAC] [--ethertype T] [--priority N] [--log]
const usage = "write: NETWORK|PORT in|out allow|deny|reject [--proto P] [--src CIDR|@NAME] [--dst CIDR|@NAME] [--sport PORTS] [--dport PORTS] " +
	"[--icmp-type T] [--src-mac MAC] [--dst-mac MAC] [--ethertype T] [--priority N] [--log]"

// option is a word of the grammar that takes a value, and where the value goes.
type option struct {
	name string
	of   func(*Rule) *string
}

var options = []option{
	{"--proto", func(r *Rule) *string { return &r.Proto }},
	{"--src", func(r *Rule) *string { return &r.Src }},
	{"--dst", func(r *Rule) *string { return &r.Dst }},
	{"--sport", func(r *Rule) *string { return &r.SrcPorts }},
	{"--dport", func(r *Rule) *string { return &r.DstPorts }},
	{"--icmp-type", func(r *Rule) *string { return &r.ICMPType }},
	{"--src-mac", func(r *Rule) *string { return &r.SrcMAC }},
	{"--dst-mac", func(r *Rule) *string { return &r.DstMAC }},
	{"--ethertype", func(r *Rule) *string { return &r.EtherType }},
}

// Parse reads a rule and returns it in its canonical form: Parse(r.String()) is r.
func Parse(text string) (Rule, error) {
	words := strings.Fields(text)
	if len(words) < 3 {
		return Rule{}, invalid("rule %.200q: a rule has at least three words; %s", text, usage)
	}
	r := Rule{On: words[0], Direction: words[1], Action: words[2]}
	seen := make(map[string]bool)
	for words = words[3:]; len(words) > 0; {
		name, value, joined := strings.Cut(words[0], "=")
		words = words[1:]
		if seen[name] {
			return Rule{}, invalid("rule %.200q: %s is given twice; add a second rule instead", text, name)
		}
		seen[name] = true
		if name == "--log" {
			if joined {
				return Rule{}, invalid("rule %.200q: --log takes no value", text)
			}
			r.Log = true
			continue
		}
		if !known(name) {
			return Rule{}, invalid("rule %.200q: %.70q is not known; %s", text, name, usage)
		}
		if !joined && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		if value == "" || !joined && strings.HasPrefix(value, "--") {
			return Rule{}, invalid("rule %.200q: %s lacks its value; %s", text, name, usage)
		}
		if err := r.set(name, value); err != nil {
			return Rule{}, err
		}
	}
	return Check(r)
}

func known(name string) bool {
	for _, o := range options {
		if o.name == name {
			return true
		}
	}
	return name == "--priority"
}

// set enters the value of an option that is known.
func (r *Rule) set(name, value string) error {
	for _, o := range options {
		if o.name == name {
			*o.of(r) = value
			return nil
		}
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > MaxPriority {
		return invalid("--priority %.70q: use a number from 1 to %d; the highest is asked first, %d is the default", value, MaxPriority, api.DefaultRulePriority)
	}
	r.Priority = n
	return nil
}

// String writes the rule in the words of the grammar, without its ID.
func (r *Rule) String() string { return api.Rule(*r).String() }

// Text is String from the direction on.
func (r *Rule) Text() string { return api.Rule(*r).Text() }
