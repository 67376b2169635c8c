package bpf

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// tcActShot is TC_ACT_SHOT in linux/pkt_cls.h: drop the frame here.
const tcActShot = 2

// drop loads the program that drops every frame. AF_PACKET sockets have seen the frame by then (__netif_receive_skb_core
// in net/core/dev.c), the network stack has not.
var drop = sync.OnceValues(func() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "vswitch_drop",
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcActShot), asm.Return()},
	})
})

// DropFD returns the program's fd, which stays this package's, to be attached by a classifier in direct-action mode. The
// program is loaded once for all devices.
func DropFD() (int, error) {
	p, err := drop()
	if err != nil {
		return -1, fmt.Errorf("load the drop program: %w", err)
	}
	return p.FD(), nil
}

// AttachDrop lets the program drop all that the device receives, by tcx (Linux 6.6). ifindex counts in the calling thread's
// namespace. The returned fd is the caller's; the program is detached when its last copy is closed, so it may be
// stored and taken over. It takes some 15 ms: the kernel waits for a grace period (tcx_entry_sync in net/tcx.h).
func AttachDrop(ifindex int) (fd int, err error) {
	p, err := drop()
	if err != nil {
		return -1, fmt.Errorf("load the drop program: %w", err)
	}
	if fd, err = attachTCX(ifindex, p, nil); err != nil {
		return -1, fmt.Errorf("attach the drop program to interface number %d: %w", ifindex, err)
	}
	return fd, nil
}
