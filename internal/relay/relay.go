package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits: what is relayed costs file descriptors, which ports need more.
const (
	MaxStreams  = 1024 // TCP connections at once; more wait in the kernel's queue
	MaxSessions = 1024 // clients of UDP at once; the one that is idle longest makes room
)

// Place is where to listen.
type Place struct {
	Proto string     // tcp or udp
	Addr  netip.Addr // of the host, or unspecified: all of that family
	Port  uint16     // 0: any, see Lookup
}

// String is as in "127.0.0.1:80/tcp".
func (p Place) String() string {
	return fmt.Sprintf("%v/%s", netip.AddrPortFrom(p.Addr, p.Port), p.Proto)
}

// route is how a client's connection goes.
type route struct {
	client netip.Addr
	at     netip.AddrPort // of the host
	to     netip.AddrPort // of the container
}

// Config says how a Relay reaches containers.
type Config struct {
	Find   func(proto string, at netip.AddrPort, client netip.Addr) (to netip.AddrPort, ok bool) // where a connection goes, if its client may connect
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)                     // nil: as the calling process does
	Enter  func(func() error) error                                                              // runs a function in the namespace where listeners are to be
	Logger *slog.Logger                                                                          // nil discards
}

// Relay has the listeners of the host. Its methods are safe for concurrent use.
type Relay struct {
	Config
	streams chan struct{} // a token for each TCP connection
	work    sync.WaitGroup

	complained atomic.Int64 // when, Unix time in nanoseconds

	mu        sync.Mutex
	sessions  map[*session]bool      // guarded by mu, like the rest
	listeners map[*Listener]bool     // open
	replies   map[Place]*replySocket // by place, with Port
}

// New makes a relay without listeners.
func New(c Config) *Relay {
	r := &Relay{
		Config: c, streams: make(chan struct{}, MaxStreams), sessions: make(map[*session]bool), listeners: make(map[*Listener]bool),
		replies: make(map[Place]*replySocket),
	}
	if r.Dial == nil {
		r.Dial = new(net.Dialer).DialContext
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	return r
}

// complainInterval is how often what any client can cause is logged at most.
const complainInterval = 10 * time.Second

func (r *Relay) complain(what string, args ...any) {
	now := time.Now().UnixNano()
	if last := r.complained.Load(); now-last >= int64(complainInterval) && r.complained.CompareAndSwap(last, now) {
		r.Logger.Warn(what, args...)
	}
}

// Wait returns when all that was closed has ended.
func (r *Relay) Wait() { r.work.Wait() }

// Review ends what would go another way now, or not at all.
func (r *Relay) Review() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.listeners {
		l.review()
	}
}

// Listener is a socket that is listened on.
type Listener struct {
	Place
	relay  *Relay
	raw    syscall.RawConn
	socket io.Closer
	ctx    context.Context // of what it relays
	end    context.CancelFunc

	mu    sync.Mutex
	conns map[net.Conn]route // guarded by mu; nil: closed
}

// ErrTaken is the error of Listen when a program of the host has the port.
var ErrTaken = errors.New("a program of the host has the port")

// Listen listens on published ports.
func (r *Relay) Listen(p Place) (*Listener, error) {
	l := &Listener{Place: p, relay: r, conns: make(map[net.Conn]route)}
	var serve func()
	err := r.Enter(func() (err error) {
		if p.Proto == "tcp" {
			serve, err = l.listenTCP()
		} else {
			serve, err = l.listenUDP()
		}
		return err
	})
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on %v: %w", p, ErrTaken)
	case err != nil:
		return nil, fmt.Errorf("listen on %v: %w", p, err)
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	r.mu.Lock()
	r.listeners[l] = true
	r.mu.Unlock()
	r.work.Go(serve)
	return l, nil
}

// Close ends the listener and what came by it.
func (l *Listener) Close() error {
	l.relay.mu.Lock()
	delete(l.relay.listeners, l)
	l.relay.mu.Unlock()
	err := l.socket.Close()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
	return err
}

func (l *Listener) review() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn, w := range l.conns {
		if to, ok := l.find(w.at, w.client); !ok || to != w.to {
			conn.Close()
			delete(l.conns, conn)
		}
	}
}

// find returns where a connection goes; false when it may not.
func (l *Listener) find(at netip.AddrPort, client netip.Addr) (netip.AddrPort, bool) {
	return l.relay.Find(l.Proto, at, client)
}

// hold keeps a connection, to be ended in time; false when it may not be any more.
func (l *Listener) hold(c net.Conn, w route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to, ok := l.find(w.at, w.client); l.conns == nil || !ok || to != w.to {
		return false
	}
	l.conns[c] = w
	return true
}

// drop closes a connection.
func (l *Listener) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// fromHost lets pass what came in by the loopback interface, whose index is 1 in every namespace: not by SO_BINDTODEVICE, since what is
// sent to an address of another interface counts as that one's, though it comes by loopback. 0xfffff008 is SKF_AD_OFF + SKF_AD_IFINDEX.
var fromHost = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0xfffff008},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 1, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
	{Code: unix.BPF_RET | unix.BPF_K},
}

// family is the network's, as package net calls it.
func (p Place) family() string {
	if p.Addr.Is6() {
		return p.Proto + "6"
	}
	return p.Proto + "4"
}

// control prepares a listening socket: for programs of the host, for one family, also for an address that is yet to come.
func (p Place) control(options ...[2]int) func(string, string, syscall.RawConn) error {
	if p.Addr.Is6() {
		options = append(options, [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, [2]int{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND})
	} else {
		options = append(options, [2]int{unix.IPPROTO_IP, unix.IP_FREEBIND})
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		bad := c.Control(func(fd uintptr) {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(fromHost)), Filter: &fromHost[0]})
			for _, o := range options {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], 1))
			}
		})
		return errors.Join(bad, err)
	}
}
