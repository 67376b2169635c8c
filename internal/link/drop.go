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

// prepareDrop chooses how the drop program is attached: where the kernel has classifiers, by a qdisc that Place gives one, else at once by
// tcx, which costs a grace period under the lock of all network configuration (15 ms against 0.5), and an fd.
func (v *Veth) prepareDrop(private *Namespace) error {
	classifier := private.tryClassifier()
	if classifier == nil {
		v.Drop = DropClsact
		return addClsact(private, v.Index)
	}
	err := private.Do(func() (err error) {
		v.DropFD, err = bpf.AttachDrop(v.Index)
		return err
	})
	if err != nil {
		return errors.Join(classifier, err)
	}
	v.Drop = DropTCX
	return nil
}

// tryClassifier finds out whether the kernel has classifiers, by one for lo of the private namespace, where nothing arrives.
func (n *Namespace) tryClassifier() error {
	n.trial.Lock()
	defer n.trial.Unlock()
	if n.classifies {
		return nil
	}
	err := addClsact(n, loopback.Index)
	if err == nil {
		err = addClassifier(n, loopback.Index)
	}
	n.classifies = err == nil
	return err
}

// addClsact gives an interface room for classifiers, unless it has it.
func addClsact(ns *Namespace, index int) error {
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	if err := h.QdiscAdd(clsact(index)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add a clsact qdisc to interface number %d: %w", index, err)
	}
	return nil
}

// addClassifier attaches the drop program as a classifier. When no grace period has passed since addClsact, the kernel waits for one
// under the lock of all network configuration (mini_qdisc_pair_swap in net/sched/sch_generic.c).
func addClassifier(ns *Namespace, index int) error {
	prog, err := bpf.DropFD()
	if err != nil {
		return err
	}
	h, err := ns.netlink()
	if err != nil {
		return err
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
		return fmt.Errorf("add the drop classifier to interface number %d: %w", index, err)
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
