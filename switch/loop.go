package l2switch

import (
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vswitch/internal/packet"
)

// Loops finds ports of a bridge that are connected outside of it, and says which of them to block.
//
//	                         answered
//	 idle ---------> probing ---------> blocked <-----------+
//	  ^   suspicion,    | unanswered,      | backoff        | answered:
//	  |   port is up    | still suspected  v                | backoff doubles
//	  |                 v              retrying ------------+
//	  |             listening ---> blocked |
//	  +-----------------+------------------+ unanswered
//
//	suspicion  a frame came in by a port although its source belongs to another one. Both are probed: a few frames, of which
//	           each is expected nowhere
//	answered   a probe of one port came in by another, or by itself: they are connected. The one that joined the bridge later
//	           is blocked, so that what worked before goes on. Where one of them is blocked already, the loop is cut
//	listening  a storm may fill all queues, so that no probe gets through. A port over which misplaced frames still pour in
//	           after a round of probes carries nothing for a fraction of a second, and is probed once its queue is empty
//	writes     the slow path of any worker, in Suspect and Heard; who carries out what step says
//	idle cost  none: an idle port has no timer and is never probed
//	safety     one mutex; Suspect takes it at most once per suspectInterval
type Loops struct {
	bridge [16]byte // names the bridge in its probes
	last   atomic.Int64

	misplaced atomic.Uint64 // frames whose source belongs to another port than that they came in by

	mu     sync.Mutex
	ports  map[packet.PortID]*loopPort // guarded by mu
	busy   map[packet.PortID]*loopPort // guarded by mu; those that are not idle
	joined uint64                      // guarded by mu; ports so far
}

// Times of the search for loops.
const (
	suspectInterval = 10 * time.Millisecond  // between two suspicions of one bridge that are heard
	probeInterval   = 100 * time.Millisecond // between the probes of a round
	suspectWait     = 100 * time.Millisecond // for the answer to a round's last probe
	quietTime       = 200 * time.Millisecond // after a round in vain, before the next one
	drainTime       = 50 * time.Millisecond  // of a listening port, before its first probe
	spareTime       = 10 * time.Second       // after listening in vain, before listening again
	retryWait       = time.Second            // for the answer to the last probe of a port that is retried
	nonceTime       = 2 * time.Second        // how long an answer counts
	minBackoff      = 5 * time.Second        // before a blocked port is tried again; doubled each time
	maxBackoff      = 60 * time.Second
)

// stormFrames is how many misplaced frames during a round of probes make it a storm.
const stormFrames = 1000

// probes of a round.
const (
	suspectProbes = 3
	listenProbes  = 2
	retryProbes   = 3
	upProbes      = 1
)

type loopPhase uint8

const (
	idle loopPhase = iota
	probing
	listening
	blocked
	retrying
)

// loopPort is what is known of one port. Times are nanoseconds.
type loopPort struct {
	id     packet.PortID
	joined uint64 // its place in the order in which ports joined
	phase  loopPhase

	vlan  uint16 // of the round
	nonce [16]byte
	left  int   // probes still to be sent
	wait  int64 // for the answer to the last one; 0: the port is idle meanwhile, and free for a suspicion
	next  int64 // when the next step is due
	until int64 // answers count until then
	heard answers

	misplaced uint64 // those of the bridge when the round began
	suspected int64  // when the last misplaced frame came in by it
	quiet     int64  // no round before
	spared    int64  // no listening before

	peer    packet.PortID // the other end of the loop for which it is blocked; itself when frames come back at once
	backoff int64         // before it is tried again
	recent  int64         // blocked again before this time, it waits twice as long
}

// answers are the ports by which the probes of a round came back. Those after the first few are left for another round.
type answers struct {
	at     [4]packet.PortID
	n      int
	judged int // what they mean was seen to
}

func (a *answers) add(in packet.PortID) bool {
	if a.n == len(a.at) || slices.Contains(a.at[:a.n], in) {
		return false
	}
	a.at[a.n] = in
	a.n++
	return true
}

// cut tells whether the port is blocked.
func (p *loopPort) cut() bool { return p.phase == blocked || p.phase == retrying }

