package fdstore

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Store and keeper speak in messages of a SOCK_SEQPACKET socket: each arrives whole, with its fds, or not at all.
//
//	 0         1         2
//	+---------+---------+----------------------------------------------+
//	| version |   op    | names: (length byte, bytes)... | refusal text |
//	+---------+---------+----------------------------------------------+
//
//	store                    keeper
//	put    names+fds   ->
//	                   <-    ok
//	delete names       ->
//	                   <-    ok
//	take               ->
//	                   <-    fds    names+fds    as many times as it needs
//	                   <-    ok
//	anything           ->
//	                   <-    refused  text       nothing was changed
//
// A keeper outlives the program that started it: a newer daemon talks to an older keeper, never the other way round.
const wireVersion = 1

const (
	maxFDs     = 253                    // SCM_MAX_FD: fds in one message
	maxMessage = 2 + maxFDs*(1+maxName) // a full message of the longest names
)

type op byte

const (
	opPut     op = 1
	opDelete  op = 2
	opTake    op = 3
	opOK      op = 0x80
	opFDs     op = 0x81
	opRefused op = 0x82
)

type message struct {
	op    op
	names []string // put, delete, fds
	fds   []int    // put, fds: one for each name; any other message may carry them only by mistake
	text  string   // refused
}

// errBadMessage says that a message was not understood; the connection is fine.
var errBadMessage = errors.New("bad message")

func (m message) encode() []byte {
	b := []byte{wireVersion, byte(m.op)}
	for _, name := range m.names {
		b = append(b, byte(len(name)))
		b = append(b, name...)
	}
	return append(b, m.text...)
}

func decode(b []byte) (message, error) {
	if len(b) < 2 {
		return message{}, fmt.Errorf("%w: %d bytes are too few", errBadMessage, len(b))
	}
	if b[0] != wireVersion {
		return message{}, fmt.Errorf("%w: it has version %d, this keeper speaks %d", errBadMessage, b[0], wireVersion)
	}
	m := message{op: op(b[1])}
	b = b[2:]
	if m.op == opRefused {
		m.text = string(b)
		return m, nil
	}
	for len(b) > 0 {
		n := 1 + int(b[0])
		if n > len(b) {
			return message{}, fmt.Errorf("%w: a name is cut off", errBadMessage)
		}
		name := string(b[1:n])
		if err := checkName(name); err != nil {
			return message{}, fmt.Errorf("%w: %w", errBadMessage, err)
		}
		m.names = append(m.names, name)
		b = b[n:]
	}
	return m, nil
}

// send sends m; its fds stay the caller's.
func send(conn *net.UnixConn, m message) error {
	var rights []byte
	if len(m.fds) > 0 {
		rights = unix.UnixRights(m.fds...)
	}
	_, _, err := conn.WriteMsgUnix(m.encode(), rights, nil)
	return err
}

// A receiver reads messages from one connection.
type receiver struct {
	conn *net.UnixConn
	buf  [maxMessage]byte
	oob  []byte
}

func newReceiver(conn *net.UnixConn) *receiver {
	return &receiver{conn: conn, oob: make([]byte, unix.CmsgSpace(4*maxFDs))}
}

// next blocks for the next message. Its fds have close-on-exec set and are the caller's. With an error there are no
// fds; after an errBadMessage the next message may be read, any other error is the end of the connection.
func (r *receiver) next() (message, error) {
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(r.buf[:], r.oob)
	fds := rightsOf(r.oob[:oobn]) // even with an error, else they leak
	var m message
	if err == nil {
		m, err = decode(r.buf[:n])
	}
	switch {
	case err != nil:
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: more than %d bytes", errBadMessage, maxMessage)
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("%w: fds were lost at the limit of open files: raise it (ulimit -n, LimitNOFILE=)", errBadMessage)
	case len(fds) > 0 && len(fds) != len(m.names):
		err = fmt.Errorf("%w: %d fds for %d names", errBadMessage, len(fds), len(m.names))
	case len(fds) != len(m.names) && (m.op == opPut || m.op == opFDs):
		err = fmt.Errorf("%w: %d fds for %d names", errBadMessage, len(fds), len(m.names))
	}
	if err != nil {
		closeAll(fds)
		return message{}, err
	}
	m.fds = fds
	return m, nil
}

// rightsOf returns the fds of control messages.
func rightsOf(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range msgs {
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// trusted says whether the process at the other end runs as our user or as root.
func trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if cred.Uid != 0 && int(cred.Uid) != unix.Geteuid() {
		return fmt.Errorf("process %d of user %d is not trusted: only user %d and root are", cred.Pid, cred.Uid, unix.Geteuid())
	}
	return nil
}
