package bpf

import (
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The gate keeps a flood of SYNs out of the TAP's queue, where it would take the place of everybody's frames: so many may enter until the switch
// has read on. Of a flood that is more than the switch can answer, SYNs of clients who mean it are a small share; but they come again after a
// second, and those with made-up sources do not. So one that did not get in is remembered, and when it comes again it has credit of its own.
//
// What the program and the switch both reach lies behind the bitmap:
//
//	0   fresh     int32    SYNs that may enter
//	4   again     int32    SYNs that were refused before that may
//	8   since     uint64   when the program itself let one enter last, nanoseconds
//	16  refused   uint64   SYNs that did not get in
const (
	gateFresh   = bitmapLen
	gateAgain   = bitmapLen + 4
	gateSince   = bitmapLen + 8
	gateRefused = bitmapLen + 16
	stateLen    = bitmapLen + 24
)

const (
	gateDrained = 1024 // SYNs of each kind that may enter an empty queue, of 8192 frames unless told otherwise
	gateServed  = 16   // that may enter when the switch has just read 64 frames, and there are more: the queue becomes shorter

	// gateEvery is how long nobody may be let in, nanoseconds: the frames whose reading was to give credit may have been lost on their way.
	gateEvery = 100e6
)

// Refused SYNs are remembered in one word each, where their hash says, until another one takes the place: 20 bits that tell them apart and 12
// of the time, in units of 2^24 ns.
const (
	seenBits  = 20
	seenClock = 24
	seenStamp = 12
	seenSoon  = 12   // 0.2 s: before that it is a copy
	seenLate  = 1024 // 17 s
)

// newSeen makes the memory of refused SYNs.
func newSeen() (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_seen", Type: ebpf.Array, KeySize: 4, ValueSize: 4 << seenBits, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("make the memory of refused connections: %w", err)
	}
	return m, nil
}

// Served says that the switch has read from the TAP, and whether it left nothing there.
func (s *Steering) Served(drained bool) {
	credit := uint32(gateServed)
	if drained {
		credit = gateDrained
	}
	atomic.StoreUint32(&s.words[gateFresh/4], credit)
	atomic.StoreUint32(&s.words[gateAgain/4], credit)
}

// Refused returns how many SYNs the gate has dropped.
func (s *Steering) Refused() uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&s.memory[gateRefused])))
}

