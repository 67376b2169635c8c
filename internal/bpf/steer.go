package bpf

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Program is one that was loaded, to be attached to what an interface receives. Whatever it is attached to keeps it.
type Program struct{ p *ebpf.Program }

// FD returns the program's fd, which stays the Program's.
func (p Program) FD() int { return p.p.FD() }

// Close gives the fd back.
func (p Program) Close() error { return p.p.Close() }

// Fields of struct __sk_buff (linux/bpf.h).
const (
	skbLen         = 0
	skbPktType     = 4  // PACKET_HOST is 0: the frame is for the interface's own MAC
	skbProtocol    = 16 // EtherType, in network order
	skbVLANPresent = 20
	skbData        = 76 // the frame's first bytes, as many as lie in one piece
	skbDataEnd     = 80
)

// tcxNext is TCX_NEXT and TC_ACT_UNSPEC: it is for the next program, or for the kernel's stack.
const tcxNext = -1

// Where things lie in a frame without a VLAN tag, and in the headers.
const (
	l3Off       = 14
	ipv4Len     = 20
	ipv6Len     = 40
	ipv6FragLen = 8
)

// The programs' stack, as offsets to the frame pointer.
const (
	stackKey = -16             // destination address, 16 bytes
	stackIP  = stackKey - 40   // IP header
	stackL4  = stackIP - l4Len // what follows it
	stackTCP = stackL4 - 16    // TCP's, as far as the flags
	l4Len    = 8
)

// IP protocols.
const (
	protoICMP, protoTCP, protoUDP, protoFragment, protoICMPv6, protoSCTP = 1, 6, 17, 44, 58, 132
)

// LoadSteer loads the program that redirects the switch's frames to the TAP of index tap, to be attached to what the shared
// interface receives:
//
//	TCP, UDP, SCTP to one of the addresses and a port of the bitmap   to the TAP, and not to the kernel's stack; of SYNs no more than the gate lets in
//	later fragments and ICMP errors to one of the addresses, echo     to both: whose they are only a look at more than this frame
//	replies to one of them with an identifier of the bitmap           can tell. The stack ignores what it didn't ask for
//	anything else, also with a VLAN tag or for another MAC            to the kernel's stack
//
// IPv6 extension headers other than Fragment are the stack's.
func (s *Steering) LoadSteer(tap int) (Program, error) {
	return load("vswitch_steer", slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, skbVLANPresent, asm.Word),
			asm.JNE.Imm(asm.R2, 0, "next"),
			asm.LoadMem(asm.R2, asm.R6, skbPktType, asm.Word),
			asm.JNE.Imm(asm.R2, 0, "next"),
			asm.LoadMem(asm.R2, asm.R6, skbProtocol, asm.Word),
			asm.JEq.Imm(asm.R2, networkOrder(0x0800), "ipv4"),
			asm.JNE.Imm(asm.R2, networkOrder(0x86dd), "next"),
		},
		steerIPv6(), steerIPv4(), steerL4(),
		at("port", s.testBit()), s.testAddr(), glanceSYN("redirect", "look"),
		at("look", s.judge("redirect", tcActShot)),
		at("redirect", asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(tap)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		}),
		at("echo", asm.Instructions{
			asm.LoadMem(asm.R9, asm.RFP, stackL4+4, asm.Half),
			asm.Mov.Imm(asm.R7, int32(Echo)),
		}),
		s.testBit(),
		at("both", s.testAddr()),
		asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, int32(tap)),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnCloneRedirect.Call(),
		},
		at("next", asm.Instructions{
			asm.Mov.Imm(asm.R0, tcxNext),
			asm.Return(),
		}),
	))
}

// steerIPv6 and steerIPv4 leave the destination at stackKey, the protocol in R7, and where its header begins in R8. Later
// fragments go to "both".
func steerIPv6() asm.Instructions {
	return slices.Concat(
		glanceIPv6("ipv6"),
		at("ipv6", loadBytes(asm.Mov.Imm(asm.R2, l3Off), stackIP, ipv6Len)),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, stackIP+24, asm.DWord),
			asm.StoreMem(asm.RFP, stackKey, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.RFP, stackIP+32, asm.DWord),
			asm.StoreMem(asm.RFP, stackKey+8, asm.R2, asm.DWord),
			asm.LoadMem(asm.R7, asm.RFP, stackIP+6, asm.Byte),
			asm.Mov.Imm(asm.R8, l3Off+ipv6Len),
			asm.JNE.Imm(asm.R7, protoFragment, "l4"),
		},
		loadBytes(asm.Mov.Imm(asm.R2, l3Off+ipv6Len), stackL4, ipv6FragLen),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, stackL4+2, asm.Half),
			asm.And.Imm(asm.R2, networkOrder(0xfff8)),
			asm.JNE.Imm(asm.R2, 0, "both"),
			asm.LoadMem(asm.R7, asm.RFP, stackL4, asm.Byte),
			asm.Mov.Imm(asm.R8, l3Off+ipv6Len+ipv6FragLen),
			asm.Ja.Label("l4"),
		},
	)
}

