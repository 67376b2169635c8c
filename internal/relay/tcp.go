package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// dialTimeout is how long a container has to take a connection.
const dialTimeout = 10 * time.Second

func (l *Listener) listenTCP() (serve func(), err error) {
	c := net.ListenConfig{Control: l.control()}
	c.SetMultipathTCP(false) // which can't be spliced, nor looked up
	in, err := c.Listen(context.Background(), l.family(), netip.AddrPortFrom(l.Addr, l.Port).String())
	if err != nil {
		return nil, err
	}
	tcp := in.(*net.TCPListener)
	l.socket = tcp
	l.raw, err = tcp.SyscallConn()
	return func() { l.accept(tcp) }, err
}

// accept takes connections until the listener is closed.
func (l *Listener) accept(in *net.TCPListener) {
	for {
		conn, err := in.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no file descriptor is left
			l.relay.complain("take a connection to a published port", "at", l.Place, "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case l.relay.streams <- struct{}{}:
			l.relay.work.Go(func() { l.stream(conn) })
		case <-l.ctx.Done():
			conn.Close()
			return
		}
	}
}

// stream relays a connection, and ends it as the other side does: orderly, or by a reset.
func (l *Listener) stream(client *net.TCPConn) {
	defer func() { <-l.relay.streams }()
	defer l.drop(client)
	w := route{client: addrPort(client.RemoteAddr()).Addr(), at: addrPort(client.LocalAddr())}
	var ok bool
	if w.to, ok = l.find(w.at, w.client); !ok || !l.hold(client, w) {
		_ = client.SetLinger(0)
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
	defer cancel()
	conn, err := l.relay.Dial(ctx, "tcp", w.to.String())
	if err != nil {
		_ = client.SetLinger(0) // so the client is refused as it would be there
		return
	}
	server := conn.(*net.TCPConn)
	defer l.drop(server)
	if !l.hold(server, w) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pour(server, client)
	}()
	pour(client, server)
	<-done
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// pour moves what comes from one end to the other, by splice(2), until it ends; then that end ends as well.
func pour(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err == nil {
		_ = to.CloseWrite()
		return
	}
	for _, c := range []*net.TCPConn{to, from} { // one of them was reset
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}
