package fdstore

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// callTimeout bounds the wait for one answer; a keeper that is slower counts as lost.
const callTimeout = 10 * time.Second

// errLost says that the link broke: the keeper was killed, or ended because it was empty.
var errLost = errors.New("the keeper went away")

// A link is one connection to a keeper. One call at a time uses it, while read runs on a goroutine of its own, so that
// the end of the keeper is noticed at once.
type link struct {
	conn    *net.UnixConn
	born    time.Time
	answers chan message  // from read to the call
	gone    chan struct{} // closed when the link is broken
	drop    func()        // breaks the link; idempotent
}

func newLink(conn *net.UnixConn) *link {
	l := &link{conn: conn, born: time.Now(), answers: make(chan message), gone: make(chan struct{})}
	l.drop = sync.OnceFunc(func() {
		close(l.gone)
		_ = conn.Close()
	})
	return l
}

func (l *link) broken() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// read hands answers to the call that waits for them until the link breaks.
func (l *link) read() {
	defer l.drop()
	r := newReceiver(l.conn)
	for {
		m, err := r.next()
		if errors.Is(err, errBadMessage) {
			m, err = message{op: opRefused, text: err.Error()}, nil
		}
		if err != nil {
			return
		}
		select {
		case l.answers <- m:
		case <-l.gone:
			closeAll(m.fds)
			return
		}
	}
}

// ask sends m. It returns errLost when that broke the link, and other errors when m itself cannot be sent.
func (l *link) ask(m message) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(callTimeout))
	err := send(l.conn, m)
	for _, end := range []error{unix.EPIPE, unix.ECONNRESET, unix.ENOTCONN, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, end) {
			l.drop()
			return errLost
		}
	}
	return err
}

// answer waits for the next message; its fds are the caller's. It returns errLost, or what the keeper refused.
func (l *link) answer() (message, error) {
	timeout := time.NewTimer(callTimeout)
	defer timeout.Stop()
	select {
	case m := <-l.answers:
		if m.op == opRefused {
			return message{}, fmt.Errorf("refused: %s", m.text)
		}
		return m, nil
	case <-l.gone:
		return message{}, errLost
	case <-timeout.C:
		l.drop()
		return message{}, fmt.Errorf("%w: no answer within %v", errLost, callTimeout)
	}
}

// request sends m and waits for its ok.
func (l *link) request(m message) error {
	if err := l.ask(m); err != nil {
		return err
	}
	reply, err := l.answer()
	if err == nil && reply.op != opOK {
		closeAll(reply.fds)
		l.drop() // out of step
		err = fmt.Errorf("%w: it answered %#x", errLost, byte(reply.op))
	}
	return err
}

// put gives duplicates of all these to the keeper, in messages of as many as the kernel takes.
func (l *link) put(loans map[string]loan) error {
	for names := range slices.Chunk(slices.Collect(maps.Keys(loans)), maxFDs) {
		m := message{op: opPut, names: names}
		for _, name := range names {
			m.fds = append(m.fds, loans[name].fd)
		}
		if err := l.request(m); err != nil {
			return err
		}
	}
	return nil
}

// take returns duplicates of all that the keeper holds.
func (l *link) take() (map[string]int, error) {
	taken := map[string]int{}
	err := l.ask(message{op: opTake})
	for err == nil {
		var m message
		if m, err = l.answer(); err != nil {
			break
		}
		if m.op == opOK {
			return taken, nil
		}
		for i, fd := range m.fds {
			taken[m.names[i]] = fd
		}
	}
	l.drop() // more may be on its way
	for _, fd := range taken {
		_ = unix.Close(fd)
	}
	return nil, err
}
