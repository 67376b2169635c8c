package netnstest

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Tag makes the container's kernel send everything by the interface with an 802.1Q tag of this TCI, and take only what arrives
// in that VLAN (untagged counts as 0), as if its addresses were those of a VLAN interface. Two programs at the device's
// TC hooks do it, so that it works without the kernel's 8021q module too.
func (c *Container) Tag(ifname string, tci uint16) {
	c.lab.t.Helper()
	const toNext, drop, vlanTCI = -1, 2, 24 // TCX_NEXT, TCX_DROP and the offset in struct __sk_buff (linux/bpf.h)
	push := asm.Instructions{
		asm.Mov.Imm(asm.R2, 0x0081), // ETH_P_8021Q in network order
		asm.Mov.Imm(asm.R3, int32(tci)),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, toNext),
		asm.Return(),
	}
	pop := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, vlanTCI, asm.Word),
		asm.And.Imm(asm.R2, 0xfff),
		asm.Mov.Imm(asm.R0, drop),
		asm.JNE.Imm(asm.R2, int32(tci&0xfff), "end"),
		asm.FnSkbVlanPop.Call(),
		asm.Mov.Imm(asm.R0, toNext),
		asm.Return().WithSymbol("end"),
	}
	err := c.Do(func() error {
		dev, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		if err := c.attach(push, ebpf.AttachTCXEgress, dev.Index); err != nil {
			return err
		}
		return c.attach(pop, ebpf.AttachTCXIngress, dev.Index)
	})
	if err != nil {
		c.lab.t.Fatalf("tag %s in %s: %v", ifname, c.Name, err)
	}
}

// attach loads a program and attaches it until the end of the test.
func (c *Container) attach(code asm.Instructions, at ebpf.AttachType, ifindex int) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: code, License: "GPL"})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Program: prog, Attach: at, Interface: ifindex})
	if err != nil {
		return fmt.Errorf("attach program: %w", err)
	}
	c.lab.t.Cleanup(func() { _ = l.Close() })
	return nil
}
