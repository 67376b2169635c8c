package l2switch

import (
	"slices"
	"sync"
	"sync/atomic"

	"vswitch/internal/flow"
)

// BPDU tells whether dst is an address of spanning tree protocols: 01-80-C2-00-00-00 of bridges, 01-80-C2-00-00-08 of
// providers' (IEEE 802.1Q 8.6.3), and 01-00-0C-CC-CC-CD of Cisco's per-VLAN one. A container has no say in those.
func BPDU(dst [6]byte) bool {
	return dst == [6]byte{0x01, 0x80, 0xc2, 0, 0, 0} || dst == [6]byte{0x01, 0x80, 0xc2, 0, 0, 8} ||
		dst == [6]byte{0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd}
}

// ReservedGroup tells whether dst is one of 01-80-C2-00-00-00 to 0F: addresses for the neighbor on the link itself (STP,
// pause frames, LACP, 802.1X, LLDP), which no bridge forwards (IEEE 802.1Q 8.6.3).
func ReservedGroup(dst [6]byte) bool {
	return dst[0] == 0x01 && dst[1] == 0x80 && dst[2] == 0xc2 && dst[3] == 0 && dst[4] == 0 && dst[5] < 16
}

// floods caches a snapshot's flood sets.
//
//	maps     (VLAN, whether the ingress is isolated) -> who receives its floods
//	writes   whoever needs a set first; a set never changes, since the snapshot's ports do not
//	reads    the slow path of any worker, without a lock
//	memory   pages of 64 VLANs made at first use. A trunk of all VLANs makes 4094 sets possible: those with the same
//	         members share them, so that a set of its own is 32 bytes
type floods struct {
	pages [64]atomic.Pointer[floodPage]

	mu     sync.Mutex
	shapes [][]flow.FloodMember // the different member lists; guarded by mu
}

type floodPage [64][2]atomic.Pointer[flow.FloodSet]

// at returns where the set of vlan is, or is to be, kept.
func (f *floods) at(vlan uint16, isolatedIngress bool) *atomic.Pointer[flow.FloodSet] {
	p := &f.pages[vlan/64]
	page := p.Load()
	if page == nil {
		p.CompareAndSwap(nil, new(floodPage))
		page = p.Load()
	}
	if isolatedIngress {
		return &page[vlan%64][1]
	}
	return &page[vlan%64][0]
}

// maxShapes is among how many member lists an equal one is looked for. Networks have a handful; where each VLAN has
// different members there is nothing to share, and the search should not cost.
const maxShapes = 16

// share returns an equal list made earlier, or members.
func (f *floods) share(members []flow.FloodMember) []flow.FloodMember {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.shapes {
		if slices.Equal(s, members) {
			return s
		}
	}
	if len(f.shapes) < maxShapes {
		f.shapes = append(f.shapes, members)
	}
	return members
}

// Flood returns who receives the floods of vlan, untagged members first; the ingress is among them, who floods leaves it
// out. From an isolated ingress the isolated members receive nothing. The set is never nil, has no members when nobody
// carries the VLAN, and is the same for each call. Safe for concurrent use.
func (s *Snapshot) Flood(vlan uint16, isolatedIngress bool) *flow.FloodSet {
	if vlan > MaxVLAN {
		return &flow.FloodSet{VLAN: vlan}
	}
	p := s.floods.at(vlan, isolatedIngress)
	if set := p.Load(); set != nil {
		return set
	}
	p.CompareAndSwap(nil, s.makeFlood(vlan, isolatedIngress))
	return p.Load()
}

func (s *Snapshot) makeFlood(vlan uint16, isolatedIngress bool) *flow.FloodSet {
	var untagged, tagged []flow.FloodMember
	for _, c := range s.ports {
		tag, ok := c.Member.Egress(vlan)
		switch {
		case !ok || c.Blocked || isolatedIngress && c.Isolated:
		case tag == flow.Untagged:
			untagged = append(untagged, flow.FloodMember{Port: c.ID, Tag: tag})
		default:
			tagged = append(tagged, flow.FloodMember{Port: c.ID, Tag: tag})
		}
	}
	return &flow.FloodSet{VLAN: vlan, Members: s.floods.share(append(untagged, tagged...))}
}
