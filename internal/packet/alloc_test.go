package packet_test

import (
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

func TestNoAllocations(t *testing.T) {
	plain, super := parsed(t, UDP(Size(18))), parsed(t, TCP(GSO(1448), Size(60000)))
	sctp, dst := IP(132, Size(100)), newFrame()
	var sum uint64
	for name, run := range map[string]func(){
		"Parse":       func() { plain.Parse() },
		"Parse super": func() { super.Parse() },
		"Parse SCTP": func() {
			sctp.Vnet().Set(packet.VnetNeedsCsum, 0, 0, 0, 34, 8)
			sctp.Parse()
		},
		"Hash":             func() { sum += plain.Key.Hash() },
		"Segment":          func() { super.Segment(dst, 3, false) },
		"Segment, partial": func() { super.Segment(dst, 3, true) },
		"VerifyTransport":  func() { plain.VerifyTransport() },
		"VLAN":             func() { super.PushVLAN(1); super.SetVLAN(2); super.PopVLAN() },
		"CopyInto":         func() { super.CopyInto(dst) },
	} {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
