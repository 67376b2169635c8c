package link

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
)

// Ways to attach a program to what an interface receives.
const (
	IngressTCX    = "tcx"    // ends with its fd, and then the host's stack gets all again
	IngressClsact = "clsact" // below Linux 6.6: a classifier, which stays with the device
)

// ingressHandle tells our classifier from others of the same priority, which netlink would let us replace.
const ingressHandle = 0x7673

// Ingress is a program attached to what an interface receives, before others.
type Ingress struct {
	Index int
	FD    int // of the attachment by tcx; -1 for a classifier
}

// AttachIngress attaches p to the interface of that index by tcx. An error that is bpf.ErrNoTCX says that the kernel has none.
func AttachIngress(ns *Namespace, index int, p bpf.Program) (Ingress, error) {
	in := Ingress{Index: index}
	err := ns.Do(func() (err error) {
		in.FD, err = bpf.AttachIngress(index, p)
		return err
	})
	return in, err
}

// AttachClassifier attaches p to the interface of that index as a classifier, in place of one that an earlier daemon left.
func AttachClassifier(ns *Namespace, index int, p bpf.Program) (Ingress, error) {
	in := Ingress{Index: index, FD: -1}
	if err := addClsact(ns, index); err != nil {
		return in, err
	}
	return in, in.Replace(ns, p)
}

// HasClsact tells whether the interface has the qdisc that holds classifiers.
func HasClsact(ns *Namespace, index int) (bool, error) {
	h, err := ns.netlink()
	if err != nil {
		return false, err
	}
	qdiscs, err := h.QdiscList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err != nil {
		return false, fmt.Errorf("list the qdiscs of interface number %d: %w", index, err)
	}
	return slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "clsact" }), nil
}

// AdoptIngress goes on with what an earlier process attached by tcx, by the fd that it stored. It stays the caller's when AdoptIngress
// fails. An error that is os.ErrNotExist says that the interface is gone.
func AdoptIngress(fd int) (Ingress, error) {
	index, err := bpf.AttachedTo(fd)
	if err == nil && index == 0 {
		err = unix.ENOENT
	}
	if err != nil {
		return Ingress{}, fmt.Errorf("take over an attached program: %w", err)
	}
	return Ingress{Index: index, FD: fd}, nil
}

// Kind returns how the program is attached.
func (in Ingress) Kind() string {
	if in.FD < 0 {
		return IngressClsact
	}
	return IngressTCX
}

// Attached tells whether the program still is where it was attached. Of a classifier only its device is known.
func (in Ingress) Attached() bool {
	if in.FD < 0 {
		return in.Index != 0
	}
	index, err := bpf.AttachedTo(in.FD)
	return err == nil && index == in.Index && index != 0
}

// Replace puts p into the place of the attached program; no frame passes between them.
func (in Ingress) Replace(ns *Namespace, p bpf.Program) error {
	if in.FD >= 0 {
		return bpf.UpdateIngress(in.FD, p)
	}
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	filter := in.filter()
	filter.Fd, filter.Name, filter.DirectAction = p.FD(), "vswitch", true
	if err := h.FilterReplace(filter); err != nil {
		return fmt.Errorf("add a classifier to interface number %d: %w", in.Index, err)
	}
	return nil
}

func (in Ingress) filter() *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: in.Index,
		Parent:    netlink.HANDLE_MIN_INGRESS,
		Handle:    ingressHandle,
		Protocol:  unix.ETH_P_ALL,
		Priority:  1,
	}}
}

// Detach takes the program away and closes the fd, which must not be in a store any more. made says that the clsact qdisc is ours: it goes too, unless
// others have put something there. That all is gone already is no error.
func (in Ingress) Detach(ns *Namespace, made bool) error {
	if in.FD >= 0 {
		err := bpf.DetachIngress(in.FD)
		if errors.Is(err, unix.ENOLINK) { // its interface is gone
			err = nil
		}
		return errors.Join(err, unix.Close(in.FD))
	}
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	err = h.FilterDel(in.filter())
	if err == nil && made {
		err = in.deleteClsact(h)
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // EINVAL: no such qdisc
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the classifier of interface number %d: %w", in.Index, err)
	}
	return nil
}

func (in Ingress) deleteClsact(h *netlink.Handle) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: in.Index}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if others, err := h.FilterList(l, parent); err != nil || len(others) > 0 {
			return err
		}
	}
	return h.QdiscDel(clsact(in.Index))
}
