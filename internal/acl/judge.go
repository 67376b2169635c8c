package acl

import (
	"iter"

	"vswitch/internal/api"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// State is what is known of the connection that a frame belongs to.
type State uint8

// New: there is no connection, or nobody has looked. Original: there is one, and the frame goes the way of its first. Reply: the
// frame goes the other way. An ICMP error about a connection is asked about with the reverse of what it quotes, since that is the way it
// goes, and with Original or Reply accordingly.
const (
	New State = iota
	Original
	Reply
)

// Policy is what decides where no rule does.
type Policy uint8

// PolicyRule: a rule has decided. PolicyAllow: nothing stands against it. PolicyICC: the network is --icc=false.
const (
	PolicyRule Policy = iota
	PolicyAllow
	PolicyICC
)

var policies = [...]string{"a rule", "no rule matches", "no rule matches, and the network is --icc=false"}

// String says it to people.
func (p Policy) String() string { return policies[p] }

// Result is a judgement.
type Result struct {
	Action Action
	Policy Policy

	// NeedsState is set when state decides: a frame that is refused might be a reply, or the reply to one that is allowed
	// would be refused if nobody knew what it answers. With Reply it always is.
	NeedsState bool

	rule *rule
	log  *limiter
}

// Judge tells what becomes of a frame. dir says whether it comes in from the port or is about to go out to it. It has no side effects
// and does not allocate; Result.Hit counts.
func (s *Snapshot) Judge(dir Direction, port packet.PortID, q *Query, state State) Result {
	if state == Reply {
		r := q.Reverse()
		result := s.decide(dir.other(), port, &r)
		result.NeedsState = true
		return result
	}
	result := s.decide(dir, port, q)
	if s.state && q.trackable() {
		result.NeedsState = result.Action != Allow || s.refusesReply(dir, port, q)
	}
	return result
}

// refusesReply tells whether the reply to a frame would be refused if nobody knew what it is.
func (s *Snapshot) refusesReply(dir Direction, port packet.PortID, q *Query) bool {
	r := q.Reverse()
	return s.decide(dir.other(), port, &r).Action != Allow
}

func (s *Snapshot) decide(dir Direction, port packet.PortID, q *Query) Result {
	if r := s.ways[dir].first(port, q); r != nil {
		return Result{Action: r.m.action, rule: r, log: s.log}
	}
	if s.conf.NoICC && dir == In && !q.Gateway && (!s.opens || !q.essential()) {
		return Result{Action: Deny, Policy: PolicyICC}
	}
	return Result{Policy: PolicyAllow}
}

// Rule returns the rule that decided, nil when a policy did. The caller doesn't change it.
func (r *Result) Rule() *Rule {
	if r.rule == nil {
		return nil
	}
	return &r.rule.Rule
}

// Hit counts the packets of a frame for the rule that decided about it, at now in nanoseconds. It tells whether to log it, and how many have not been
// logged since the last that was, because there were too many.
func (r *Result) Hit(now int64, packets int) (log bool, missed uint64) {
	if r.rule == nil {
		return false, 0
	}
	c := r.rule.count
	c.Add(uint64(packets), now)
	if !r.rule.Log {
		return false, 0
	}
	if !c.log.take(now) || !r.log.take(now) {
		c.missed.Add(1)
		return false, 0
	}
	return true, c.missed.Swap(0)
}

// Tally returns what counts the packets that the rule decided about, for a decision that is cached; nil when a policy decided.
func (r *Result) Tally() *flow.Tally {
	if r.rule == nil {
		return nil
	}
	return &r.rule.count.Tally
}

// Stats is a rule with what it has counted.
type Stats struct {
	Rule Rule
	Hits uint64 // packets
	Last int64  // time of the last one, nanoseconds as given to Hit; 0: never
}

// Stats returns all rules in the order in which they are asked, those of direction in first.
func (s *Snapshot) Stats() []Stats {
	var all []Stats
	for r := range s.all() {
		all = append(all, Stats{r.Rule, r.count.Packets(), r.count.Last()})
	}
	return all
}

func (s *Snapshot) all() iter.Seq[*rule] {
	return func(yield func(*rule) bool) {
		for _, c := range s.ways {
			for _, r := range c.rules {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// Empty tells whether all frames are allowed and nothing is counted: nobody has to ask.
func (s *Snapshot) Empty() bool {
	return len(s.ways[In].rules)+len(s.ways[Out].rules) == 0 && !s.conf.NoICC
}

// Has tells whether anything is said of a direction: without, frames to groups, which no replies are, need not be judged.
func (s *Snapshot) Has(dir Direction) bool {
	return len(s.ways[dir].rules) > 0 || s.conf.NoICC && dir == In
}

// Network returns the network's name.
func (s *Snapshot) Network() string { return s.conf.Network }

// NoICC tells whether the network is --icc=false.
func (s *Snapshot) NoICC() bool { return s.conf.NoICC }

// Stateful tells whether any judgement can need state: without, no frame has to be looked up among the connections. With it all connections are
// worth knowing, so that a rule that is new meets them as what they are.
func (s *Snapshot) Stateful() bool { return s.state }

// StatefulSince returns when that became so, nanoseconds: of connections that are older nobody knows who began them. 0: there are none.
func (s *Snapshot) StatefulSince() int64 { return s.since }

// Deep tells whether judgements lean on more of a frame than Key.L2.
func (s *Snapshot) Deep() bool { return s.deep }

// UsesPort tells whether a rule is on the port or names it: when it gets another ID or other addresses, Set has to be called.
func (s *Snapshot) UsesPort(name string) bool { return s.uses[ref{api.KindPort, name}] }

// UsesNetwork tells whether a rule names the network: when its subnets change, Set has to be called.
func (s *Snapshot) UsesNetwork(name string) bool { return s.uses[ref{api.KindNetwork, name}] }
