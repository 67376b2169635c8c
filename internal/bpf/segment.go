package bpf

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// LoadSegment loads a filter for a packet socket on an interface of the host, where the switch is a station of its own:
//
//	to mac                                          accepted, but of SYNs no more than the gate lets in
//	ARP to everybody, ICMPv6 to a multicast group   accepted: that is how neighbors are found
//	anything else, also with a VLAN tag             refused, before it is copied: it is the host's, or nobody's
//
// The program is attached by SO_ATTACH_BPF, with Program.FD.
func LoadSegment(mac [6]byte, g *Gate) (Program, error) {
	const etherType, nextHeader, none, all = 12, l3Off + 6, 0, -1 // how many bytes are accepted
	return loadType(ebpf.SocketFilter, "vswitch_segment", slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1), // where LoadAbs expects the frame
			asm.LoadMem(asm.R2, asm.R6, skbVLANPresent, asm.Word),
			asm.JNE.Imm(asm.R2, 0, "others"),
			asm.LoadAbs(4, asm.Half),
			asm.JNE.Imm(asm.R0, int32(binary.BigEndian.Uint16(mac[4:])), "group"),
			asm.LoadAbs(0, asm.Word),
			asm.Mov.Imm32(asm.R1, int32(binary.BigEndian.Uint32(mac[:]))),
			asm.JEq.Reg(asm.R0, asm.R1, "mine"),
		},
		at("group", asm.Instructions{
			asm.LoadAbs(0, asm.Byte),
			asm.And.Imm(asm.R0, 1),
			asm.JEq.Imm(asm.R0, 0, "others"),
			asm.LoadAbs(etherType, asm.Half),
			asm.JEq.Imm(asm.R0, 0x0806, "accept"),
			asm.JNE.Imm(asm.R0, 0x86dd, "others"),
			asm.LoadAbs(nextHeader, asm.Byte),
			asm.JEq.Imm(asm.R0, protoICMPv6, "accept"),
		}),
		at("others", asm.Instructions{
			asm.Mov.Imm(asm.R0, none),
			asm.Return(),
		}),
		at("mine", findSYN("accept")),
		g.judge("accept", none),
		at("accept", asm.Instructions{
			asm.Mov.Imm(asm.R0, all),
			asm.Return(),
		}),
	))
}

// findSYN goes on behind itself, with R8 where a SYN's TCP header begins, and to other with all that is none: later fragments too, and what is
// too short, for the switch to count. LoadAbs is cheaper than copies to the stack, but would refuse what is too short.
func findSYN(other string) asm.Instructions {
	const ipv4Fragment, ipv6Next, ipv6Fragment = l3Off + 6, l3Off + 6, l3Off + ipv6Len
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R7, asm.R6, skbLen, asm.Word),
			asm.LoadMem(asm.R2, asm.R6, skbProtocol, asm.Word),
			asm.JEq.Imm(asm.R2, networkOrder(0x0800), "ipv4"),
			asm.JNE.Imm(asm.R2, networkOrder(0x86dd), other),

			asm.JLT.Imm(asm.R7, l3Off+ipv6Len, other),
			asm.LoadAbs(ipv6Next, asm.Byte),
			asm.Mov.Imm(asm.R8, l3Off+ipv6Len),
			asm.JEq.Imm(asm.R0, protoTCP, "flags"),
			asm.JNE.Imm(asm.R0, protoFragment, other),
			asm.JLT.Imm(asm.R7, ipv6Fragment+ipv6FragLen, other),
			asm.LoadAbs(ipv6Fragment, asm.Word), // next header, a reserved byte, offset and flags
			asm.Mov.Imm(asm.R8, ipv6Fragment+ipv6FragLen),
			asm.Mov.Reg(asm.R2, asm.R0),
			asm.And.Imm(asm.R2, 0xfff8),
			asm.JNE.Imm(asm.R2, 0, other),
			asm.RSh.Imm(asm.R0, 24),
			asm.JEq.Imm(asm.R0, protoTCP, "flags"),
			asm.Ja.Label(other),
		},
		at("ipv4", asm.Instructions{
			asm.JLT.Imm(asm.R7, l3Off+ipv4Len, other),
			asm.LoadAbs(ipv4Fragment, asm.Word), // flags and offset, time to live, protocol
			asm.Mov.Reg(asm.R2, asm.R0),
			asm.And.Imm(asm.R2, 0xff),
			asm.JNE.Imm(asm.R2, protoTCP, other),
			asm.And.Imm(asm.R0, 0x1fff<<16),
			asm.JNE.Imm(asm.R0, 0, other),
			asm.LoadAbs(l3Off, asm.Byte), // version 4 and the header's length in words of 4 bytes
			asm.Mov.Reg(asm.R8, asm.R0),
			asm.And.Imm(asm.R8, 15),
			asm.LSh.Imm(asm.R8, 2),
			asm.Add.Imm(asm.R8, l3Off),
		}),
		at("flags", asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.R8),
			asm.Add.Imm(asm.R2, tcpFlags),
			asm.JGE.Reg(asm.R2, asm.R7, other),
			asm.LoadInd(asm.R0, asm.R8, tcpFlags, asm.Byte),
			asm.And.Imm(asm.R0, tcpSYN|tcpACK),
			asm.JNE.Imm(asm.R0, tcpSYN, other),
		}),
	)
}
