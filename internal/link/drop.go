package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
)

// Ways to keep the kernel's network stack from the frames of our end.
const (
	DropClsact = "clsact" // a classifier, which stays with the device
	DropTCX    = "tcx"    // where the kernel has no classifiers: ends with its fd
)

// attachDrop attaches the drop program. The classifier goes first: tcx costs a grace period under the lock of all
// network configuration (15 ms against 0.5), and an fd.
func (v *Veth) attachDrop(h *netlink.Handle) error {
	classifier := attachClsact(h, v.Index)
	if classifier == nil {
		v.Drop = DropClsact
		return nil
	}
	fd, err := bpf.AttachDrop(v.Index)
	if err != nil {
		return errors.Join(classifier, err)
	}
	v.Drop, v.DropFD = DropTCX, fd
	return nil
}

// attachClsact attaches the drop program as a classifier. It replaces what an earlier daemon left.
func attachClsact(h *netlink.Handle, index int) error {
	prog, err := bpf.DropFD()
	if err != nil {
		return err
	}
	if err := h.QdiscReplace(clsact(index)); err != nil {
		return fmt.Errorf("add a clsact qdisc: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index,
			Parent:    netlink.HANDLE_MIN_INGRESS,
			Handle:    1,
			Protocol:  unix.ETH_P_ALL,
			Priority:  1,
		},
		Fd:           prog,
		Name:         "vswitch_drop",
		DirectAction: true,
	}
	if err := h.FilterReplace(filter); err != nil {
		return fmt.Errorf("add the drop classifier: %w", err)
	}
	return nil
}

// clsact is the qdisc that holds classifiers of what an interface receives.
func clsact(index int) netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
}
