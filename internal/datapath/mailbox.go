package datapath

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// mailbox is how anybody but its owner reaches a worker: functions that the worker runs between two turns, with its state to
// itself. An eventfd wakes it.
type mailbox struct {
	fd int

	mu     sync.Mutex
	fns    []func() // guarded by mu
	closed bool     // guarded by mu; the worker has returned
}

func newMailbox() (mailbox, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return mailbox{fd: fd}, err
}

// post hands fn to the worker and returns at once. A worker that is not running any more leaves it to the caller to run fn.
func (w *Worker) post(fn func()) {
	m := &w.mail
	m.mu.Lock()
	if m.closed {
		defer m.mu.Unlock()
		fn()
		return
	}
	m.fns = append(m.fns, fn)
	first := len(m.fns) == 1
	m.mu.Unlock()
	if first {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(m.fd, one[:]) // can only fail with EAGAIN, when the worker is awake anyway
	}
}

// call is post that waits until fn has run. Before the worker was started it waits for that.
func (w *Worker) call(fn func()) {
	done := make(chan struct{})
	w.post(func() {
		defer close(done)
		fn()
	})
	<-done
}

// serveMail runs what was posted. Only on the worker.
func (w *Worker) serveMail() {
	var b [8]byte
	unix.Read(w.mail.fd, b[:])
	w.mail.mu.Lock()
	fns := w.mail.fns
	w.mail.fns = nil
	w.mail.mu.Unlock()
	for _, fn := range fns {
		fn()
	}
}

// closeMail makes later posts run on their callers, then runs the last ones.
func (w *Worker) closeMail() {
	w.mail.mu.Lock()
	w.mail.closed = true
	w.mail.mu.Unlock()
	w.serveMail()
}
