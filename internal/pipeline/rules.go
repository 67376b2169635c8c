package pipeline

import (
	"encoding/binary"
	"time"

	"vswitch/internal/acl"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/nat"
)

// Rules is what a network's frames are judged by, and where it is known which of those within the network are replies: of what is
// routed, its gateway's NAT knows. It never changes; the filter's rules do.
type Rules struct {
	Filter  *acl.Filter // its renew is the network's Bridge.Renew
	Zone    uint16      // of the network's own connections; no router has it
	Network uint32      // the network's, from 1: whose connections are counted
	Conns   *nat.Table  // of all networks
}

// SetRules gives the network its rules, in place of those it has; nil: all is allowed.
func (n *Network) SetRules(r *Rules) {
	n.rules.Store(r)
	n.Bridge.Renew()
}

// judges returns what judges the network's frames, or nil. Load the generation, or the version of Config, before it.
func (n *Network) judges() *acl.Snapshot {
	r := n.rules.Load()
	if r == nil {
		return nil
	}
	if s := r.Filter.Snapshot(); !s.Empty() {
		return s
	}
	return nil
}

// Judged is a judgement by a rule with --log.
type Judged struct {
	Network, Port string
	Direction     acl.Direction
	Rule          *acl.Rule
	Key           packet.Key // of the frame as it came in
	Missed        uint64     // judgements by the rule since the last one told, that were too many to tell
}

// maxJudged is how many wait to be taken from Judged. Rules limit themselves to fewer a second.
const maxJudged = 256

// Judged tells of judgements by rules with --log. When nobody takes them, they are lost.
func (p *Pipeline) Judged() <-chan Judged { return p.judged }

// judgement is what a walk knows of rules.
type judgement struct {
	filter  *acl.Snapshot // of the ingress network; nil: all is allowed
	query   acl.Query     // made at the first question, see ask
	asked   bool
	state   acl.State // Original or Reply: the frame's connection is known
	leans   bool      // state decides, about the frame or its reply: its connection has to be there
	follows bool      // a network on its way wants to know of connections
	since   int64     // from when on it does
	unruled bool      // no rule decided at the ingress
	alone   bool      // a group frame that --icc=false keeps from everybody but the gateway
}

// ask makes the question that rules are asked: who speaks to whom, as both see themselves. So of what is translated it has the source
// before and the destination behind.
func (w *walk) ask() *acl.Query {
	if w.asked {
		return &w.query
	}
	w.asked = true
	if w.state != acl.New && w.f.Flags&packet.FlagICMPError != 0 {
		w.query = w.askQuoted()
	} else {
		w.query = acl.FromFrame(w.f)
		switch {
		case w.published != nil:
			w.query.Dst = w.dst
			if w.target.Port != 0 {
				w.query.DstPort = w.target.Port
			}
		case w.rewrite != nil && w.rewrite.NewDst:
			w.query.Dst, w.query.DstPort = w.dst, w.rewrite.DstPort
		}
	}
	w.query.Gateway = w.fib != nil
	return &w.query
}

// askQuoted is ask for an ICMP error about a connection: it goes the way of a reply to what it quotes.
func (w *walk) askQuoted() acl.Query {
	k, e := &w.f.Key, &w.quote
	t := e.Quote.Transport()
	q := acl.Query{
		SrcMAC: k.DstMAC, DstMAC: k.SrcMAC, EtherType: k.EtherType, Src: w.dst, Proto: e.Quote.Proto,
		SrcPort: binary.BigEndian.Uint16(t), DstPort: binary.BigEndian.Uint16(t[2:]),
	}
	var dst [16]byte
	copy(dst[:], e.Quote.Dst())
	q.Dst = w.address(&dst)
	switch q.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		q.DstPort = binary.BigEndian.Uint16(t[4:]) // behind type, code and checksum: the identifier
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoDCCP, packet.ProtoUDPLite:
		if e.Quoted.NewSrc {
			q.SrcPort = e.Quoted.SrcPort
		}
	default:
		q.SrcPort, q.DstPort, q.NoPorts = 0, 0, true
	}
	return q.Reverse()
}

// judgeIn holds the frame against the rules of the port that it came by.
func (w *walk) judgeIn(stage string) bool {
	s := w.filter
	if s == nil {
		return true
	}
	w.look(s)
	if w.group() && !s.Has(acl.In) {
		return true
	}
	r := w.judge(stage, s, acl.In, w.in.ID, w.ask())
	w.v.Tallies[acl.In] = r.Tally()
	w.unruled = r.Policy == acl.PolicyAllow && w.state != acl.Reply
	switch {
	case r.Action == acl.Allow:
		return true
	case r.Policy != acl.PolicyICC:
		return w.refuseBy(stage, &r)
	case w.group() && w.gw != nil:
		w.alone = true
		return true
	}
	return w.drop(stage, packet.DropICCOff)
}

