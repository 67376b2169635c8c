package vswitch_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// echoes answers TCP connections and datagrams to a port of a container by the sender's address as it sees it, on both families.
func echoes(t *testing.T, c *netnstest.Container, port int) {
	t.Helper()
	l := c.ListenTCP(fmt.Sprintf("[::]:%d", port))
	u := c.UDP(fmt.Sprintf("[::]:%d", port))
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, plainAddr(conn.RemoteAddr()))
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	go func() {
		var b [64]byte
		for {
			_, from, err := u.ReadFrom(b[:])
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(plainAddr(from)), from)
		}
	}()
}

func plainAddr(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().Unmap().String() }

// tcpSeen connects and returns as whom the other side sees it.
func tcpSeen(c *netnstest.Container, addr string) (string, error) {
	var conn *net.TCPConn
	err := c.Do(func() error {
		x, err := net.DialTimeout("tcp", addr, netnstest.Patience)
		if err == nil {
			conn = x.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return hear(conn)
}

func hear(conn net.Conn) (string, error) { return hearWithin(conn, netnstest.Patience) }

func hearWithin(conn net.Conn, patience time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	var b [64]byte
	n, err := conn.Read(b[:])
	return strings.TrimSpace(string(b[:n])), err
}

// udpSeen is tcpSeen by a datagram, from a socket that takes answers from there alone.
func udpSeen(c *netnstest.Container, addr string) (string, error) {
	var conn net.Conn
	err := c.Do(func() (err error) {
		conn, err = net.Dial("udp", addr)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("who am I?")); err != nil {
		return "", err
	}
	return hear(conn)
}

// TestPublish: a published port is heard at the gateways of all networks of its router, by TCP and UDP, IPv4 and IPv6; the container sees the
// client's own address; in the client's own network, and for the container itself, that of the gateway. It outlives the daemon.
func TestPublish(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	c := lab.Container("c")
	d.Join("netb", "c", c)
	echoes(t, b, 80)
	for _, proto := range []string{"tcp", "udp"} {
		if got, want := d.Must("publish", "b", "8080:80/"+proto), "b 8080:80/"+proto; got != want {
			t.Errorf("publish prints %q, want %q", got, want)
		}
	}
	try := func() {
		t.Helper()
		for _, x := range []struct {
			from     *netnstest.Container
			addr, as string
		}{
			{a, "10.11.0.1", "10.11.0.2"}, {a, "10.12.0.1", "10.11.0.2"}, {a, "[fd11::1]", "fd11::2"}, {a, "[fd12::1]", "fd11::2"},
			{c, "10.12.0.1", "10.12.0.1"}, {c, "10.11.0.1", "10.12.0.1"}, {c, "[fd12::1]", "fd12::1"}, {c, "[fd11::1]", "fd12::1"},
			{b, "10.12.0.1", "10.12.0.1"}, {b, "10.11.0.1", "10.12.0.1"}, {b, "[fd12::1]", "fd12::1"}, {b, "[fd11::1]", "fd12::1"},
		} {
			for proto, seen := range map[string]func(*netnstest.Container, string) (string, error){"tcp": tcpSeen, "udp": udpSeen} {
				if got, err := seen(x.from, x.addr+":8080"); err != nil || got != x.as {
					t.Errorf("%s from %s to %s: seen as %q, want %s: %v", proto, x.from.Name, x.addr, got, x.as, err)
				}
			}
		}
	}
	try()
	if rows := netnstest.Get[[]api.Connection](d, "conntrack", "list", "neta", "--proto", "tcp", "--dport", "80"); len(rows) != 4 ||
		rows[0].Translated == nil || rows[0].Original.DstPort != 8080 || rows[0].Peer != "b" {
		t.Errorf("conntrack lists %+v", rows)
	}
	d.Kill()
	d.Start()
	try()
	d.Must("set-port", "b", "--ip", "10.12.0.99", "--ip", "10.12.0.2-")
	try()
	if rows := netnstest.Get[[]api.PublishedPort](d, "list-published"); len(rows) != 2 || fmt.Sprint(rows[0].To) != "[fd12::2 10.12.0.99]" {
		t.Errorf("list-published: %+v", rows)
	}
	d.Must("unpublish", "b", "80/udp")
	if got, err := udpSeen(a, "10.11.0.1:8080"); err == nil {
		t.Errorf("seen as %s by a port that is taken back", got)
	}
	d.Must("del-port", "b")
	if _, err := tcpSeen(a, "10.11.0.1:8080"); err == nil {
		t.Error("a deleted port is published")
	}
	d.Must("publish", "c", "8080:80")
	netnstest.ExpectNoErrors(a, c)
}
