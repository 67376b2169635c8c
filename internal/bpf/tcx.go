package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrNoTCX says that the kernel is older than tcx, Linux 6.6.
var ErrNoTCX = errors.New("the kernel has no tcx")

// AttachIngress lets p handle all that the device receives, before any other program, by tcx. ifindex counts in the
// calling thread's namespace. The returned fd is the caller's; the program is detached when its last copy is closed, so it may
// be stored and taken over.
func AttachIngress(ifindex int, p Program) (fd int, err error) {
	if fd, err = attachTCX(ifindex, p.p, link.Head()); errors.Is(err, ebpf.ErrNotSupported) {
		err = ErrNoTCX
	}
	if err != nil {
		return -1, fmt.Errorf("attach a program to interface number %d by tcx: %w", ifindex, err)
	}
	return fd, nil
}

func attachTCX(ifindex int, p *ebpf.Program, where link.Anchor) (fd int, err error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: where})
	if err != nil {
		return -1, err
	}
	defer l.Close()
	raw, ok := l.(interface{ FD() int })
	if !ok {
		return -1, fmt.Errorf("%T has no fd", l)
	}
	fd, err = unix.FcntlInt(uintptr(raw.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate the fd of a link: %w", err)
	}
	return fd, nil
}

// UpdateIngress puts p in the place of the program of an attachment, between two frames.
func UpdateIngress(fd int, p Program) error {
	return withLink(fd, func(l link.Link) error { return l.Update(p.p) })
}

// DetachIngress takes the program of an attachment away, also when others have copies of the fd.
func DetachIngress(fd int) error {
	return withLink(fd, func(l link.Link) error { return l.Detach() })
}

// errNoTCX says that an fd is something else than an attachment.
var errNoTCX = errors.New("it is not an attachment by tcx")

// AttachedTo returns the index of the device to which an attachment belongs; 0 when the device is gone.
func AttachedTo(fd int) (ifindex int, err error) {
	err = withLink(fd, func(l link.Link) error {
		info, err := l.Info()
		if err != nil {
			return err
		}
		t := info.TCX()
		if t == nil {
			return errNoTCX
		}
		ifindex = int(t.Ifindex)
		return nil
	})
	return ifindex, err
}

// withLink runs do with a copy of the fd.
func withLink(fd int, do func(link.Link) error) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	var l link.Link
	if err == nil {
		l, err = link.NewFromFD(dup) // owns it
	}
	if err == nil {
		defer l.Close()
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("program attached by fd %d: %w", fd, err)
	}
	return nil
}
