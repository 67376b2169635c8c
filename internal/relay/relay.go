package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

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
	Port  uint16
}

// String is as in "127.0.0.1:80/tcp".
func (p Place) String() string {
	return fmt.Sprintf("%v/%s", netip.AddrPortFrom(p.Addr, p.Port), p.Proto)
}

// Target is where what comes goes.
type Target struct {
	To   netip.AddrPort // of the container
	From []netip.Prefix // who may connect; none: everybody
}

// Config says how a Relay reaches containers.
type Config struct {
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: as the calling process does
	Logger *slog.Logger                                                      // nil discards
}

// Relay has the listeners of the host. Its methods are safe for concurrent use.
type Relay struct {
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	log     *slog.Logger
	streams chan struct{} // a token for each TCP connection
	work    sync.WaitGroup

	mu       sync.Mutex
	sessions map[*session]bool // guarded by mu
}

// New makes a relay without listeners.
func New(c Config) *Relay {
	r := &Relay{dial: c.Dial, log: c.Logger, streams: make(chan struct{}, MaxStreams), sessions: make(map[*session]bool)}
	if r.dial == nil {
		r.dial = new(net.Dialer).DialContext
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Wait returns when all that was closed has ended.
func (r *Relay) Wait() { r.work.Wait() }

// Listener is a published port that is listened on.
type Listener struct {
	Place
	relay *Relay
	close func() error
	ctx   context.Context // of what it relays
	end   context.CancelFunc

	mu     sync.Mutex
	target Target            // guarded by mu, like the rest
	conns  map[net.Conn]bool // nil: closed
}

// ErrTaken is the error of Listen when a program of the host has the port.
var ErrTaken = errors.New("a program of the host has the port")

// Listen listens on a published port, in the calling thread's network namespace.
func (r *Relay) Listen(p Place, to Target) (*Listener, error) {
	l := &Listener{Place: p, relay: r, target: to, conns: make(map[net.Conn]bool)}
	var err error
	if p.Proto == "tcp" {
		err = l.listenTCP()
	} else {
		err = l.listenUDP()
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on %v: %w", p, ErrTaken)
	case err != nil:
		return nil, fmt.Errorf("listen on %v: %w", p, err)
	}
	return l, nil
}

// Close ends the listener and what came by it.
func (l *Listener) Close() error {
	err := l.close()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUp()
	l.conns = nil
	return err
}

// Retarget sends what comes from now on elsewhere, and ends what came before.
func (l *Listener) Retarget(to Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target.To == to.To && slices.Equal(l.target.From, to.From) {
		return
	}
	l.target = to
	l.hangUp()
}

// hangUp ends what is relayed. Callers hold mu.
func (l *Listener) hangUp() {
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
}

// hold keeps a connection that goes to the target, to be ended with the listener; false when that has happened already.
func (l *Listener) hold(c net.Conn, to netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil || l.target.To != to {
		return false
	}
	l.conns[c] = true
	return true
}

// drop closes a connection.
func (l *Listener) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// targetOf returns where a client's connection goes; false when it may not connect.
func (l *Listener) targetOf(client netip.Addr) (netip.AddrPort, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.target.From
	return l.target.To, len(from) == 0 || slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(client) })
}

// fromHost lets pass what came in by the loopback interface, whose index is 1 in every namespace: not by SO_BINDTODEVICE, since what is
// sent to an address of another interface counts as that one's, though it comes by loopback. 0xfffff008 is SKF_AD_OFF + SKF_AD_IFINDEX.
var fromHost = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0xfffff008},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 1, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
	{Code: unix.BPF_RET | unix.BPF_K},
}

// control prepares a listening socket: for programs of the host, for one family, also for an address that is yet to come.
func (l *Listener) control(options ...[2]int) func(string, string, syscall.RawConn) error {
	if l.Addr.Is6() {
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
