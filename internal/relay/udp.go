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
	raw      syscall.RawConn
	sessions map[client]*session // the reader's alone
}

// client names a session: who speaks to which of our addresses.
type client struct {
	from netip.AddrPort
	to   netip.Addr
}

// session relays what one client and the container send each other.
type session struct {
	conn    *net.UDPConn // to the container
	raw     syscall.RawConn
	name    unix.RawSockaddrInet6 // the client
	control []byte
	used    atomic.Int64 // Unix time in nanoseconds
	over    atomic.Bool
}

func (l *Listener) listenUDP() error {
	family, info := "udp4", [2]int{unix.IPPROTO_IP, unix.IP_PKTINFO}
	if l.Addr.Is6() {
		family, info = "udp6", [2]int{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}
	}
	c := net.ListenConfig{Control: l.control(info)}
	in, err := c.ListenPacket(context.Background(), family, netip.AddrPortFrom(l.Addr, l.Port).String())
	if err != nil {
		return err
	}
	conn := in.(*net.UDPConn)
	_ = conn.SetReadBuffer(receiveBuffer) // or what the host allows
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return err
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.close = conn.Close
	e := &ears{l, raw, make(map[client]*session)}
	l.relay.work.Go(e.run)
	return nil
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
	to, ok := e.targetOf(who.from.Addr())
	if !ok {
		return nil
	}
	conn, err := e.relay.dial(e.ctx, "udp", to.String())
	if err != nil {
		e.relay.log.Warn("relay to a published port", "port", e.Port, "to", to, "err", err)
		return nil
	}
	s = &session{conn: conn.(*net.UDPConn), name: b.names[i], control: fromAddr(who.to)}
	if s.raw, err = s.conn.SyscallConn(); err != nil || !e.hold(s.conn, to) {
		conn.Close()
		return nil
	}
	s.used.Store(now.UnixNano())
	e.sessions[who] = s
	e.relay.admit(s)
	e.relay.work.Go(func() { e.answer(s) })
	return s
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
				_ = e.raw.Control(func(fd uintptr) { b.send(fd, 0, n, &s.name, s.control) })
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
