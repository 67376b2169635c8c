package flow

import "vswitch/internal/packet"

// MaxActions is how many actions a decision has at most; MaxRefs how many table entries it leans on, beside a connection.
const (
	MaxActions = 8
	MaxRefs    = 4
)

// Decision is what becomes of a frame, as far as the frames of other flows may have it in common: those between a container and all that
// lies behind a router, for instance. What a hit looks at comes first.
type Decision struct {
	Slow     packet.Flags      // a frame with any of these is decided on its own
	MaxL3    int32             // so is one whose L3Size is larger
	Drop     packet.DropReason // when there is no output
	Taken    bool              // the frame was for the switch itself, or waits: without an output it is not lost
	L2       bool              // depends on Key.L2 alone: right for all frames that share it
	NActions uint8
	NRefs    uint8
	Gens     [2]GenRef // network's and router's; a nil Gen holds always
	Refs     [MaxRefs]Ref
	Actions  [MaxActions]Action
	Tallies  [2]*Tally      // that count the packets of a cached one
	Rewrite  packet.Rewrite // of OpRewrite; its ports are the Conn's
	shared                  // of a cached one
}

// Conn is what a decision has of the connection that its frames are of. It differs from flow to flow.
type Conn struct {
	Cell             *Cell // used by every frame; nil: there is none
	Version          uint64
	SrcPort, DstPort uint16 // of OpRewrite
}

// Verdict is a decision about a frame and, when Cacheable, about the later frames with the same Key. The zero Verdict drops.
type Verdict struct {
	Decision
	Conn      Conn
	Cacheable bool
	Made      *Made // what else is to be done, once; nil when Cacheable
}

// Reset makes v the zero Verdict without touching what its counts say is unused.
func (v *Verdict) Reset() {
	v.Slow, v.MaxL3, v.Drop, v.Taken, v.L2, v.NActions, v.NRefs = 0, 0, 0, false, false, 0, 0
	v.Gens, v.Tallies, v.Rewrite = [2]GenRef{}, [2]*Tally{}, packet.Rewrite{}
	v.Conn, v.Cacheable, v.Made = Conn{}, false, nil
}

// Add appends an action. Exceeding MaxActions is a programmer's error.
func (d *Decision) Add(a Action) {
	d.Actions[d.NActions] = a
	d.NActions++
}

// Translate appends the rewriting of the frame's endpoints. A decision has at most one.
func (v *Verdict) Translate(r *packet.Rewrite) {
	v.Add(Action{Op: OpRewrite})
	v.Rewrite = *r
	v.Rewrite.SrcPort, v.Rewrite.DstPort = 0, 0
	v.Conn.SrcPort, v.Conn.DstPort = r.SrcPort, r.DstPort
}

// Translation returns what OpRewrite makes of a frame of the connection.
func (d *Decision) Translation(c *Conn) packet.Rewrite {
	r := d.Rewrite
	r.SrcPort, r.DstPort = c.SrcPort, c.DstPort
	return r
}

// Lean records that the decision leans on c as it is now.
func (d *Decision) Lean(c *Cell, version uint64, touch bool) {
	d.Refs[d.NRefs] = Ref{c, version, touch}
	d.NRefs++
}

// LeanOnConn records that the decision leans on a connection, which lives by it.
func (v *Verdict) LeanOnConn(c *Cell, version uint64) { v.Conn.Cell, v.Conn.Version = c, version }

// Valid tells whether all that the decision leans on is as it was, but for the connection.
func (d *Decision) Valid() bool {
	for i := range d.Gens {
		if g := d.Gens[i].Gen; g != nil && g.Load() != d.Gens[i].Value {
			return false
		}
	}
	for i := range d.Refs[:d.NRefs] {
		if d.Refs[i].Cell.Version() != d.Refs[i].Version {
			return false
		}
	}
	return true
}

// Valid tells whether the connection is as it was.
func (c *Conn) Valid() bool { return c.Cell == nil || c.Cell.Version() == c.Version }

// Touch keeps the entries that the decision uses from ageing.
func (d *Decision) Touch(now int64) {
	for i := range d.Refs[:d.NRefs] {
		if d.Refs[i].Touch {
			d.Refs[i].Cell.Touch(now)
		}
	}
}
