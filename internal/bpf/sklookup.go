package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Fields of struct bpf_sk_lookup (linux/bpf.h).
const (
	lookupFamily   = 8
	lookupProtocol = 12
	lookupLocalIP4 = 40
	lookupLocalIP6 = 44
	lookupPort     = 60 // ours, in host order
)

const (
	afINET = 2
	skPass = 1
)

// maxLookupPorts is how many ports of single addresses a Lookup can have.
const maxLookupPorts = 65536

// Lookup gives what a host's programs send to some of the host's own ports to one socket of each protocol and family, however many ports these are. It
// is asked before the listening sockets are. It can't tell what comes from the host itself, which counts as having come by the interface that
// has the address: the sockets have to.
type Lookup struct {
	ports   *ebpf.Map // bits, by family and protocol, of ports of all addresses
	addrs   *ebpf.Map // ports of single addresses
	sockets *ebpf.Map
	program *ebpf.Program
	link    link.Link
}

// lookupKey is a port of one address; IPv4's are as IPv6 maps them.
type lookupKey struct {
	Addr  [16]byte
	Port  uint16
	Which uint16 // family and protocol
}

// NewLookup makes one for the network namespace that nsFD is of. The sockets are those of TCP (not multipath), which listen, and UDP for IPv4, and likewise for
// IPv6; they stay the caller's.
func NewLookup(nsFD int, sockets [4]int) (l *Lookup, err error) {
	l = &Lookup{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("look up sockets of published ports: %w", err)
			l.Close()
			l = nil
		}
	}()
	l.ports, err = ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_ports", Type: ebpf.Array, KeySize: 4, ValueSize: portSetLen, MaxEntries: 4})
	if err != nil {
		return l, err
	}
	if l.addrs, err = ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_paddrs", Type: ebpf.Hash, KeySize: 20, ValueSize: 1, MaxEntries: maxLookupPorts, Flags: unix.BPF_F_NO_PREALLOC}); err != nil {
		return l, err
	}
	if l.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "vswitch_socks", Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 4}); err != nil {
		return l, err
	}
	for i, fd := range sockets {
		if err = l.sockets.Put(uint32(i), uint32(fd)); err != nil {
			return l, err
		}
	}
	l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "vswitch_lookup", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "GPL", Instructions: l.code()})
	if err != nil {
		return l, err
	}
	l.link, err = link.AttachNetNs(nsFD, l.program)
	return l, err
}

// mappedIPv4 is what stands before an IPv4 address in an IPv6 one.
var mappedIPv4 = int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))

// code is the program:
//
//	neither TCP nor UDP                                    the kernel goes on
//	a port of all addresses, or of this one                the socket of the protocol and family
//	any other                                              the kernel goes on
func (l *Lookup) code() asm.Instructions {
	const (
		key   = -20     // lookupKey
		index = key - 4 // of maps, by family and protocol
		port  = asm.R8  // and so on, in registers that calls keep
		which = asm.R7
	)
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(which, 0),
		asm.LoadMem(asm.R2, asm.R6, lookupProtocol, asm.Word),
		asm.JEq.Imm(asm.R2, protoTCP, "family"),
		asm.JNE.Imm(asm.R2, protoUDP, "pass"),
		asm.Mov.Imm(which, 1),
		asm.LoadMem(asm.R2, asm.R6, lookupFamily, asm.Word).WithSymbol("family"),
		asm.JNE.Imm(asm.R2, afINET, "ipv6"),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.RFP, key, asm.R2, asm.Word),
		asm.StoreMem(asm.RFP, key+4, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R2, mappedIPv4),
		asm.StoreMem(asm.RFP, key+8, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, lookupLocalIP4, asm.Word),
		asm.StoreMem(asm.RFP, key+12, asm.R2, asm.Word),
		asm.Ja.Label("port"),
		asm.Add.Imm(which, 2).WithSymbol("ipv6"),
		asm.LoadMem(asm.R2, asm.R6, lookupLocalIP6, asm.Word),
		asm.StoreMem(asm.RFP, key, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, lookupLocalIP6+4, asm.Word),
		asm.StoreMem(asm.RFP, key+4, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, lookupLocalIP6+8, asm.Word),
		asm.StoreMem(asm.RFP, key+8, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, lookupLocalIP6+12, asm.Word),
		asm.StoreMem(asm.RFP, key+12, asm.R2, asm.Word),
		asm.LoadMem(port, asm.R6, lookupPort, asm.Word).WithSymbol("port"),
		asm.And.Imm(port, 0xffff),
		asm.StoreMem(asm.RFP, key+16, port, asm.Half),
		asm.StoreMem(asm.RFP, key+18, which, asm.Half),
		asm.StoreMem(asm.RFP, index, which, asm.Word),

		asm.LoadMapPtr(asm.R1, l.ports.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, index),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R1, port),
		asm.RSh.Imm(asm.R1, 5),
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.LoadMem(asm.R2, asm.R0, 0, asm.Word),
		asm.Mov.Reg(asm.R1, port),
		asm.And.Imm(asm.R1, 31),
		asm.RSh.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, 1),
		asm.JNE.Imm(asm.R2, 0, "ours"),

		asm.LoadMapPtr(asm.R1, l.addrs.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),

		asm.LoadMapPtr(asm.R1, l.sockets.FD()).WithSymbol("ours"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, index),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.FnSkRelease.Call(),
		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),
	}
}

// index is where maps have what is of a family and protocol.
func lookupIndex(ipv6, udp bool) (i uint32) {
	if ipv6 {
		i += 2
	}
	if udp {
		i++
	}
	return i
}

// SetPorts makes the ports of all addresses of a family, by a protocol, be those.
func (l *Lookup) SetPorts(ipv6, udp bool, ports *PortSet) error {
	if err := l.ports.Put(lookupIndex(ipv6, udp), ports); err != nil {
		return fmt.Errorf("look up sockets of published ports: %w", err)
	}
	return nil
}

// SetAddr adds or removes a port of one address.
func (l *Lookup) SetAddr(a netip.Addr, udp bool, port uint16, on bool) error {
	key := lookupKey{Addr: a.As16(), Port: port, Which: uint16(lookupIndex(a.Is6(), udp))}
	var err error
	if on {
		err = l.addrs.Put(key, uint8(1))
	} else if err = l.addrs.Delete(key); errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("look up the socket of published port %v: %w", netip.AddrPortFrom(a, port), err)
	}
	return nil
}

// Close detaches the program. It is idempotent.
func (l *Lookup) Close() error {
	var errs []error
	if l.link != nil {
		errs = append(errs, l.link.Close())
		l.link = nil
	}
	if l.program != nil {
		errs = append(errs, l.program.Close())
	}
	for _, m := range []*ebpf.Map{l.ports, l.addrs, l.sockets} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
