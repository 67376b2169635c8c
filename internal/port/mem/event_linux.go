package mem

import "golang.org/x/sys/unix"

// event is an eventfd(2): readable while its counter is not zero.
type event struct {
	fd      int
	raised  bool
	counter [8]byte
}

func newEvent() (event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return event{fd: fd}, err
}

// set makes the descriptor readable or not, by a system call only when that changes something.
func (e *event) set(raise bool) {
	if raise == e.raised || e.fd < 0 {
		return
	}
	e.raised = raise
	if !raise {
		unix.Read(e.fd, e.counter[:])
		return
	}
	e.counter = [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // any number but zero, in any byte order
	unix.Write(e.fd, e.counter[:])
}

func (e *event) close() error {
	if e.fd < 0 {
		return nil
	}
	fd := e.fd
	e.fd = -1
	return unix.Close(fd)
}
