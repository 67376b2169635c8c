package fdstore

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A loan is an fd that belongs to the caller and that the store may use while its name is held. It remembers which
// file the number stood for: a caller that broke the rule and closed it, so that the number may stand for another file
// now, is found out. (Not always: all TAPs are the same file, /dev/net/tun.)
type loan struct {
	fd   int
	dev  uint64
	ino  uint64
	rdev uint64
}

// borrow notes fd. It fails when fd is not open.
func borrow(fd int) (loan, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return loan{}, fmt.Errorf("fd %d: %w", fd, err)
	}
	return loan{fd: fd, dev: uint64(st.Dev), ino: st.Ino, rdev: uint64(st.Rdev)}, nil
}

// check returns an error when the caller has closed the fd.
func (l loan) check() error {
	now, err := borrow(l.fd)
	if err == nil && now != l {
		err = fmt.Errorf("fd %d is another file now", l.fd)
	}
	if err != nil {
		return fmt.Errorf("%w: fds must stay open until Delete", err)
	}
	return nil
}

// dup returns a duplicate that the caller owns.
func (l loan) dup() (int, error) {
	if err := l.check(); err != nil {
		return -1, err
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate fd %d: %w", l.fd, err)
	}
	return fd, nil
}

// closeAll closes fds that nobody wants.
func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
