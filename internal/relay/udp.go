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

// udpListener is a UDP listener's socket with its clients.
type udpListener struct {
	*Listener
	sessions map[client]*session // the reader's alone
}

// client names a session: who speaks to which of our addresses and ports.
type client struct{ from, to netip.AddrPort }

// session relays what one client and the container send each other.
type session struct {
	conn    *net.UDPConn // to the container
	raw     syscall.RawConn
	reply   syscall.RawConn       // by which the client is answered
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
	u := &udpListener{l, make(map[client]*session)}
	return u.run, err
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

// replySocket is a socket from which clients are answered whose port is not that of the listener, which a Lookup found. It hears nothing: the
// Lookup is asked first.
type replySocket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	refs int
}

// at is where a client is answered from.
func (u *udpListener) at(who client) Place { return Place{u.Proto, who.to.Addr(), who.to.Port()} }

// openReply returns a socket that answers from p, to be given back by closeReply.
func (r *Relay) openReply(p Place) (syscall.RawConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.replies[p]
	if m == nil {
		m = &replySocket{}
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
		r.replies[p] = m
	}
	m.refs++
	return m.raw, nil
}

func (r *Relay) closeReply(p Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.replies[p]
	if m.refs--; m.refs == 0 {
		delete(r.replies, p)
		m.conn.Close()
	}
}

// run relays what clients send, until the listener is closed.
func (u *udpListener) run() {
	for {
		err := u.raw.Read(func(fd uintptr) bool {
			b := batches.Get().(*batch)
			defer batches.Put(b)
			n, errno := b.recv(fd)
			if errno == unix.EAGAIN {
				return false
			}
			u.take(b, n)
			return true
		})
		if err != nil {
			return
		}
	}
}

// take sends each client's datagrams on, those that follow each other together.
func (u *udpListener) take(b *batch, n int) {
	now := time.Now()
	for i := 0; i < n; {
		who := client{b.sender(i), b.local(i)}
		j := i + 1
		for j < n && b.sender(j) == who.from && b.local(j) == who.to {
			j++
		}
		if s := u.session(who, b, i, now); s != nil {
			_ = s.raw.Control(func(fd uintptr) { b.send(fd, i, j, nil, nil) })
		}
		i = j
	}
}

// session returns the client's, made when it has none; nil when it may have none.
func (u *udpListener) session(who client, b *batch, i int, now time.Time) *session {
	s := u.sessions[who]
	if s != nil && !s.over.Load() {
		s.used.Store(now.UnixNano())
		return s
	}
	for old, s := range u.sessions {
		if s.over.Load() {
			delete(u.sessions, old)
		}
	}
	s, err := u.open(who)
	if err != nil {
		u.relay.complain("relay to a published port", "at", who.to, "err", err)
	}
	if s == nil {
		return nil
	}
	s.name, s.control = b.names[i], fromAddr(who.to.Addr())
	s.used.Store(now.UnixNano())
	u.sessions[who] = s
	u.relay.admit(s)
	u.relay.work.Go(func() {
		u.answer(s)
		if u.Port == 0 {
			u.relay.closeReply(u.at(who))
		}
	})
	return s
}

// open opens a session's sockets; nil when the client may have none.
func (u *udpListener) open(who client) (s *session, err error) {
	w := route{client: who.from.Addr(), at: who.to}
	var ok bool
	if w.to, ok = u.find(w.at, w.client); !ok {
		return nil, nil
	}
	conn, err := u.relay.Dial(u.ctx, "udp", w.to.String())
	if err != nil {
		return nil, err
	}
	s = &session{conn: conn.(*net.UDPConn), reply: u.raw}
	if s.raw, err = s.conn.SyscallConn(); err == nil && u.Port == 0 {
		s.reply, err = u.relay.openReply(u.at(who))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if !u.hold(conn, w) {
		s.over.Store(true) // it ends at once
		conn.Close()
	}
	return s, nil
}

// answer relays what the container sends, until neither side has sent anything for long.
func (u *udpListener) answer(s *session) {
	defer u.drop(s.conn)
	defer u.relay.forget(s)
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
				_ = s.reply.Control(func(fd uintptr) { b.send(fd, 0, n, &s.name, s.control) })
			}
			return true
		})
		if err != nil && u.ctx.Err() != nil || s.over.Load() {
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
