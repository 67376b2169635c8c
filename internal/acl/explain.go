package acl

import (
	"fmt"

	"vswitch/internal/packet"
)

// maxLooks is how many rules an explanation names: those that were asked last.
const maxLooks = 16

// Explanation is a judgement with its reasons, for `trace`.
type Explanation struct {
	Result
	AsReply bool   // judged as what it is the reply to: directions and addresses are exchanged
	Looks   []Look // the last rules of the port and its network that were asked, and what became of it; the last one may have decided
	Skipped int    // rules that were asked before those
}

// Look is one rule's part in a decision.
type Look struct {
	Rule *Rule
	Why  string // what of the frame is other than the rule asks for; empty: it matches
}

// Explain judges as Judge does, rule by rule, and tells how. It is slow, and does not count.
func (s *Snapshot) Explain(dir Direction, port packet.PortID, q *Query, state State) Explanation {
	e := Explanation{Result: s.Judge(dir, port, q, state), AsReply: state == Reply}
	asked := *q
	if e.AsReply {
		asked, dir = q.Reverse(), dir.other()
	}
	for _, r := range s.ways[dir].rules {
		if r.onPort && (r.port != port || port == 0) {
			continue
		}
		why := r.matches(&asked)
		if len(e.Looks) == maxLooks {
			e.Looks = append(e.Looks[:0], e.Looks[1:]...)
			e.Skipped++
		}
		e.Looks = append(e.Looks, Look{&r.Rule, why})
		if why == "" {
			break
		}
	}
	return e
}

// Lines says the explanation to people, a line each: the rules asked, and last what was decided.
func (e *Explanation) Lines() (lines []string) {
	if e.AsReply {
		lines = append(lines, "a reply: judged as what it answers")
	}
	if e.Skipped > 0 {
		lines = append(lines, fmt.Sprintf("%d rules before these do not match", e.Skipped))
	}
	for _, l := range e.Looks {
		if l.Why != "" {
			lines = append(lines, fmt.Sprintf("%s: no, %s", l.Rule.name(), l.Why))
		}
	}
	if r := e.Rule(); r != nil {
		return append(lines, fmt.Sprintf("%s: %s", r.name(), e.Action))
	}
	return append(lines, fmt.Sprintf("%s: %s", e.Action, e.Policy))
}
