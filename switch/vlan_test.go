package l2switch_test

import (
	"errors"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	l2switch "vswitch/switch"

	"pgregory.net/rapid"
)

func native(v uint16) *uint16 { return &v }

func mustMember(access uint16, trunk []api.VLANRange, native *uint16) l2switch.Membership {
	m, err := l2switch.NewMembership(access, trunk, native)
	if err != nil {
		panic(err)
	}
	return m
}

func TestMembership(t *testing.T) {
	const (
		none  = 0
		prio  = packet.VLANPresent
		tag10 = packet.VLANPresent | 10
		tag20 = packet.VLANPresent | 20
		tag99 = packet.VLANPresent | 99
	)
	range10to20 := []api.VLANRange{{First: 10, Last: 20}}
	const no = 0xffff // refused
	for _, c := range []struct {
		name    string
		m       l2switch.Membership
		ingress map[uint16]uint16 // tag -> VLAN
		tagged  []uint16          // egress with a tag
		plain   []uint16          // egress without
	}{
		{"zero", l2switch.Membership{},
			map[uint16]uint16{none: 0, prio: 0, tag10: no, tag99: no}, nil, []uint16{0}},
		{"access", mustMember(10, nil, nil),
			map[uint16]uint16{none: 10, prio: 10, tag10: 10, tag99: no}, nil, []uint16{10}},
		{"trunk", mustMember(0, range10to20, nil),
			map[uint16]uint16{none: no, prio: no, tag10: 10, tag20: 20, tag99: no}, []uint16{10, 11, 15, 20}, nil},
		{"trunk, native apart", mustMember(0, range10to20, native(99)),
			map[uint16]uint16{none: 99, prio: 99, tag10: 10, tag99: 99}, []uint16{10, 11, 15, 20}, []uint16{99}},
		{"trunk, native among them", mustMember(0, range10to20, native(10)),
			map[uint16]uint16{none: 10, tag10: 10, tag20: 20}, []uint16{11, 15, 20}, []uint16{10}},
		{"trunk, native is the untagged VLAN", mustMember(0, range10to20, native(0)),
			map[uint16]uint16{none: 0, prio: 0, tag10: 10, tag99: no}, []uint16{10, 11, 15, 20}, []uint16{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for tag, want := range c.ingress {
				if vlan, ok := c.m.Ingress(tag); ok != (want != no) || ok && vlan != want {
					t.Errorf("ingress %#x: VLAN %d, %v, want %d", tag, vlan, ok, want)
				}
			}
			want := map[uint16]flow.TagOp{}
			for _, v := range c.plain {
				want[v] = flow.Untagged
			}
			for _, v := range c.tagged {
				want[v] = flow.Tagged
			}
			for _, v := range []uint16{0, 1, 9, 10, 11, 15, 20, 21, 99, 4094, 4095} {
				op, ok := c.m.Egress(v)
				wantOp, wantOK := want[v]
				if ok != wantOK || ok && op != wantOp {
					t.Errorf("egress of VLAN %d: %v, %v, want %v, %v", v, op, ok, wantOp, wantOK)
				}
			}
		})
	}
}

// What a port may send in a VLAN, it receives in that VLAN, and the tag with which it leaves is accepted back.
func TestMembershipIsSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMember(t)
		tag := rapid.Uint16Range(0, 4095).Draw(t, "id") | rapid.SampledFrom([]uint16{0, packet.VLANPresent}).Draw(t, "present")
		if tag < packet.VLANPresent {
			tag = 0
		}
		if vlan, ok := m.Ingress(tag); ok {
			if _, ok := m.Egress(vlan); !ok {
				t.Fatalf("accepts VLAN %d and does not send it", vlan)
			}
		}
		vlan := rapid.Uint16Range(0, 4095).Draw(t, "vlan")
		if op, ok := m.Egress(vlan); ok {
			back := uint16(0)
			if op == flow.Tagged {
				back = packet.VLANPresent | vlan
			}
			if got, ok := m.Ingress(back); !ok || got != vlan {
				t.Fatalf("VLAN %d comes back as %d, %v", vlan, got, ok)
			}
		}
	})
}

func drawMember(t *rapid.T) l2switch.Membership {
	id := rapid.SampledFrom([]uint16{1, 2, 3, 100, 4094})
	if rapid.Bool().Draw(t, "access") {
		return mustMember(rapid.SampledFrom([]uint16{0, 1, 2, 100}).Draw(t, "access VLAN"), nil, nil)
	}
	var ranges []api.VLANRange
	for range rapid.IntRange(1, 3).Draw(t, "ranges") {
		a, b := id.Draw(t, "first"), id.Draw(t, "last")
		ranges = append(ranges, api.VLANRange{First: min(a, b), Last: max(a, b)})
	}
	var n *uint16
	if rapid.Bool().Draw(t, "has native") {
		n = native(rapid.SampledFrom([]uint16{0, 1, 2, 100}).Draw(t, "native"))
	}
	return mustMember(0, ranges, n)
}

func TestNewMembershipErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		access uint16
		trunk  []api.VLANRange
		native *uint16
	}{
		{"access VLAN reserved", 4095, nil, nil},
		{"access VLAN beyond all", 9999, nil, nil},
		{"native without trunk", 0, nil, native(1)},
		{"access and trunk", 5, []api.VLANRange{{First: 1, Last: 2}}, nil},
		{"trunk of VLAN 0", 0, []api.VLANRange{{First: 0, Last: 2}}, nil},
		{"trunk of VLAN 4095", 0, []api.VLANRange{{First: 1, Last: 4095}}, nil},
		{"trunk backwards", 0, []api.VLANRange{{First: 2, Last: 1}}, nil},
		{"native reserved", 0, []api.VLANRange{{First: 1, Last: 2}}, native(4095)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e *api.Error
			if _, err := l2switch.NewMembership(c.access, c.trunk, c.native); !errors.As(err, &e) || e.Code != api.CodeInvalid {
				t.Errorf("got %v, want code %s", err, api.CodeInvalid)
			}
		})
	}
}

func TestVLANSet(t *testing.T) {
	var s l2switch.VLANSet
	s.Add(1, 4094)
	if s.Len() != 4094 || s.Has(0) || !s.Has(1) || !s.Has(4094) || s.Has(4095) || s.Has(65535) {
		t.Errorf("set of all VLANs has %d", s.Len())
	}
}
