package server

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// limiter counts the connections that it accepts. Above maxClients they are marked, and their first request is answered 503; above
// maxClients+maxRefused they get the 503 without a look at their request. So Accept never waits for a client to leave.
type limiter struct {
	net.Listener
	clients *atomic.Int64
}

// refusal is the answer to those whose request we do not even read.
const refusal = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// Accept returns the next connection, as a *client.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		n := l.clients.Add(1)
		if n <= maxClients+maxRefused {
			return &client{Conn: conn, over: n > maxClients, peer: peerOf(conn), count: l.clients}, nil
		}
		l.clients.Add(-1)
		conn.SetWriteDeadline(time.Now().Add(time.Millisecond)) // a fresh socket's buffer has room for it
		io.WriteString(conn, refusal)
		conn.Close()
	}
}

// client is a connection with what is known of its other end.
type client struct {
	net.Conn
	over  bool // there were too many when it came
	peer  Peer
	count *atomic.Int64
	once  sync.Once
}

// Close closes the connection and gives its place to the next one.
func (c *client) Close() error {
	c.once.Do(func() { c.count.Add(-1) })
	return c.Conn.Close()
}

// Peer is the process at the other end of the socket, as the kernel knows it (SO_PEERCRED). The zero value stands for an unknown one.
type Peer struct {
	PID      int32
	UID, GID uint32
	Known    bool
}

type clientKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// PeerOf returns the process that sent the request of ctx, a context that a Backend's method was given.
func PeerOf(ctx context.Context) Peer {
	if c, ok := ctx.Value(clientKey{}).(*client); ok {
		return c.peer
	}
	return Peer{}
}

func peerOf(c net.Conn) Peer {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return Peer{}
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Known: true}
}
