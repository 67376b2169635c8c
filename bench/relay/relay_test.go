package relay

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestRelay(t *testing.T) {
	back := netip.MustParseAddr("127.0.7.2")
	server, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(back, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); io.Copy(conn, conn) }()
		}
	}()
	port := server.Addr().(*net.TCPAddr).AddrPort().Port()
	front := netip.MustParseAddr("127.0.7.1")
	listening, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- Listen([]Way{{front, back}}, port, port, func() { close(listening) })
	}()
	select {
	case <-listening:
	case err := <-failed:
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(front, port).String(), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v; want the echo, and its end", got, err)
	}
}

func TestRelaySaysWhichPortIsTaken(t *testing.T) {
	at := netip.MustParseAddr("127.0.7.3")
	taken, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	if err := Listen([]Way{{at, at}}, port, port, func() { t.Error("it is ready") }); err == nil {
		t.Error("a taken port is no error")
	}
}
