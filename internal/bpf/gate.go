package bpf

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A Gate keeps a flood of SYNs out of a queue of the switch's, the TAP's of a shared uplink or the packet socket's of a station, where it would take the
// place of everybody's frames: so many may enter until the switch has read on. Of a flood that is more than the switch can answer, SYNs of
// clients who mean it are a small share; but they come again after a second, and those with made-up sources do not. So one that did not get in is
// remembered, and when it comes again it has credit of its own.
//
// It is part of a program that judges frames on their way into the queue, and lives as long as that: another daemon loads a program with a Gate of its own.
// Its methods are safe for concurrent use, but not beside or after Close.
type Gate struct {
	counts, seen *ebpf.Map
	memory       []byte // of counts
	*gateCounts         // the same
}

// gateCounts is what the program and the switch both reach.
type gateCounts struct {
	fresh   atomic.Int32  // SYNs that may enter
	again   atomic.Int32  // SYNs that were refused before that may
	since   atomic.Uint64 // when the program itself let one enter last, nanoseconds
	refused atomic.Uint64 // SYNs that did not get in
}

// Where the program finds them.
const (
	gateFresh   = int16(unsafe.Offsetof(gateCounts{}.fresh))
	gateAgain   = int16(unsafe.Offsetof(gateCounts{}.again))
	gateSince   = int16(unsafe.Offsetof(gateCounts{}.since))
	gateRefused = int16(unsafe.Offsetof(gateCounts{}.refused))
	gateLen     = int(unsafe.Sizeof(gateCounts{}))
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

// NewGate makes one of an empty queue.
func NewGate() (*Gate, error) {
	g := new(Gate)
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("make a gate for connection requests: %w", errors.Join(err, g.Close()))
	}
	g.Served(true)
	return g, nil
}

func (g *Gate) open() (err error) {
	g.counts, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "vswitch_gate", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(gateLen), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return err
	}
	g.seen, err = ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_seen", Type: ebpf.Array, KeySize: 4, ValueSize: 4 << seenBits, MaxEntries: 1})
	if err != nil {
		return err
	}
	if g.memory, err = unix.Mmap(g.counts.FD(), 0, gateLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	g.gateCounts = (*gateCounts)(unsafe.Pointer(&g.memory[0]))
	return nil
}

// Served says that the switch has read from the queue, and whether it left nothing there.
func (g *Gate) Served(drained bool) {
	credit := int32(gateServed)
	if drained {
		credit = gateDrained
	}
	g.fresh.Store(credit)
	g.again.Store(credit)
}

// Refused returns how many SYNs did not get in.
func (g *Gate) Refused() uint64 { return g.refused.Load() }

// Close gives the maps back; a program that uses them keeps them. It is idempotent.
func (g *Gate) Close() error {
	var err error
	if g.memory != nil {
		err = unix.Munmap(g.memory)
		g.memory, g.gateCounts = nil, nil
	}
	return errors.Join(err, g.counts.Close(), g.seen.Close())
}

// judge goes to pass, but for a SYN for which there is no credit: then the program returns refused. R6 is the frame's struct __sk_buff, and R8 where its TCP
// header begins. Looking at the credit and taking some is no one operation: of as many processors as there are, each may let one too many pass.
func (g *Gate) judge(pass string, refused int32) asm.Instructions {
	return slices.Concat(
		loadBytesOr(pass, asm.Mov.Reg(asm.R2, asm.R8), stackTCP, tcpFlags+1),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, stackTCP+tcpFlags, asm.Byte),
			asm.And.Imm(asm.R2, tcpSYN|tcpACK),
			asm.JNE.Imm(asm.R2, tcpSYN, pass),
			asm.LoadMapValue(asm.R8, g.counts.FD(), 0),
		},
		credit(gateFresh, "no credit"),
		asm.Instructions{asm.Ja.Label(pass)},

		at("no credit", asm.Instructions{
			asm.FnKtimeGetNs.Call(),
			asm.LoadMem(asm.R2, asm.R8, gateSince, asm.DWord),
			asm.Add.Imm(asm.R2, gateEvery),
			asm.JGT.Reg(asm.R2, asm.R0, "seen"),
			asm.StoreMem(asm.R8, gateSince, asm.R0, asm.DWord),
			asm.Ja.Label(pass),
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
		loadBytesOr(pass, asm.Mov.Imm(asm.R2, l3Off+8), stackKey, 16),
		asm.Instructions{asm.Ja.Label("hash")},
		at("source4", loadBytesOr(pass, asm.Mov.Imm(asm.R2, l3Off+12), stackKey, 4)),
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
			asm.LoadMapValue(asm.R1, g.seen.FD(), 0),
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
		credit(gateAgain, "refuse"),
		asm.Instructions{asm.Ja.Label(pass)},

		at("remember", asm.Instructions{
			asm.LSh.Imm(asm.R3, seenStamp),
			asm.Or.Reg(asm.R3, asm.R9),
			asm.StoreMem(asm.R1, 0, asm.R3, asm.Word),
		}),
		at("refuse", asm.Instructions{
			asm.Mov.Imm(asm.R2, 1),
			asm.Add.Imm(asm.R8, int32(gateRefused)),
			asm.StoreXAdd(asm.R8, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, refused),
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
