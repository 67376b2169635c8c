package l2switch

import (
	"cmp"
	"crypto/rand"
	"maps"
	"math"
	"slices"
	"time"

	"vswitch/internal/packet"
)

// never is when the next step is due while nothing is under way.
const never = math.MaxInt64

// step says what is to be done at now, and when the next step is due.
func (l *Loops) step(now int64) (s steps, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.SortedFunc(maps.Values(l.busy), func(a, b *loopPort) int { return cmp.Compare(a.joined, b.joined) })
	for _, p := range list {
		for p.heard.judged < p.heard.n {
			p.heard.judged++
			l.answered(p, p.heard.at[p.heard.judged-1], now, &s)
		}
	}
	for _, p := range list {
		if p.phase != idle && now >= p.next {
			l.advance(p, now, &s)
		}
	}
	next = never
	for id, p := range l.busy {
		if p.phase == idle {
			delete(l.busy, id)
		} else {
			next = min(next, p.next)
		}
	}
	return s, next
}

// answered judges that a probe of p came back by a port. That one of the two is blocked already is no reason to end p's round:
// it may have more to tell.
func (l *Loops) answered(p *loopPort, in packet.PortID, now int64, s *steps) {
	later, earlier, vlan := p, l.ports[in], p.vlan
	if earlier == nil {
		return // the other port was removed meanwhile, and the loop with it
	}
	if earlier.joined > later.joined {
		later, earlier = earlier, later
	}
	if !later.cut() && earlier.cut() {
		later, earlier = earlier, later
	}
	switch later.phase {
	case blocked: // the loop is cut
	case retrying:
		later.backoff = min(2*later.backoff, int64(maxBackoff))
		later.block(earlier.id, now)
	default:
		l.cutAt(later, earlier.id, vlan, now, s)
	}
}

// cutAt blocks the port, whose loop in vlan leads to peer.
func (l *Loops) cutAt(p *loopPort, peer packet.PortID, vlan uint16, now int64, s *steps) {
	if now < p.recent {
		p.backoff = min(2*p.backoff, int64(maxBackoff))
	} else {
		p.backoff = int64(minBackoff)
	}
	p.vlan = vlan
	p.block(peer, now)
	for _, q := range l.busy { // there may be more of it: a bridge of three ports
		q.quiet, q.spared = 0, 0
	}
	l.busy[p.id] = p
	s.discard = append(s.discard, p.id)
	s.news = append(s.news, LoopNews{Port: p.id, Peer: peer, VLAN: p.vlan, Blocked: true, Retry: time.Duration(p.next - now)})
}

// block sets the time of the next try: the backoff give or take a quarter. Two switches with a loop between them that blocked
// a port each would otherwise open both at the same time, for ever.
func (p *loopPort) block(peer packet.PortID, now int64) {
	rand.Read(p.nonce[:])
	p.phase, p.peer, p.heard = blocked, peer, answers{}
	p.next = now + p.backoff*3/4 + p.backoff/2*int64(p.nonce[0])/256
}

// advance takes the step that is due.
func (l *Loops) advance(p *loopPort, now int64, s *steps) {
	switch {
	case p.phase == blocked:
		l.round(p, retrying, p.vlan, retryProbes, int64(retryWait), now)
		if q := l.ports[p.peer]; q != nil { // frames may go round in one direction only
			q.quiet = 0
			l.ask(q, p.vlan, retryProbes, int64(suspectWait), now)
			l.send(q, now, s)
		}
		l.send(p, now, s)
	case p.left > 0:
		l.send(p, now, s)
	case p.phase == probing && l.storms(p, now) && now >= p.spared:
		l.round(p, listening, p.vlan, listenProbes, int64(suspectWait), now+int64(drainTime))
		s.discard = append(s.discard, p.id)
	case p.phase == probing:
		p.phase, p.quiet = idle, now+int64(quietTime)
	case p.phase == listening:
		p.phase, p.quiet, p.spared = idle, now+int64(quietTime), now+int64(spareTime)
		s.forward = append(s.forward, p.id)
	case p.phase == retrying:
		p.phase, p.recent = idle, now+2*p.backoff
		s.forward = append(s.forward, p.id)
		s.news = append(s.news, LoopNews{Port: p.id, Peer: p.peer, VLAN: p.vlan})
	}
}

// storms tells whether misplaced frames pour in by the port.
func (l *Loops) storms(p *loopPort, now int64) bool {
	return now-p.suspected < int64(suspectWait) && l.misplaced.Load()-p.misplaced >= stormFrames
}

// send lets the port send the next probe of its round.
func (l *Loops) send(p *loopPort, now int64, s *steps) {
	if p.left == 0 || p.next > now {
		return
	}
	s.probes = append(s.probes, Probe{Bridge: l.bridge, Port: p.id, VLAN: p.vlan, Nonce: p.nonce})
	p.left--
	p.next = now + int64(probeInterval)
	if p.left == 0 {
		p.next = now + p.wait
		if p.wait == 0 {
			p.phase = idle
		}
	}
	p.until = now + int64(nonceTime)
}
