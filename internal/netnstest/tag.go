package netnstest

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tag makes the container's kernel send everything by the interface with an 802.1Q tag of this TCI, and take only what arrives
// in that VLAN (untagged counts as 0), as if its addresses were those of a VLAN interface. Two programs at the device's
// TC hooks do it, so that it works without the kernel's 8021q module too.
func (c *Container) Tag(ifname string, tci uint16) {
	c.lab.t.Helper()
	const toNext, drop, vlanTCI = -1, 2, 24 // TC_ACT_UNSPEC and TC_ACT_SHOT (linux/pkt_cls.h), the offset in struct __sk_buff (linux/bpf.h)
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
		clsact := netlink.QdiscAttrs{LinkIndex: dev.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
		if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: clsact, QdiscType: "clsact"}); err != nil {
			return fmt.Errorf("add clsact: %w", err)
		}
		if err := attach(push, netlink.HANDLE_MIN_EGRESS, dev.Index); err != nil {
			return err
		}
		return attach(pop, netlink.HANDLE_MIN_INGRESS, dev.Index)
	})
	if err != nil {
		c.lab.t.Fatalf("tag %s in %s: %v", ifname, c.Name, err)
	}
}

// attach loads a program and attaches it to the device, as long as that is there.
func attach(code asm.Instructions, parent uint32, ifindex int) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: code, License: "GPL"})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:           prog.FD(),
		Name:         "tag",
		DirectAction: true,
	})
}
