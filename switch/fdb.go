package l2switch

import (
	"sync"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// FDB says behind which port each MAC address is.
//
//	maps     (VLAN, MAC) -> port, learned from the sources of frames or set by a user (static)
//	writes   the slow path of any worker, in Learn; control verbs; a sweeper
//	reads    the slow path of any worker, in Lookup. Cached flows lean on an entry's cell and touch it, without a lock
//	limits   MACs learned in all, 1024 of them on one port, and MaxStatic static ones, which count apart and are never
//	         evicted. A port at its limit gives up its own oldest entry. When the table is full, the port that has most
//	         gives up its oldest: a flood of addresses costs others nothing that is within an equal share
//	damping  an address that moves too often stays at one port for a while, see MaxMoves
//	ageing   a learned entry that was no frame's source for Age, told by its cell, is not found any more; Sweep frees it.
//	         A flow that leans on it and is hit before the sweep keeps it alive
//	memory   entries in chunks of 256 that never move, reused for other entries with a higher version, kept as long as the
//	         FDB; an index of 16 bytes a bucket, at most half full. About 2.5 MB with 16384 entries
//	safety   one mutex. It is taken on the slow path only, twice per decision for some 50 ns (130 for a new entry), and what
//	         needs the whole table at once (limits, fairness, snapshots) stays simple; a million decisions a second hold it
//	         a tenth of the time. Sweep and Entries let go of it every chunk
type FDB struct {
	mu       sync.Mutex
	limits   Limits
	index    index
	chunks   []*[chunkSize]entry
	used     uint32 // slots taken from chunks so far
	free     uint32 // head of the slots given back, linked by next; 0: none
	ports    map[packet.PortID]*queue
	ranks    ranks
	learned  int
	static   int
	counters Counters
	flaps    flaps

	never flow.Cell // what a decision leans on that must not be cached
}

// Limits are the limits of an FDB. A field that is not positive stands for its default.
type Limits struct {
	MACs    int           // learned entries in all; 16384
	PerPort int           // learned entries on one port; 1024
	Age     time.Duration // how long a learned entry lives unused; 300 s
}

// Defaults of Limits, and the limit of static entries.
const (
	DefaultMACs    = 16384
	DefaultPerPort = 1024
	DefaultAge     = 300 * time.Second
	MaxStatic      = 16384
)

func (l Limits) withDefaults() Limits {
	if l.MACs <= 0 {
		l.MACs = DefaultMACs
	}
	if l.PerPort <= 0 {
		l.PerPort = DefaultPerPort
	}
	if l.Age <= 0 {
		l.Age = DefaultAge
	}
	return l
}

// Counters count what an FDB did since it was made.
type Counters struct {
	Learned       uint64 // new entries
	Moved         uint64 // entries that went to another port
	Expired       uint64 // entries unused for Age
	EvictedPort   uint64 // entries that made room on a port at its limit
	EvictedTable  uint64 // entries that made room in a full table
	RefusedStatic uint64 // sources that a static entry places elsewhere
	Damped        uint64 // entries that moved too often, once per hold-down
	Held          uint64 // moves refused during a hold-down
}

const chunkSize = 256

// never's version is 0 and stays so.
const neverVersion = 1

// entry is a slot of the slab. Slot 0 is not used, so that 0 is none.
type entry struct {
	cell       flow.Cell
	key        fdbKey
	owner      *queue // nil: the slot is free
	seen       int64  // the cell's LastUsed when the owner's queue last looked at it
	moves      moves
	prev, next uint32
	static     bool
}

// AllPorts stands for every port in Flush.
const AllPorts packet.PortID = 0

// NewFDB makes an empty FDB without ports.
func NewFDB(limits Limits) *FDB {
	return &FDB{limits: limits.withDefaults(), index: newIndex(), ports: map[packet.PortID]*queue{}, used: 1}
}

func (t *FDB) at(slot uint32) *entry { return &t.chunks[slot/chunkSize][slot%chunkSize] }

func (t *FDB) expired(e *entry, now int64) bool {
	return !e.static && now-e.cell.LastUsed() >= int64(t.limits.Age)
}

// Learn records that mac was the source of a frame in vlan from port at now, nanoseconds of the datapath's monotonic clock.
// It returns the entry's cell and version for the flow to lean on, with touch when the address is behind port now, and for
// outcomes that are Elsewhere the port where the address was, or is. With RefusedGone the cell's version never holds; a
// decision after Damped or Held must not be cached, since nothing tells of a hold-down's end. The caller made sure that mac
// is no group address. Safe for concurrent use.
func (t *FDB) Learn(vlan uint16, mac [6]byte, port packet.PortID, now int64) (cell *flow.Cell, version uint64, what Learned, old packet.PortID) {
	key := makeKey(vlan, mac)
	t.mu.Lock()
	slot := t.index.find(key)
	switch what, old = t.judge(slot, port, now); what {
	case New:
		if slot != 0 {
			t.counters.Expired++
			t.remove(slot)
		}
		slot = t.learn(key, t.ports[port])
	case Moved:
		e := t.at(slot)
		e.moves.count(e.owner.port, now)
		t.move(slot, t.ports[port])
	case RefusedStatic:
		t.counters.RefusedStatic++
	case Damped:
		t.damp(slot, port, now)
	case Held:
		t.counters.Held++
	case RefusedGone:
		t.mu.Unlock()
		return &t.never, neverVersion, what, old
	}
	e := t.at(slot)
	switch what {
	case Unchanged:
		e.cell.Touch(now)
	case New, Moved:
		e.cell.Touch(now)
		e.seen = now
	}
	cell, version = &e.cell, e.cell.Version()
	t.mu.Unlock()
	return cell, version, what, old
}

// Peek says what Learn would answer, and changes nothing.
func (t *FDB) Peek(vlan uint16, mac [6]byte, port packet.PortID, now int64) (what Learned, old packet.PortID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judge(t.index.find(makeKey(vlan, mac)), port, now)
}

// judge decides Learn for the entry in slot, 0 being none. Callers hold mu, as for all unexported methods below.
func (t *FDB) judge(slot uint32, port packet.PortID, now int64) (what Learned, old packet.PortID) {
	var e *entry
	if slot != 0 {
		if e = t.at(slot); t.expired(e, now) {
			e = nil
		}
	}
	switch {
	case e != nil && e.owner.port == port:
		return Unchanged, 0
	case t.ports[port] == nil:
		return RefusedGone, 0
	case e == nil:
		return New, 0
	case e.static:
		return RefusedStatic, e.owner.port
	case e.moves.held(now):
		return Held, e.owner.port
	case e.moves.exhausted(now):
		return Damped, e.owner.port
	}
	return Moved, e.owner.port
}

// Lookup returns the port behind which mac is in vlan, with the entry's cell and version as they are for that port. An entry
// that has expired is not found. Safe for concurrent use.
func (t *FDB) Lookup(vlan uint16, mac [6]byte, now int64) (port packet.PortID, cell *flow.Cell, version uint64, ok bool) {
	key := makeKey(vlan, mac)
	t.mu.Lock()
	if slot := t.index.find(key); slot != 0 {
		if e := t.at(slot); !t.expired(e, now) {
			port, cell, version, ok = e.owner.port, &e.cell, e.cell.Version(), true
		}
	}
	t.mu.Unlock()
	return port, cell, version, ok
}

// learn adds an entry for the key on the port, making room first.
func (t *FDB) learn(key fdbKey, q *queue) uint32 {
	if !t.makeRoom(q) && t.learned >= t.limits.MACs {
		victim := t.ranks.first()
		if q.learned.n == t.ranks.most {
			victim = q // with the new entry it would have more than any other
		}
		t.counters.EvictedTable++
		t.remove(t.oldest(victim))
	}
	t.counters.Learned++
	return t.take(key, q, false)
}

// makeRoom evicts the port's oldest entry when it is at its limit, and tells whether it did.
func (t *FDB) makeRoom(q *queue) bool {
	if q.learned.n < t.limit(q) {
		return false
	}
	t.counters.EvictedPort++
	t.remove(t.oldest(q))
	return true
}

func (t *FDB) limit(q *queue) int {
	if q.limit > 0 {
		return q.limit
	}
	return t.limits.PerPort
}

// move gives the entry to another port.
func (t *FDB) move(slot uint32, q *queue) {
	t.counters.Moved++
	t.makeRoom(q)
	e := t.at(slot)
	e.cell.Invalidate()
	t.detach(e, slot)
	e.owner = q
	t.attach(e, slot)
}

// take puts a new entry into a slot that was given back, or a fresh one.
func (t *FDB) take(key fdbKey, q *queue, static bool) uint32 {
	slot := t.free
	if slot != 0 {
		t.free = t.at(slot).next
	} else {
		slot = t.used
		t.used++
		if int(slot/chunkSize) == len(t.chunks) {
			t.chunks = append(t.chunks, new([chunkSize]entry))
		}
	}
	e := t.at(slot)
	e.key, e.owner, e.static, e.moves = key, q, static, moves{}
	t.index.insert(key, slot)
	t.attach(e, slot)
	return slot
}

// remove invalidates what leans on the entry and gives its slot back.
func (t *FDB) remove(slot uint32) {
	e := t.at(slot)
	e.cell.Invalidate()
	t.index.remove(e.key)
	t.detach(e, slot)
	e.owner = nil
	e.next, t.free = t.free, slot
}

// attach enters the entry into the lists of its owner.
func (t *FDB) attach(e *entry, slot uint32) {
	if e.static {
		t.static++
		t.pushBack(&e.owner.static, slot)
		return
	}
	t.learned++
	t.ranks.leave(e.owner)
	t.pushBack(&e.owner.learned, slot)
	t.ranks.enter(e.owner)
}

// detach is attach undone.
func (t *FDB) detach(e *entry, slot uint32) {
	if e.static {
		t.static--
		t.unlink(&e.owner.static, slot)
		return
	}
	t.learned--
	t.ranks.leave(e.owner)
	t.unlink(&e.owner.learned, slot)
	t.ranks.enter(e.owner)
}
