package datapath

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// mailbox is how anybody but its owner reaches a worker: functions that the worker runs between two turns, with its state to
// itself. An eventfd wakes it. While the worker does not run, who posts runs the function, with the lock held in its place.
type mailbox struct {
	fd int

	mu      sync.Mutex
	fns     []func() // guarded by mu
	running bool     // guarded by mu; there is a worker to serve
}

func newMailbox() (mailbox, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return mailbox{fd: fd}, err
}

// post hands fn to the worker and returns at once, or runs it when the worker does not run. fn does not post.
func (w *Worker) post(fn func()) {
	m := &w.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		fn()
		return
	}
	m.fns = append(m.fns, fn)
	if len(m.fns) == 1 {
		m.wake()
	}
}

// wake ends the worker's sleep.
func (m *mailbox) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(m.fd, one[:]) // can only fail with EAGAIN, when the worker is awake anyway
}

// call is post that waits until fn has run.
func (w *Worker) call(fn func()) {
	done := make(chan struct{})
	w.post(func() {
		defer close(done)
		fn()
	})
	<-done
}

// openMail says that the worker serves its mail from now on.
func (w *Worker) openMail() {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.running = true
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

// closeMail runs the last of what was posted and leaves the rest to those who post. The lock keeps them off until then.
func (w *Worker) closeMail() {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	for _, fn := range w.mail.fns {
		fn()
	}
	w.mail.fns, w.mail.running = nil, false
}
