package l2switch

import (
	"time"

	"vswitch/internal/packet"
)

// An address that moves from port to port all the time is damped: after MaxMoves moves within MoveWindow it goes back to
// where it was before the first of them and stays there for HoldDown, whoever else sends with it. Frames are forwarded all the
// same. One machine that moves, or one address that fails over (VRRP), moves at once; two machines with the same address, a
// loop or an impostor can't make the flows to it be decided anew more than MaxMoves+1 times per HoldDown.
const (
	MaxMoves   = 10
	MoveWindow = time.Second
	HoldDown   = 5 * time.Second
)

// moves is what an entry remembers of its moves. Times are nanoseconds.
type moves struct {
	n     int           // moves since since
	since int64         // when the first of them was made
	home  packet.PortID // where the address was before it
	until int64         // the end of its hold-down
}

func (m *moves) held(now int64) bool { return now < m.until }

func (m *moves) exhausted(now int64) bool { return m.n >= MaxMoves && now-m.since < int64(MoveWindow) }

// count takes down a move away from port.
func (m *moves) count(port packet.PortID, now int64) {
	if m.n == 0 || now-m.since >= int64(MoveWindow) {
		*m = moves{since: now, home: port}
	}
	m.n++
}

// Flap is an address that was damped.
type Flap struct {
	VLAN     uint16
	MAC      [6]byte
	From, To packet.PortID // the move that was one too many
	Home     packet.PortID // where it stays
}

// maxFlaps is how many of them are remembered until somebody takes note.
const maxFlaps = 8

type flaps struct {
	list [maxFlaps]Flap
	n    int
	more int // not remembered
}

// damp ends the moves of the entry in slot, which was asked to go to port. A home that was removed meanwhile is none: the
// entry stays where it is.
func (t *FDB) damp(slot uint32, port packet.PortID, now int64) {
	e := t.at(slot)
	e.moves.until = now + int64(HoldDown)
	from := e.owner.port
	if home := t.ports[e.moves.home]; home != nil && home != e.owner {
		t.move(slot, home)
	}
	t.counters.Damped++
	if t.flaps.n == maxFlaps {
		t.flaps.more++
		return
	}
	t.flaps.list[t.flaps.n] = Flap{VLAN: e.key.vlan(), MAC: e.key.mac(), From: from, To: port, Home: e.owner.port}
	t.flaps.n++
}

// Flapping tells whether addresses were damped since the last TakeFlaps.
func (t *FDB) Flapping() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flaps.n > 0
}

// TakeFlaps returns the addresses that were damped since the last call: a few of them, and how many more there were.
func (t *FDB) TakeFlaps() (list []Flap, more int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, more = append(list, t.flaps.list[:t.flaps.n]...), t.flaps.more
	t.flaps = flaps{}
	return list, more
}
