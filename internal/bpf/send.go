package bpf

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Detour is the way of IPv6 out of an interface that the host's default route doesn't lead to. The kernel's lookup is bound to the interface
// for IPv4; for IPv6 it would find the next hop of another one, and look for that here. The zero Detour leaves all to the kernel.
type Detour struct {
	Gateway netip.Addr
	OnLink  []netip.Prefix // reached without it; the first MaxOnLink count
}

// MaxOnLink is how many prefixes a Detour has.
const MaxOnLink = 8

// Equal tells whether two are the same.
func (d Detour) Equal(o Detour) bool {
	return d.Gateway == o.Gateway && slices.Equal(d.OnLink, o.OnLink)
}

// On the stack of vswitch_send: the destination, and struct bpf_redir_neigh (linux/bpf.h).
const (
	stackDst       = -48
	stackNeigh     = -24
	sizeRedirNeigh = 20
)

// LoadSend loads the program that sends what the switch wrote to its TAP out of the interface of index out, to be attached to what
// the TAP receives. The kernel finds route and next hop, and resolves it; the frame's MACs don't count. Only IP passes.
func LoadSend(out int, d Detour) (Program, error) {
	return load("vswitch_send", slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, skbVLANPresent, asm.Word),
			asm.JNE.Imm(asm.R2, 0, "drop"),
			asm.LoadMem(asm.R2, asm.R6, skbProtocol, asm.Word),
			asm.JEq.Imm(asm.R2, networkOrder(0x0800), "send"),
			asm.JEq.Imm(asm.R2, networkOrder(0x86dd), "send6"),
		},
		at("drop", asm.Instructions{
			asm.Mov.Imm(asm.R0, tcActShot),
			asm.Return(),
		}),
		at("send6", d.send(out)),
		at("send", redirectNeigh(out, asm.Instructions{asm.Mov.Imm(asm.R2, 0), asm.Mov.Imm(asm.R3, 0)})), // by the route to the destination
	))
}

// send sends IPv6 to the gateway, unless the destination is on the link.
func (d Detour) send(out int) (code asm.Instructions) {
	if !d.Gateway.Is6() {
		return asm.Instructions{asm.Ja.Label("send")}
	}
	code = asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 14+24), // behind the Ethernet header, the destination
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackDst),
		asm.Mov.Imm(asm.R4, 16),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
	}
	for i, p := range d.OnLink[:min(len(d.OnLink), MaxOnLink)] {
		other := "other" + string(rune('0'+i))
		code = append(code, unlessWithin(p, other)...)
		code = append(code, asm.Ja.Label("send"), asm.Mov.Reg(asm.R0, asm.R0).WithSymbol(other))
	}
	code = append(code, asm.Mov.Imm(asm.R2, unix.AF_INET6), asm.StoreMem(asm.RFP, stackNeigh, asm.R2, asm.Word))
	gateway := d.Gateway.As16()
	for i := 0; i < 16; i += 4 {
		word := int32(binary.NativeEndian.Uint32(gateway[i:]))
		code = append(code, asm.Mov.Imm32(asm.R2, word), asm.StoreMem(asm.RFP, int16(stackNeigh+4+i), asm.R2, asm.Word))
	}
	return append(code, redirectNeigh(out, asm.Instructions{
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackNeigh), asm.Mov.Imm(asm.R3, sizeRedirNeigh),
	})...)
}

// unlessWithin goes to a label where the destination on the stack is not in the prefix.
func unlessWithin(p netip.Prefix, label string) (code asm.Instructions) {
	want := p.Masked().Addr().As16()
	var mask [16]byte
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for i := 0; i < 16; i += 8 {
		code = append(code,
			asm.LoadMem(asm.R2, asm.RFP, int16(stackDst+i), asm.DWord),
			asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint64(mask[i:])), asm.DWord),
			asm.And.Reg(asm.R2, asm.R3),
			asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint64(want[i:])), asm.DWord),
			asm.JNE.Reg(asm.R2, asm.R3, label))
	}
	return code
}

// redirectNeigh ends the program by bpf_redirect_neigh, whose second and third argument are made by params.
func redirectNeigh(out int, params asm.Instructions) asm.Instructions {
	return slices.Concat(params, asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(out)),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	})
}
