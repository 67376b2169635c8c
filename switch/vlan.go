package l2switch

import (
	"math/bits"

	"vswitch/internal/api"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// MaxVLAN is the largest VLAN id that a frame may carry; 4095 is reserved (IEEE 802.1Q table 9-2).
const MaxVLAN = 4094

// VLANSet is a set of VLAN ids. The zero VLANSet is empty.
type VLANSet [4096 / 64]uint64

// Add puts the ids from first to last, both included, into the set. Ids above 4095 are a programmer's error.
func (s *VLANSet) Add(first, last uint16) {
	for v := int(first); v <= int(last); v++ {
		s[v/64] |= 1 << (v % 64)
	}
}

// Has tells whether the set contains vid.
func (s *VLANSet) Has(vid uint16) bool { return vid < 4096 && s[vid/64]>>(vid%64)&1 != 0 }

// Len returns how many ids the set contains.
func (s *VLANSet) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Membership says which VLANs a port carries and which of them without a tag. VLAN 0 is the network's untagged VLAN. A port
// is either an access port of one VLAN, the zero Membership being one of VLAN 0, or a trunk.
type Membership struct {
	Trunk     bool
	Access    uint16  // access port: its VLAN
	VLANs     VLANSet // trunk: VLANs carried with their tag
	Native    uint16  // trunk: VLAN of frames without a tag, when HasNative
	HasNative bool
}

// NewMembership checks what a user asked for and makes it a Membership: access is the port's VLAN, trunk the ranges it
// carries tagged, native the VLAN of a trunk's untagged frames or nil. Errors are *api.Error with CodeInvalid.
func NewMembership(access uint16, trunk []api.VLANRange, native *uint16) (Membership, error) {
	if len(trunk) == 0 {
		switch {
		case native != nil:
			return Membership{}, api.Errorf(api.CodeInvalid, "a native VLAN goes with a trunk only: name the trunk's VLANs too, or use an access VLAN instead")
		case access > MaxVLAN:
			return Membership{}, api.Errorf(api.CodeInvalid, "VLAN %d does not exist: use 1 to %d, or 0 for the network's untagged VLAN", access, MaxVLAN)
		}
		return Membership{Access: access}, nil
	}
	if access != 0 {
		return Membership{}, api.Errorf(api.CodeInvalid, "a port is either an access port of VLAN %d or a trunk: for both, name %d as the trunk's native VLAN", access, access)
	}
	m := Membership{Trunk: true}
	for _, r := range trunk {
		if r.First < 1 || r.Last > MaxVLAN || r.First > r.Last {
			return Membership{}, api.Errorf(api.CodeInvalid, "VLAN range %d-%d is not allowed on a trunk: use ids from 1 to %d, the smaller one first", r.First, r.Last, MaxVLAN)
		}
		m.VLANs.Add(r.First, r.Last)
	}
	if native != nil {
		if *native > MaxVLAN {
			return Membership{}, api.Errorf(api.CodeInvalid, "native VLAN %d does not exist: use 1 to %d, or 0 for the network's untagged VLAN", *native, MaxVLAN)
		}
		m.Native, m.HasNative = *native, true
	}
	return m, nil
}

// Ingress says to which VLAN a frame from the port belongs. tag is its Key.VLAN: packet.VLANPresent|id, or 0. A tag with id 0
// carries a priority only and counts as none (IEEE 802.1Q 6.9.1); so does a tag that isn't 802.1Q, which the key doesn't
// show. A frame with the tag of the VLAN that the port carries untagged is accepted, as the kernel's bridge does. ok is false
// when the port carries no such VLAN.
func (m *Membership) Ingress(tag uint16) (vlan uint16, ok bool) {
	vid := tag & packet.VLANMask
	switch {
	case !m.Trunk:
		return m.Access, vid == 0 || vid == m.Access
	case vid == 0:
		return m.Native, m.HasNative
	}
	return vid, m.VLANs.Has(vid) || m.HasNative && vid == m.Native
}

// Egress says whether frames of vlan leave by the port and whether with their tag. A VLAN that is both carried and native
// leaves untagged.
func (m *Membership) Egress(vlan uint16) (tag flow.TagOp, ok bool) {
	switch {
	case !m.Trunk:
		return flow.Untagged, vlan == m.Access
	case m.HasNative && vlan == m.Native:
		return flow.Untagged, true
	}
	return flow.Tagged, m.VLANs.Has(vlan)
}

// any returns a VLAN that the port carries, the untagged one if it can be: to see whether its frames come back.
func (m *Membership) any() uint16 {
	switch {
	case !m.Trunk:
		return m.Access
	case m.HasNative:
		return m.Native
	}
	for i, w := range m.VLANs {
		if w != 0 {
			return uint16(64*i + bits.TrailingZeros64(w))
		}
	}
	return 0
}
