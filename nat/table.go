package nat

import (
	"crypto/rand"
	"encoding/binary"
	"sync"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Table holds the connections of all routers.
//
//	maps     Tuple -> connection and direction; each connection is there under the tuple of the frame that opened it, and under that of
//	         the answers, which differ by more than direction where addresses are translated
//	writes   the slow path of any worker, in Track and Open; control verbs; a sweeper
//	reads    the same. Cached flows lean on a connection's cell and touch it, without a lock
//	limits   Limits.Connections in all, Limits.PerNetwork of one network. Beyond them room is made, in the network itself or, in a full
//	         table, in the network that has most: first by the oldest connection that is not established, of the port that has
//	         most of those; then by the one unused longest of the port that has most, if that is unused for Spared. Else the
//	         new one is refused (conn_limit): a flood of requests ends requests, never what is in use
//	ageing   a connection unused for its timeout (Timeouts) is not found any more; Sweep frees it
//	memory   records of 112 bytes and cells of 16, without pointers, in chunks of 256 that never move, kept as long as the table, and an index of
//	         8 bytes a bucket, two buckets a connection, a half to a quarter full: 160 to 192 bytes a connection, and 48 to 64 more
//	         for its mapping when it is masqueraded
//	safety   one mutex, taken on the slow path only, for some 100 ns by Track and some 500 ns by Open. Not shards: the two tuples
//	         of a connection would lie in two of them, a port search looks into as many as it tries, and fairness needs the whole.
//	         What takes long (Sweep, List, Remove) lets go of it every chunk; no growth of a table takes longer than some 50 us
type Table struct {
	mu       sync.Mutex
	limits   Limits
	lives    Timeouts // never changes
	timeouts [kinds][states]int64
	index    *index // refers to slot<<1, |1 for the tuple of answers
	conns    slab[chunk]
	n        int
	networks map[uint32]*network
	holders  []*holder // by number; 0 is none
	unused   []uint32  // numbers of holders given back
	biggest  ranking   // networks by their connections
	maps     mappings
	pools    []*Pool // by number; nil: given back
	hand     uint32  // where Sweep goes on
	secret   Secret
	counters Counters
}

// Limits are the limits of a Table. A field that is not positive stands for its default.
type Limits struct {
	Connections int // in all; 262144
	PerNetwork  int // of a network; 32768
}

// Defaults of Limits, and their highest values.
const (
	DefaultConnections = 262144
	DefaultPerNetwork  = 32768
	MaxConnections     = 1 << 24 // 3 GB
)

// WithDefaults returns the limits with all fields set.
func (l Limits) WithDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = DefaultConnections
	}
	if l.PerNetwork <= 0 {
		l.PerNetwork = min(DefaultPerNetwork, l.Connections)
	}
	return l
}

// Secret decides which external ports endpoints get where they can't have their own. Of a table that comes after another one with the same
// secret, an endpoint asks for the same port again.
type Secret [3]uint64

// SecretSize is the length of a Secret in bytes.
const SecretSize = 24

// NewSecret makes one of SecretSize random bytes.
func NewSecret(b []byte) (s Secret) {
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

// RandomBytes returns n of them.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Counters count what a Table did since it was made.
type Counters struct {
	Opened   uint64 // new connections
	Expired  uint64 // unused for their timeout
	Evicted  uint64 // that made room for others
	Refused  uint64 // new ones for which there was no room
	NoPort   uint64 // new ones for which there was no external port
	Shared   uint64 // new ones that share their external port with another mapping, since all were taken
	Replaced uint64 // closed ones whose external port another one needed towards the same destination
}

// conn is a record of 112 bytes without pointers.
type conn struct {
	orig Tuple // of frames that go as the first one did
	progress
	_       uint8
	created uint32 // seconds of the datapath's clock

	reply      Tuple         // of frames that go the other way
	holder     uint32        // number of the port that the first frame came by; 0: the slot is free
	mapping    uint32        // of a masqueraded one; 0: none
	prev, next uint32        // in a list of the holder
	peer       packet.PortID // port of the other side
	seen       uint32        // when the holder's list last looked at it, see recent
}

// chunk is a part of the slab. The cells, which are all that cached flows look at, lie side by side: those of 100,000 connections fit in
// a processor's cache.
type chunk struct {
	cells [chunkSize]flow.Cell
	conns [chunkSize]conn
}

// NewTable makes an empty table.
func NewTable(limits Limits, timeouts Timeouts) *Table {
	return &Table{
		limits: limits.WithDefaults(), lives: timeouts.WithDefaults(), timeouts: timeouts.table(), index: newIndex(), networks: map[uint32]*network{},
		holders: []*holder{nil}, maps: mappings{index: newIndex()}, secret: NewSecret(RandomBytes(SecretSize)),
	}
}

// Timeouts returns how long connections live unused.
func (t *Table) Timeouts() Timeouts { return t.lives }

// SetSecret is for the start, before the first connection. The table has a random one until then.
func (t *Table) SetSecret(s Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secret = s
}

// Len returns the number of connections.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// Counters returns the current counts.
func (t *Table) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counters
}