// gate goes to "redirect", but for a SYN for which there is no credit: that is dropped. The table is in R7, and where the header begins in R8.
// Looking at the credit and taking some is no one operation: of as many processors as there are, each may let one too many pass.
func (s *Steering) gate() asm.Instructions {
	const flags, syn, ack = 13, 0x02, 0x10
	return slices.Concat(
		asm.Instructions{
			asm.JNE.Imm(asm.R7, int32(TCP), "redirect"),
			asm.LoadMem(asm.R2, asm.R6, skbData, asm.Word), // a glance first, as in glance.go
			asm.LoadMem(asm.R3, asm.R6, skbDataEnd, asm.Word),
			asm.Add.Reg(asm.R2, asm.R8),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, flags+1),
			asm.JGT.Reg(asm.R4, asm.R3, "look"),
			asm.LoadMem(asm.R2, asm.R2, flags, asm.Byte),
			asm.And.Imm(asm.R2, syn|ack),
			asm.JNE.Imm(asm.R2, syn, "redirect"),
		},
		at("look", loadBytes(asm.Mov.Reg(asm.R2, asm.R8), stackTCP, flags+1)),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, stackTCP+flags, asm.Byte),
			asm.And.Imm(asm.R2, syn|ack),
			asm.JNE.Imm(asm.R2, syn, "redirect"),
			asm.LoadMapValue(asm.R8, s.bits.FD(), gateFresh),
		},
		credit(0, "no credit"),
		asm.Instructions{asm.Ja.Label("redirect")},

		at("no credit", asm.Instructions{
			asm.FnKtimeGetNs.Call(),
			asm.LoadMem(asm.R2, asm.R8, gateSince-gateFresh, asm.DWord),
			asm.Add.Imm(asm.R2, gateEvery),
			asm.JGT.Reg(asm.R2, asm.R0, "seen"),
			asm.StoreMem(asm.R8, gateSince-gateFresh, asm.R0, asm.DWord),
			asm.Ja.Label("redirect"),
		}),

		// R7 becomes a hash of the source, ports and sequence number, of which the upper 20 bits say where it is remembered; R9 the time. The
		// kernel's own hash would not do: it is another one when a sender on this machine tries again, and with IPv6's flow label.
		at("seen", asm.Instructions{
			asm.Mov.Reg(asm.R9, asm.R0),
			asm.RSh.Imm(asm.R9, seenClock),
			asm.And.Imm(asm.R9, 1<<seenStamp-1),
			asm.Mov.Imm(asm.R2, 0),
			asm.StoreMem(asm.RFP, stackKey, asm.R2, asm.DWord),
			asm.StoreMem(asm.RFP, stackKey+8, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R6, skbProtocol, asm.Word),
			asm.JNE.Imm(asm.R2, networkOrder(0x86dd), "source4"),
		}),
		loadBytes(asm.Mov.Imm(asm.R2, l3Off+8), stackKey, 16),
		asm.Instructions{asm.Ja.Label("hash")},
		at("source4", loadBytes(asm.Mov.Imm(asm.R2, l3Off+12), stackKey, 4)),
		at("hash", asm.Instructions{
			asm.LoadImm(asm.R1, -0x61c8864680b583eb, asm.DWord), // 2^64 by the golden ratio (Fibonacci hashing)
			asm.LoadMem(asm.R7, asm.RFP, stackTCP, asm.DWord),   // ports and sequence number
			asm.Mul.Reg(asm.R7, asm.R1),
		}),
		mix(stackKey), mix(stackKey+8),
		asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.R7),
			asm.RSh.Imm(asm.R2, 64-seenBits),
			asm.LSh.Imm(asm.R2, 2),
			asm.LoadMapValue(asm.R1, s.seen.FD(), 0),
			asm.Add.Reg(asm.R1, asm.R2),
			asm.LoadMem(asm.R4, asm.R1, 0, asm.Word),
			asm.Mov.Reg(asm.R3, asm.R7),
			asm.LSh.Imm(asm.R3, seenBits),
			asm.RSh.Imm(asm.R3, 32+seenStamp), // the 20 bits below
			asm.Mov.Reg(asm.R5, asm.R4),
			asm.RSh.Imm(asm.R5, seenStamp),
			asm.JNE.Reg(asm.R3, asm.R5, "remember"),
			asm.Mov.Reg(asm.R5, asm.R9),
			asm.Sub.Reg(asm.R5, asm.R4),
			asm.And.Imm(asm.R5, 1<<seenStamp-1),
			asm.JLT.Imm(asm.R5, seenSoon, "refuse"),
			asm.JGT.Imm(asm.R5, seenLate, "remember"),
		},
		credit(gateAgain-gateFresh, "refuse"),
		asm.Instructions{asm.Ja.Label("redirect")},

		at("remember", asm.Instructions{
			asm.LSh.Imm(asm.R3, seenStamp),
			asm.Or.Reg(asm.R3, asm.R9),
			asm.StoreMem(asm.R1, 0, asm.R3, asm.Word),
		}),
		at("refuse", asm.Instructions{
			asm.Mov.Imm(asm.R2, 1),
			asm.Add.Imm(asm.R8, gateRefused-gateFresh),
			asm.StoreXAdd(asm.R8, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, tcActShot),
			asm.Return(),
		}),
	)
}

// credit takes one of what there is at R8 and offset, or goes to none.
func credit(offset int16, none string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R8, offset, asm.Word),
		asm.LSh.Imm(asm.R2, 32), // its sign
		asm.ArSh.Imm(asm.R2, 32),
		asm.JSLE.Imm(asm.R2, 0, none),
		asm.Mov.Imm(asm.R2, -1),
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.Add.Imm(asm.R3, int32(offset)),
		asm.StoreXAdd(asm.R3, asm.R2, asm.Word),
	}
}

// mix makes eight bytes of the stack part of the hash in R7. R1 is a large odd number.
func mix(stack int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.RFP, stack, asm.DWord),
		asm.Xor.Reg(asm.R7, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.RSh.Imm(asm.R2, 32),
		asm.Xor.Reg(asm.R7, asm.R2),
		asm.Mul.Reg(asm.R7, asm.R1),
	}
}
