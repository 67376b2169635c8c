package nat

import (
	"time"

	"vswitch/internal/packet"
)

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

// Timeouts say how long a connection lives unused. A field that is not positive stands for its default.
type Timeouts struct {
	TCPOpening     time.Duration // 240 s: not answered, or not acknowledged (RFC 5382 5)
	TCPEstablished time.Duration // 7440 s (RFC 5382 REQ-5: 2 hours 4 minutes at least)
	TCPClosing     time.Duration // 240 s: after a FIN from both sides
	UDPNew         time.Duration // 120 s (RFC 4787 REQ-5)
	UDP            time.Duration // 300 s, once answered (as RFC 4787 REQ-5 recommends)
	ICMP           time.Duration // 60 s (RFC 5508 REQ-2)
	SCTPOpening    time.Duration // 60 s
	SCTP           time.Duration // 300 s: ten heartbeats (RFC 9260 16)
	SCTPClosing    time.Duration // 30 s
	Other          time.Duration // 600 s: other protocols, which have no ports
	Aborted        time.Duration // 10 s: after a RST or ABORT
}

// Defaults of Timeouts.
const (
	DefaultTCPOpening     = 240 * time.Second
	DefaultTCPEstablished = 7440 * time.Second
	DefaultTCPClosing     = 240 * time.Second
	DefaultUDPNew         = 120 * time.Second
	DefaultUDP            = 300 * time.Second
	DefaultICMP           = 60 * time.Second
	DefaultSCTPOpening    = 60 * time.Second
	DefaultSCTP           = 300 * time.Second
	DefaultSCTPClosing    = 30 * time.Second
	DefaultOther          = 600 * time.Second
	DefaultAborted        = 10 * time.Second
)

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

// table is Timeouts, in nanoseconds, as it is looked up.
func (o Timeouts) table() [kinds][states]int64 {
	or := func(d, otherwise time.Duration) int64 {
		if d <= 0 {
			d = otherwise
		}
		return int64(d)
	}
	aborted := or(o.Aborted, DefaultAborted)
	opening, sctp := or(o.TCPOpening, DefaultTCPOpening), or(o.SCTPOpening, DefaultSCTPOpening)
	icmp, other := or(o.ICMP, DefaultICMP), or(o.Other, DefaultOther)
	fresh, udp := or(o.UDPNew, DefaultUDPNew), or(o.UDP, DefaultUDP)
	return [kinds][states]int64{
		kindTCP: {
			New: opening, Opening: opening, Established: or(o.TCPEstablished, DefaultTCPEstablished),
			Closing: or(o.TCPClosing, DefaultTCPClosing), Aborted: aborted,
		},
		kindUDP:  {New: fresh, Established: udp},
		kindICMP: {New: icmp, Established: icmp},
		kindSCTP: {
			New: sctp, Opening: sctp, Established: or(o.SCTP, DefaultSCTP),
			Closing: or(o.SCTPClosing, DefaultSCTPClosing), Aborted: aborted,
		},
		kindOther: {New: other, Established: other},
	}
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
