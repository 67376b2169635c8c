// Package relay is the published port that everybody writes first, and that docker-proxy is: a listener for each port, and for each
// connection a second one to the container and two goroutines that copy (Go's io.Copy, which is splice(2) between TCP sockets).
//
// It is the baseline for what is won by translating frames instead; the container sees the relay's address, not the client's.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Way is an address to listen on, and the container's that its connections go to.
type Way struct{ From, To netip.Addr }

// Listen relays the ports from first to last, until a listener fails.
func Listen(ways []Way, first, last uint16, ready func()) error {
	ended := make(chan error)
	for _, way := range ways {
		for port := int(first); port <= int(last); port++ {
			from, to := netip.AddrPortFrom(way.From, uint16(port)), netip.AddrPortFrom(way.To, uint16(port))
			listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(from))
			if err != nil {
				return fmt.Errorf("relay %v: %w", from, err)
			}
			go func() { ended <- serve(listener, net.TCPAddrFromAddrPort(to)) }()
		}
	}
	ready()
	return <-ended
}

func serve(listener *net.TCPListener, to *net.TCPAddr) error {
	for {
		client, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err == nil {
			go relay(client, to)
		}
	}
}

func relay(client *net.TCPConn, to *net.TCPAddr) {
	defer client.Close()
	server, err := net.DialTCP("tcp", nil, to)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		pass(server, client)
		close(done)
	}()
	pass(client, server)
	<-done
}

// pass copies until from ends. A reset is passed on as one: clients that reset are measured here.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0)
		to.Close()
		return
	}
	to.CloseWrite()
}