func steerIPv4() asm.Instructions {
	return slices.Concat(
		at("ipv4", glanceIPv4("other ipv4")),
		at("other ipv4", loadBytes(asm.Mov.Imm(asm.R2, l3Off), stackIP, ipv4Len)),
		mapped(asm.LoadMem(asm.R4, asm.RFP, stackIP+16, asm.Word)),
		asm.Instructions{
			asm.LoadMem(asm.R8, asm.RFP, stackIP, asm.Byte), // version 4 and the header's length in words of 4 bytes
			asm.Sub.Imm(asm.R8, 0x40),
			asm.JLT.Imm(asm.R8, ipv4Len/4, "next"),
			asm.JGT.Imm(asm.R8, 15, "next"),
			asm.LSh.Imm(asm.R8, 2),
			asm.Add.Imm(asm.R8, l3Off),
			asm.LoadMem(asm.R2, asm.RFP, stackIP+6, asm.Half),
			asm.And.Imm(asm.R2, networkOrder(0x1fff)),
			asm.JNE.Imm(asm.R2, 0, "both"),
			asm.LoadMem(asm.R7, asm.RFP, stackIP+9, asm.Byte),
		},
	)
}

// steerL4 looks at what the protocol in R7 has at R8, and leaves its table in R7 and the port in R9, in network order. ICMP goes to
// "echo" or "both".
func steerL4() asm.Instructions {
	return slices.Concat(
		at("l4", loadBytes(asm.Mov.Reg(asm.R2, asm.R8), stackL4, l4Len)),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, stackL4, asm.Byte), // ICMP's type
			asm.LoadMem(asm.R9, asm.RFP, stackL4+2, asm.Half),
			asm.JEq.Imm(asm.R7, protoTCP, "tcp"),
			asm.JEq.Imm(asm.R7, protoUDP, "udp"),
			asm.JEq.Imm(asm.R7, protoICMP, "icmp"),
			asm.JEq.Imm(asm.R7, protoICMPv6, "icmpv6"),
			asm.JNE.Imm(asm.R7, protoSCTP, "next"),
			asm.Mov.Imm(asm.R7, int32(SCTP)),
			asm.Ja.Label("port"),
		},
		at("icmp", asm.Instructions{
			asm.JEq.Imm(asm.R2, 0, "echo"),
			asm.JEq.Imm(asm.R2, 3, "both"),  // destination unreachable
			asm.JEq.Imm(asm.R2, 11, "both"), // time exceeded
			asm.JEq.Imm(asm.R2, 12, "both"), // parameter problem
			asm.Ja.Label("next"),
		}),
		at("icmpv6", asm.Instructions{
			asm.JEq.Imm(asm.R2, 129, "echo"),
			asm.JEq.Imm(asm.R2, 0, "next"),
			asm.JLE.Imm(asm.R2, 4, "both"), // RFC 4443: 1 to 4 are the errors
			asm.Ja.Label("next"),
		}),
		at("udp", asm.Instructions{
			asm.Mov.Imm(asm.R7, int32(UDP)),
			asm.Ja.Label("port"),
		}),
		at("tcp", asm.Instructions{asm.Mov.Imm(asm.R7, int32(TCP))}),
	)
}

// testBit goes to "next" unless the table in R7 has the number in R9, which is in network order.
func (s *Steering) testBit() asm.Instructions {
	return asm.Instructions{
		asm.HostTo(asm.BE, asm.R9, asm.Half),
		asm.And.Imm(asm.R9, 0xffff), // for the verifier
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.RSh.Imm(asm.R2, 5),
		asm.LSh.Imm(asm.R2, 2),
		asm.Add.Reg(asm.R2, asm.R7),
		asm.LoadMapValue(asm.R1, s.bits.FD(), 0),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
		asm.And.Imm(asm.R9, 31),
		asm.RSh.Reg(asm.R1, asm.R9),
		asm.And.Imm(asm.R1, 1),
		asm.JEq.Imm(asm.R1, 0, "next"),
	}
}

// testAddr goes to "next" unless the destination is one of the addresses. It comes after the bit: a look at memory is cheaper, and
// most frames of the host end there.
func (s *Steering) testAddr() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, s.addrs.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackKey),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
	}
}

func load(name string, code asm.Instructions) (Program, error) {
	return loadType(ebpf.SchedCLS, name, code)
}

func loadType(kind ebpf.ProgramType, name string, code asm.Instructions) (Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: kind, License: "GPL", Instructions: code})
	if err != nil {
		return Program{}, fmt.Errorf("load the program %s: %w", name, err)
	}
	return Program{p}, nil
}

// loadBytes copies n bytes of the frame to the stack, from the offset that from puts into R2; a frame that is too short goes to "next".
func loadBytes(from asm.Instruction, stack, n int32) asm.Instructions {
	return loadBytesOr("next", from, stack, n)
}

// loadBytesOr is loadBytes where a frame that is too short goes to short.
func loadBytesOr(short string, from asm.Instruction, stack, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		from,
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stack),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, short),
	}
}

// at makes label a name of where code begins.
func at(label string, code asm.Instructions) asm.Instructions {
	code[0] = code[0].WithSymbol(label)
	return code
}

// TCP's flags, and where they are in its header.
const tcpFlags, tcpSYN, tcpACK = 13, 0x02, 0x10

// networkOrder is v as it looks in a 16-bit field of a frame.
func networkOrder(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}))
}
