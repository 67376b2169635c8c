package nat

import "vswitch/internal/packet"

// State is how far a connection is.
//
//	          first frame            Accept, or Open from the other side (TCP, SCTP)
//	        -------------> New ----------------------------------------------------> Opening
//	                        |  an answer (other protocols, or taken up midway)          | Data
//	                        '------------------------> Established <------------------- '
//	Open from who opened it: New again                      | Close from both sides (RFC 5382 5: half closed is not closing)
//	^                                                       v
//	'------------------------------------------------- Closing
//	Abort leads from each to Aborted; what comes then, but Abort and Open, leads back: the sender of a forged reset ends nothing.
type State uint8

// The states. 0 is none.
const (
	New State = iota + 1
	Opening
	Established
	Closing
	Aborted
	states
)

// String returns the state's name, as in lists.
func (s State) String() string {
	return [...]string{"", "new", "opening", "established", "closing", "aborted"}[s]
}

// lasting tells whether the connection is one that others make room for.
func (s State) lasting() bool { return s == Established }

// closed tells whether the connection's external port may be given to another one.
func (s State) closed() bool { return s == Closing || s == Aborted }

// kind is a column of timeouts.
type kind uint8

const (
	kindTCP kind = iota
	kindUDP
	kindICMP
	kindSCTP
	kindOther
	kinds
)

func kindOf(proto uint8) kind {
	switch proto {
	case packet.ProtoTCP:
		return kindTCP
	case packet.ProtoUDP, packet.ProtoUDPLite, packet.ProtoDCCP:
		return kindUDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return kindICMP
	case packet.ProtoSCTP:
		return kindSCTP
	}
	return kindOther
}

// progress is the state of a connection and what it needs to go on.
type progress struct {
	state  State
	before State // Aborted: where it came from
	closes uint8 // which sides have closed: 1 who opened it, 2 the other
}

// step moves the connection on after a frame that goes in the reply direction or not. It tells whether decisions made before hold no
// longer, for they let frames pass that must be seen here: the first ones of a connection, and what follows a reset.
func (p *progress) step(k kind, reply bool, s Signal) (invalid bool) {
	if k != kindTCP && k != kindSCTP {
		if reply {
			p.state = Established
		}
		return false
	}
	if s == Abort {
		if p.state == Aborted {
			return false
		}
		p.before, p.state = p.state, Aborted
		return true
	}
	if s == Open && !reply && p.state.closed() { // RFC 9293 3.6.1: a port may be used again
		*p = progress{state: New}
		return true
	}
	if p.state == Aborted {
		p.state = p.before
	}
	switch {
	case (s == Accept || s == Open) && reply && p.state == New: // Open: both at once (RFC 5382 REQ-2)
		p.state = Opening
	case s == Open:
	case p.state == Opening && (s != Accept || !reply), p.state == New && reply:
		p.state = Established
	}
	if s == Close {
		side := uint8(1)
		if reply {
			side = 2
		}
		if p.closes |= side; p.closes == 3 {
			p.state = Closing
		}
	}
	return false
}

// steady tells whether further frames with no signal change nothing, so that a decision about them may be cached.
func (p *progress) steady(k kind) bool {
	return k != kindTCP && k != kindSCTP || p.state == Established || p.state == Closing
}
