package bpf

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// glance looks at the usual frame, TCP or UDP without options or fragments, where it lies: copying headers costs as much as all else. It
// leaves the destination at stackKey, where the L4 header begins in R8 and the port in R9, and goes to "tcp" or "udp". All others go to a label: also those of which a
// device left the headers in another page. usual goes there unless the header, of which the frame begins at R2, is the usual one.
func glance(ipLen int32, usual asm.Instructions, protocol int16, key asm.Instructions, other string) asm.Instructions {
	l4 := l3Off + ipLen
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.R6, skbData, asm.Word),
			asm.LoadMem(asm.R3, asm.R6, skbDataEnd, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, l4+l4Len),
			asm.JGT.Reg(asm.R4, asm.R3, other),
		},
		usual, key,
		asm.Instructions{
			asm.LoadMem(asm.R7, asm.R2, l3Off+protocol, asm.Byte),
			asm.Mov.Imm(asm.R8, l4),
			asm.LoadMem(asm.R9, asm.R2, int16(l4+2), asm.Half),
			asm.JEq.Imm(asm.R7, protoTCP, "tcp"),
			asm.JEq.Imm(asm.R7, protoUDP, "udp"),
			asm.Ja.Label(other),
		},
	)
}

func glanceIPv6(other string) asm.Instructions {
	return glance(ipv6Len, nil, 6, asm.Instructions{
		asm.LoadMem(asm.R4, asm.R2, l3Off+24, asm.DWord),
		asm.StoreMem(asm.RFP, stackKey, asm.R4, asm.DWord),
		asm.LoadMem(asm.R4, asm.R2, l3Off+32, asm.DWord),
		asm.StoreMem(asm.RFP, stackKey+8, asm.R4, asm.DWord),
	}, other)
}

func glanceIPv4(other string) asm.Instructions {
	return glance(ipv4Len, asm.Instructions{
		asm.LoadMem(asm.R4, asm.R2, l3Off, asm.Byte),
		asm.JNE.Imm(asm.R4, 0x40|ipv4Len/4, other),
		asm.LoadMem(asm.R4, asm.R2, l3Off+6, asm.Half),
		asm.And.Imm(asm.R4, networkOrder(0x3fff)),
		asm.JNE.Imm(asm.R4, 0, other),
	}, 9, mapped(asm.LoadMem(asm.R4, asm.R2, l3Off+16, asm.Word)), other)
}

// glanceSYN goes to pass unless the frame, of the table in R7 and with the header at R8, is a SYN, or one that has to be looked at.
func glanceSYN(pass, look string) asm.Instructions {
	return asm.Instructions{
		asm.JNE.Imm(asm.R7, int32(TCP), pass),
		asm.LoadMem(asm.R2, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, skbDataEnd, asm.Word),
		asm.Add.Reg(asm.R2, asm.R8),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, tcpFlags+1),
		asm.JGT.Reg(asm.R4, asm.R3, look),
		asm.LoadMem(asm.R2, asm.R2, tcpFlags, asm.Byte),
		asm.And.Imm(asm.R2, tcpSYN|tcpACK),
		asm.JNE.Imm(asm.R2, tcpSYN, pass),
	}
}

// mapped leaves ::ffff:a.b.c.d at stackKey. load loads the address into R4.
func mapped(load asm.Instruction) asm.Instructions {
	return asm.Instructions{
		load,
		asm.StoreMem(asm.RFP, stackKey+12, asm.R4, asm.Word),
		asm.Mov.Imm(asm.R4, 0),
		asm.StoreMem(asm.RFP, stackKey, asm.R4, asm.DWord),
		asm.Mov.Imm(asm.R4, int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))),
		asm.StoreMem(asm.RFP, stackKey+8, asm.R4, asm.Word),
	}
}
