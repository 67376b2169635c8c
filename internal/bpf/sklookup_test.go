package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/bpf"
	"vswitch/internal/link/linktest"
)

// TestLookup: ports of all addresses, and of one, come to the socket of their protocol and family; others are left to the kernel.
func TestLookup(t *testing.T) {
	linktest.Root(t)
	ns := linktest.Namespace(t)
	var fds [4]int
	var tcp [2]net.Listener
	var udp [2]net.PacketConn
	dial := func(network, addr string) (conn net.Conn, err error) {
		err = ns.Do(func() error {
			conn, err = net.DialTimeout(network, addr, 30*time.Second)
			return err
		})
		return conn, err
	}
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	err := ns.Do(func() (err error) {
		if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
			return err
		}
		for i, v := range []string{"4", "6"} {
			if tcp[i], err = plain.Listen(t.Context(), "tcp"+v, ":0"); err == nil {
				udp[i], err = net.ListenPacket("udp"+v, ":0")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tcp {
		defer tcp[i].Close()
		defer udp[i].Close()
		fds[2*i], fds[2*i+1] = fdOf(t, tcp[i].(*net.TCPListener)), fdOf(t, udp[i].(*net.UDPConn))
	}
	l, err := bpf.NewLookup(ns.FD(), fds)
	if err != nil {
		t.Fatal(err)
	}
	var set bpf.PortSet
	set.AddRange(5000, 5063)
	set.Add(65535)
	for i, a := range []string{"127.0.0.1", "::1"} {
		for _, udp := range []bool{false, true} {
			if err := l.SetPorts(i == 1, udp, &set); err != nil {
				t.Fatal(err)
			}
			if err := l.SetAddr(netip.MustParseAddr(a), udp, 80, true); err != nil {
				t.Fatal(err)
			}
		}
		for _, port := range []int{5000, 5031, 5032, 5063, 65535, 80} {
			addr := net.JoinHostPort(a, fmt.Sprint(port))
			conn, err := dial("tcp", addr)
			if err != nil {
				t.Error(err)
				continue
			}
			peer, err := tcp[i].Accept()
			if err != nil || peer.LocalAddr().String() != addr {
				t.Errorf("%s: accepted at %v, %v", addr, peer, err)
			}
			peer.Close()
			conn.Close()
			if conn, err = dial("udp", addr); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(addr)); err != nil {
				t.Error(err)
			}
			b := make([]byte, 64)
			if err := udp[i].SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if n, _, err := udp[i].ReadFrom(b); err != nil || string(b[:n]) != addr {
				t.Errorf("%s: %q, %v", addr, b[:n], err)
			}
			conn.Close()
		}
	}
	for _, addr := range []string{"127.0.0.1:4999", "127.0.0.1:5064", "127.0.0.2:80", "[::1]:65534"} {
		if conn, err := dial("tcp", addr); err == nil {
			t.Errorf("%s is looked up", addr)
			conn.Close()
		}
	}
	if err := l.SetAddr(netip.MustParseAddr("127.0.0.1"), false, 80, false); err != nil {
		t.Fatal(err)
	}
	if err := l.SetPorts(false, false, new(bpf.PortSet)); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:80", "127.0.0.1:5000"} {
		if _, err := dial("tcp", addr); err == nil {
			t.Errorf("%s is still looked up", addr)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := dial("tcp", "[::1]:5000"); err == nil {
		t.Error("[::1]:5000 is looked up after the end")
	}
}

// fdOf returns the fd of a socket, which stays the socket's.
func fdOf(t *testing.T, c interface {
	SyscallConn() (syscall.RawConn, error)
}) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