// judgeOut holds the frame against the rules of the ports by which it would leave.
func (w *walk) judgeOut(stage string) bool {
	s := w.filter
	if w.routed && w.to != w.net {
		s = w.to.judges()
	}
	if s == nil {
		return true
	}
	w.look(s)
	if w.group() && !s.Has(acl.Out) {
		return true
	}
	q := *w.ask()
	if w.routed {
		q.SrcMAC, q.DstMAC = w.hop.Src, w.hop.Dst
	}
	if w.out == nil {
		return w.judgeFlood(stage, s, &q)
	}
	r := w.judge(stage, s, acl.Out, w.out.ID, &q)
	w.v.Tallies[acl.Out] = r.Tally()
	return r.Action == acl.Allow || w.refuseBy(stage, &r)
}

// judgeFlood leaves out of a flood the ports whose rules refuse it. The sender is told only where nobody is left that might be meant.
func (w *walk) judgeFlood(stage string, s *acl.Snapshot, q *acl.Query) bool {
	members := w.set.Members
	var kept []flow.FloodMember
	refused := 0
	var last acl.Result
	for i, m := range members {
		if m.Port != w.in.ID {
			if r := w.judge(stage, s, acl.Out, m.Port, q); r.Action != acl.Allow {
				if refused++; refused == 1 {
					kept = append(kept, members[:i]...)
				}
				last = r
				continue
			}
		}
		if refused > 0 {
			kept = append(kept, m)
		}
	}
	if refused == 0 {
		return true
	}
	w.set = &flow.FloodSet{VLAN: w.set.VLAN, Members: kept}
	switch {
	case w.reaches(w.set):
		return true
	case w.group():
		return w.nobody(stage, reasons[last.Action])
	}
	return w.refuseBy(stage, &last)
}

// look notes what decisions lean on that ask rules. Of a fragment rules know less than of other frames with its key.
func (w *walk) look(s *acl.Snapshot) {
	if s.Stateful() && !w.group() {
		w.follows, w.since = true, max(w.since, s.StatefulSince())
	}
	if s.Deep() {
		w.deep = true
		w.v.Slow |= packet.FlagFragment
	}
}

// begins tells whether a frame of no known connection is taken for the first of one. TCP and SCTP say so. Of others, and of a connection that is met
// midway, it is not known, while connections may be older than the rules that ask for them: then who has the higher port is taken for
// the one who began. Else the answers to what a new rule denies would let it pass, as their reply.
func (w *walk) begins() bool {
	known := w.tuple.Proto == packet.ProtoTCP || w.tuple.Proto == packet.ProtoSCTP
	age := time.Duration(w.now - w.since)
	switch {
	case w.since == 0 || w.signal == nat.Open:
		return true
	case known && age > w.conns.Timeouts().TCPEstablished || !known && age > w.conns.Timeouts().UDP:
		return true // it would be known, if it had been used
	}
	return w.tuple.SrcPort >= w.tuple.DstPort
}

// judge asks the rules about a frame at a port, counts and tells.
func (w *walk) judge(stage string, s *acl.Snapshot, dir acl.Direction, port packet.PortID, q *acl.Query) acl.Result {
	if w.trace != nil {
		e := s.Explain(dir, port, q, w.state)
		w.trace.judged(stage, dir, w.portName(port), &e)
		w.leans = w.leans || e.NeedsState
		return e.Result
	}
	r := s.Judge(dir, port, q, w.state)
	w.leans = w.leans || r.NeedsState
	if log, missed := r.Hit(w.now, w.f.Segs); log {
		select {
		case w.p.judged <- Judged{
			Network: s.Network(), Port: w.portName(port), Direction: dir, Rule: r.Rule(), Key: w.f.Key, Missed: missed,
		}:
		default:
		}
	}
	return r
}

var reasons = [...]packet.DropReason{acl.Deny: packet.DropRuleDeny, acl.Reject: packet.DropRuleReject}

// refuseBy drops the frame as the rule says.
func (w *walk) refuseBy(stage string, r *acl.Result) bool {
	w.drop(stage, reasons[r.Action])
	if r.Action == acl.Reject {
		w.reject()
	}
	return false
}
