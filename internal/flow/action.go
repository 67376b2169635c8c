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
	OpRewrite     // give the frame the endpoints of the decision's Rewrite and of its connection
	OpRoute       // give the frame Hop's MACs and take one from its TTL or hop limit
)

// Action is one step of a decision. A frame with no output among its actions is dropped, and its Verdict says why.
type Action struct {
	Op    Op
	VLAN  uint16
	Port  packet.PortID
	Set   *FloodSet
	Meter *Meter // the ingress port's own
	Hop   *Hop
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
