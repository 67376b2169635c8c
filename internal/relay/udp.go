package relay

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// idleSession is how long a client of UDP may be silent, and not be answered, until it is forgotten: as the switch's own connections are.
const idleSession = 300 * time.Second

// receiveBuffer is that of a UDP listener, in bytes.
const receiveBuffer = 1 << 20

// ears is a UDP listener's socket with its clients.
type ears struct {
	*Listener
	sessions map[client]*session // the reader's alone
}

// client names a session: who speaks to which of our addresses and ports.
type client struct{ from, to netip.AddrPort }

// session relays what one client and the container send each other.
type session struct {
	conn    *net.UDPConn // to the container
	raw     syscall.RawConn
	mouth   syscall.RawConn       // by which the client is answered
	name    unix.RawSockaddrInet6 // the client
	control []byte
	used    atomic.Int64 // Unix time in nanoseconds
	over    atomic.Bool
}

func (l *Listener) listenUDP() (serve func(), err error) {
	in, err := l.udp()
	if err != nil {
		return nil, err
	}
	_ = in.SetReadBuffer(receiveBuffer) // or what the host allows
	l.socket = in
	l.raw, err = in.SyscallConn()
	e := &ears{l, make(map[client]*session)}
	return e.run, err
}

// udp opens a socket that tells of each datagram where it was sent to.
func (p Place) udp() (*net.UDPConn, error) {
	dst := [2]int{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR}
	if p.Addr.Is6() {
		dst = [2]int{unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR}
	}
	c := net.ListenConfig{Control: p.control(dst)}
	in, err := c.ListenPacket(context.Background(), p.family(), netip.AddrPortFrom(p.Addr, p.Port).String())
	if err != nil {
		return nil, err
	}
	return in.(*net.UDPConn), nil
}

// mouth is a socket from which clients are answered whose port is not that of the listener, which a Lookup found. It hears nothing: the
// Lookup is asked first.
type mouth struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	refs int
}

// at is where a client's mouth is.
func (e *ears) at(who client) Place { return Place{e.Proto, who.to.Addr(), who.to.Port()} }

// openMouth returns a mouth for a port, to be given back.
func (r *Relay) openMouth(p Place) (syscall.RawConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mouths[p]
	if m == nil {
		m = &mouth{}
		err := r.Enter(func() (err error) {
			m.conn, err = p.udp()
			return err
		})
		if err != nil {
			return nil, err
		}
		if m.raw, err = m.conn.SyscallConn(); err != nil {
			m.conn.Close()
			return nil, err
		}
		r.mouths[p] = m
	}
	m.refs++
	return m.raw, nil
}

func (r *Relay) closeMouth(p Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mouths[p]
	if m.refs--; m.refs == 0 {
		delete(r.mouths, p)
		m.conn.Close()
	}
}

// run relays what clients send, until the listener is closed.
func (e *ears) run() {
	for {
		err := e.raw.Read(func(fd uintptr) bool {
			b := batches.Get().(*batch)
			defer batches.Put(b)
			n, errno := b.recv(fd)
			if errno == unix.EAGAIN {
				return false
			}
			e.take(b, n)
			return true
		})
		if err != nil {
			return
		}
	}
}

// take sends each client's datagrams on, those that follow each other together.
func (e *ears) take(b *batch, n int) {
	now := time.Now()
	for i := 0; i < n; {
		who := client{b.sender(i), b.local(i)}
		j := i + 1
		for j < n && b.sender(j) == who.from && b.local(j) == who.to {
			j++
		}
		if s := e.session(who, b, i, now); s != nil {
			_ = s.raw.Control(func(fd uintptr) { b.send(fd, i, j, nil, nil) })
		}
		i = j
	}
}

// session returns the client's, made when it has none; nil when it may have none.
func (e *ears) session(who client, b *batch, i int, now time.Time) *session {
	s := e.sessions[who]
	if s != nil && !s.over.Load() {
		s.used.Store(now.UnixNano())
		return s
	}
	for old, s := range e.sessions {
		if s.over.Load() {
			delete(e.sessions, old)
		}
	}
	s, err := e.open(who)
	if err != nil {
		e.relay.complain("relay to a published port", "at", who.to, "err", err)
	}
	if s == nil {
		return nil
	}
	s.name, s.control = b.names[i], fromAddr(who.to.Addr())
	s.used.Store(now.UnixNano())
	e.sessions[who] = s
	e.relay.admit(s)
	e.relay.work.Go(func() {
		e.answer(s)
		if e.Port == 0 {
			e.relay.closeMouth(e.at(who))
		}
	})
	return s
}

// open opens a session's sockets; nil when the client may have none.
func (e *ears) open(who client) (s *session, err error) {
	w := Way{Client: who.from.Addr(), At: who.to}
	var ok bool
	if w.To, ok = e.find(w.At, w.Client); !ok {
		return nil, nil
	}
	conn, err := e.relay.Dial(e.ctx, "udp", w.To.String())
	if err != nil {
		return nil, err
	}
	s = &session{conn: conn.(*net.UDPConn), mouth: e.raw}
	if s.raw, err = s.conn.SyscallConn(); err == nil && e.Port == 0 {
		s.mouth, err = e.relay.openMouth(e.at(who))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if !e.hold(conn, w) {
		s.over.Store(true) // it ends at once
		conn.Close()
	}
	return s, nil
}

// answer relays what the container sends, until neither side has sent anything for long.
func (e *ears) answer(s *session) {
	defer e.drop(s.conn)
	defer e.relay.forget(s)
	defer s.over.Store(true)
	for {
		idle := time.Unix(0, s.used.Load()).Add(idleSession)
		if time.Now().After(idle) || s.conn.SetReadDeadline(idle) != nil {
			return
		}
		err := s.raw.Read(func(fd uintptr) bool {
			b := batches.Get().(*batch)
			defer batches.Put(b)
			n, errno := b.recv(fd)
			if errno == unix.EAGAIN {
				return false
			}
			if n > 0 { // else the container refused a datagram: it may take the next one
				s.used.Store(time.Now().UnixNano())
				_ = s.mouth.Control(func(fd uintptr) { b.send(fd, 0, n, &s.name, s.control) })
			}
			return true
		})
		if err != nil && e.ctx.Err() != nil || s.over.Load() {
			return
		}
	}
}

// admit counts a session, and lets the one go that is idle longest when there are too many.
func (r *Relay) admit(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = true
	if len(r.sessions) <= MaxSessions {
		return
	}
	oldest := s
	for o := range r.sessions {
		if o.used.Load() < oldest.used.Load() {
			oldest = o
		}
	}
	delete(r.sessions, oldest)
	oldest.over.Store(true)
	oldest.conn.Close()
}

func (r *Relay) forget(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}
