package flow

import "vswitch/internal/packet"

// Op is what an Action does.
type Op uint8

const (
	OpNone     Op = iota
	OpOutput      // write the frame to Port
	OpFlood       // write the frame to every member of Set but the ingress
	OpPushVLAN    // insert an 802.1Q tag with id VLAN, priority 0
	OpPopVLAN     // remove the outermost tag
	OpSetVLAN     // rewrite the id of the outermost tag to VLAN
	OpMeter       // go on if Meter lets the frame pass, else drop it
	OpRewrite     // give the frame other endpoints
	OpRoute       // give the frame Hop's MACs and take one from its TTL or hop limit
)

// Action is one step of a decision. A frame with no output among its actions is dropped, and its Verdict says why.
type Action struct {
	Op      Op
	VLAN    uint16
	Port    packet.PortID
	Set     *FloodSet
	Meter   *Meter // the ingress port's own
	Hop     *Hop
	Rewrite *packet.Rewrite
}

// Hop is what a frame gets on its way to a next hop. It never changes.
type Hop struct {
	Dst, Src [6]byte
}

// TagOp says what a member of a flood set does to the tag of a frame of the set's VLAN.
type TagOp uint8

const (
	Untagged TagOp = iota // the frame leaves without a tag of that VLAN
	Tagged                // the frame leaves with the VLAN's tag
)

// FloodMember is one receiver of a flood.
type FloodMember struct {
	Port PortID
	Tag  TagOp
}

// PortID is packet.PortID, here for brevity.
type PortID = packet.PortID

// FloodSet lists who receives the floods of one VLAN. It is immutable; a change of ports makes a new one.
type FloodSet struct {
	VLAN    uint16 // id to tag with; 0 is the network's untagged VLAN, whose members are all Untagged
	Members []FloodMember
}

// MaxActions is how many actions a decision has at most; MaxRefs how many table entries it leans on.
const (
	MaxActions = 8
	MaxRefs    = 5
)

// Verdict is a decision about a frame and, when Cacheable, about the later frames with the same Key. The zero Verdict drops.
type Verdict struct {
	Slow      packet.Flags      // a frame with any of these is decided on its own
	MaxL3     int32             // so is one whose L3Size is larger
	Drop      packet.DropReason // when there is no output
	Cacheable bool
	Taken     bool // the frame was for the switch itself, or waits: without an output it is not lost
	L2        bool // depends on Key.L2 alone: right for all frames that share it
	NActions  uint8
	NRefs     uint8
	Gens      [2]GenRef // network's and router's; a nil Gen holds always
	Refs      [MaxRefs]Ref
	Made      *Made              // what else is to be done, once; nil when Cacheable
	Actions   [MaxActions]Action // behind what a hit looks at, since most decisions use but the first: it touches few cache lines
	Tallies   [2]*Tally          // that count the packets of a cached one
}

// Reset makes v the zero Verdict without touching what its counts say is unused.
func (v *Verdict) Reset() {
	v.Slow, v.MaxL3, v.Drop, v.Cacheable, v.Taken, v.L2, v.NActions, v.NRefs, v.Made = 0, 0, 0, false, false, false, 0, 0, nil
	v.Gens, v.Tallies = [2]GenRef{}, [2]*Tally{}
}

// Add appends an action. Exceeding MaxActions is a programmer's error.
func (v *Verdict) Add(a Action) {
	v.Actions[v.NActions] = a
	v.NActions++
}

// Lean records that the decision leans on c as it is now.
func (v *Verdict) Lean(c *Cell, version uint64, touch bool) {
	v.Refs[v.NRefs] = Ref{c, version, touch}
	v.NRefs++
}

// Valid tells whether all that the decision leans on is as it was.
func (v *Verdict) Valid() bool {
	for i := range v.Gens {
		if g := v.Gens[i].Gen; g != nil && g.Load() != v.Gens[i].Value {
			return false
		}
	}
	for i := range v.Refs[:v.NRefs] {
		if v.Refs[i].Cell.Version() != v.Refs[i].Version {
			return false
		}
	}
	return true
}

// Touch keeps the entries that the decision uses from ageing.
func (v *Verdict) Touch(now int64) {
	for i := range v.Refs[:v.NRefs] {
		if v.Refs[i].Touch {
			v.Refs[i].Cell.Touch(now)
		}
	}
}