// Conn is a connection as one of its frames meets it.
type Conn struct {
	Cell      *flow.Cell // for the decision to lean on, with touch
	Version   uint64
	Rewrite   packet.Rewrite // what becomes of the frame; neither NewSrc nor NewDst: it stays as it is
	Reply     bool           // the frame goes against the first one
	State     State          // after the frame
	Cacheable bool           // further frames without a signal change nothing: else each must come to Track
}

// Translated tells whether the frame does not stay as it is.
func (c *Conn) Translated() bool { return c.Rewrite.NewSrc || c.Rewrite.NewDst }

// Track returns the connection of a frame with the tuple, moved on by it; false when there is none. Safe for concurrent use.
func (t *Table) Track(q *Tuple, s Signal, now int64) (Conn, bool) {
	hash := q.hash()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.track(q, hash, s, now)
}

// Peek says what Track would return, and changes nothing; the state is that before the frame.
func (t *Table) Peek(q *Tuple, now int64) (Conn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref := t.find(q, q.hash())
	if ref == 0 || t.expired(ref>>1, now) {
		return Conn{}, false
	}
	return t.meet(ref), true
}

// track is Track. Callers hold mu, as for all unexported methods below.
func (t *Table) track(q *Tuple, hash uint64, s Signal, now int64) (Conn, bool) {
	ref := t.find(q, hash)
	if ref == 0 {
		return Conn{}, false
	}
	slot := ref >> 1
	c := t.at(slot)
	if t.expired(slot, now) {
		t.counters.Expired++
		t.remove(slot)
		return Conn{}, false
	}
	was := c.state
	if c.step(kindOf(q.Proto), ref&1 != 0, s) {
		t.cell(slot).Invalidate()
	}
	t.cell(slot).Touch(now)
	if c.state != was {
		t.relist(slot, was)
	}
	return t.meet(ref), true
}

// meet describes the connection to a frame.
func (t *Table) meet(ref uint32) Conn {
	c, cell := t.at(ref>>1), t.cell(ref>>1)
	in, out := &c.orig, &c.reply
	if ref&1 != 0 {
		in, out = out, in
	}
	return Conn{
		Cell: cell, Version: cell.Version(), Reply: ref&1 != 0, State: c.state, Cacheable: c.steady(kindOf(in.Proto)),
		Rewrite: between(in, out),
	}
}

// between returns what makes a frame with the tuple in one that out answers.
func between(in, out *Tuple) packet.Rewrite {
	return packet.Rewrite{
		Src: out.Dst, SrcPort: out.DstPort, NewSrc: in.Src != out.Dst || in.SrcPort != out.DstPort,
		Dst: out.Src, DstPort: out.SrcPort, NewDst: in.Dst != out.Src || in.DstPort != out.SrcPort, IPv6: in.Family == 6,
	}
}

func (t *Table) at(slot uint32) *conn { return &t.conns.chunks[slot/chunkSize].conns[slot%chunkSize] }

func (t *Table) cell(slot uint32) *flow.Cell {
	return &t.conns.chunks[slot/chunkSize].cells[slot%chunkSize]
}

// link is where a slot that was given back has the next one.
func (t *Table) link(slot uint32) *uint32 { return &t.at(slot).next }

// find returns slot<<1 of the connection that the tuple opened, |1 that it answers, or 0.
func (t *Table) find(q *Tuple, hash uint64) uint32 {
	for c := t.index.seek(hash); ; {
		ref := c.next()
		if ref == 0 {
			return 0
		}
		e := t.at(ref >> 1)
		if ref&1 == 0 && e.orig == *q || ref&1 != 0 && e.reply == *q {
			return ref
		}
	}
}

func (t *Table) expired(slot uint32, now int64) bool {
	c := t.at(slot)
	return now-t.cell(slot).LastUsed() >= t.timeouts[kindOf(c.orig.Proto)][c.state]
}

// insert adds a connection between tuples that are not there yet.
func (t *Table) insert(orig, reply *Tuple, h *holder, mapping uint32, now int64) uint32 {
	slot := t.conns.take(t.link)
	c := t.at(slot)
	c.orig, c.reply, c.progress, c.mapping, c.peer = *orig, *reply, progress{state: New}, mapping, 0
	c.created = uint32(now / 1e9)
	t.cell(slot).Touch(now)
	t.index.insert(orig.hash(), slot<<1)
	t.index.insert(reply.hash(), slot<<1|1)
	t.n++
	t.hold(slot, h)
	return slot
}

// remove invalidates what leans on the connection and gives back what it holds.
func (t *Table) remove(slot uint32) {
	c := t.at(slot)
	t.cell(slot).Invalidate()
	t.index.remove(c.orig.hash(), slot<<1)
	t.index.remove(c.reply.hash(), slot<<1|1)
	t.release(slot)
	t.maps.release(t.pools, c.mapping)
	t.conns.give(slot, t.link)
	t.n--
}