// LoopNews is what somebody should be told.
type LoopNews struct {
	Port, Peer packet.PortID // Peer is Port when a port's own frames come back to it
	VLAN       uint16
	Blocked    bool          // else the loop is gone, and Port carries frames again
	Retry      time.Duration // Blocked: when it is tried again
}

// steps is what step wants to be done.
type steps struct {
	discard []packet.PortID // carry nothing from now on
	forward []packet.PortID // carry frames again
	probes  []Probe
	news    []LoopNews
}

func newLoops() *Loops {
	l := &Loops{ports: map[packet.PortID]*loopPort{}, busy: map[packet.PortID]*loopPort{}}
	rand.Read(l.bridge[:])
	return l
}

// mac is the source of the bridge's probes: a random address, locally administered.
func (l *Loops) mac() (m [6]byte) {
	copy(m[:], l.bridge[:])
	m[0] = m[0]&^1 | 2
	return m
}

// Owns tells whether the probe is one of this bridge's: it is nobody else's business, whatever it is worth.
func (l *Loops) Owns(p *Probe) bool { return p.Bridge == l.bridge }

// join notes a port; it may be known already.
func (l *Loops) join(id packet.PortID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports[id] == nil {
		l.joined++
		l.ports[id] = &loopPort{id: id, joined: l.joined}
	}
}

// leave forgets a port. Those that are blocked because of it are tried again at the next step.
func (l *Loops) leave(id packet.PortID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ports, id)
	delete(l.busy, id)
	for _, p := range l.busy {
		if p.phase == blocked && p.peer == id {
			p.next = 0
		}
	}
}

// Suspect takes down that a frame in vlan came in by one port at now while its source belongs to another, and tells whether
// there is something new to do. Safe for concurrent use.
func (l *Loops) Suspect(vlan uint16, in, other packet.PortID, now int64) bool {
	l.misplaced.Add(1)
	last := l.last.Load()
	if now-last < int64(suspectInterval) || !l.last.CompareAndSwap(last, now) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.ports[in]
	if p == nil {
		return false
	}
	p.suspected = now
	woken := l.ask(p, vlan, suspectProbes, int64(suspectWait), now)
	if q := l.ports[other]; q != nil {
		woken = l.ask(q, vlan, suspectProbes, int64(suspectWait), now) || woken
	}
	return woken
}

// up asks whether a port that came up has brought a loop.
func (l *Loops) up(id packet.PortID, vlan uint16, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.ports[id]; p != nil {
		p.quiet = 0
		l.ask(p, vlan, upProbes, 0, now)
	}
}

// Heard takes down that a probe of this bridge came in by a port at now, and tells whether that is news. Safe for concurrent
// use.
func (l *Loops) Heard(probe *Probe, in packet.PortID, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.ports[probe.Port]
	if p == nil || l.ports[in] == nil || now >= p.until || p.nonce != probe.Nonce || p.vlan != probe.VLAN || !p.heard.add(in) {
		return false
	}
	l.busy[p.id] = p
	return true
}

// Blocked returns the other end of the loop for which a port is blocked.
func (l *Loops) Blocked(id packet.PortID) (peer packet.PortID, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.ports[id]
	if p == nil || !p.cut() {
		return 0, false
	}
	return p.peer, true
}

// ask starts a round for an idle port. Callers hold mu, as for all that follows.
func (l *Loops) ask(p *loopPort, vlan uint16, probes int, wait, now int64) bool {
	if p.phase != idle || now < p.quiet {
		return false
	}
	p.misplaced = l.misplaced.Load()
	l.round(p, probing, vlan, probes, wait, now)
	return true
}

// round makes the port send probes from next on.
func (l *Loops) round(p *loopPort, phase loopPhase, vlan uint16, probes int, wait, next int64) {
	p.phase, p.vlan, p.left, p.wait, p.next, p.heard = phase, vlan, probes, wait, next, answers{}
	rand.Read(p.nonce[:])
	p.until = next + int64(nonceTime)
	l.busy[p.id] = p
}
