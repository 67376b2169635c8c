package bpf

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// LoadSegment loads a filter for a packet socket on an interface of the host, where the switch is a station of its own:
//
//	to mac                                          accepted
//	ARP to everybody, ICMPv6 to a multicast group   accepted: that is how neighbors are found
//	anything else, also with a VLAN tag             refused, before it is copied: it is the host's, or nobody's
//
// The program is attached by SO_ATTACH_BPF, with Program.FD.
func LoadSegment(mac [6]byte) (Program, error) {
	const etherType, nextHeader, accept = 12, l3Off + 6, -1
	return loadType(ebpf.SocketFilter, "vswitch_segment", asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), // where LoadAbs expects the frame
		asm.LoadMem(asm.R2, asm.R6, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R2, 0, "refuse"),
		asm.LoadAbs(4, asm.Half),
		asm.JNE.Imm(asm.R0, int32(binary.BigEndian.Uint16(mac[4:])), "group"),
		asm.LoadAbs(0, asm.Word),
		asm.Mov.Imm32(asm.R1, int32(binary.BigEndian.Uint32(mac[:]))),
		asm.JEq.Reg(asm.R0, asm.R1, "accept"),
		asm.LoadAbs(0, asm.Byte).WithSymbol("group"),
		asm.And.Imm(asm.R0, 1),
		asm.JEq.Imm(asm.R0, 0, "refuse"),
		asm.LoadAbs(etherType, asm.Half),
		asm.JEq.Imm(asm.R0, 0x0806, "accept"),
		asm.JNE.Imm(asm.R0, 0x86dd, "refuse"),
		asm.LoadAbs(nextHeader, asm.Byte),
		asm.JEq.Imm(asm.R0, protoICMPv6, "accept"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("refuse"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, accept).WithSymbol("accept"),
		asm.Return(),
	})
}
