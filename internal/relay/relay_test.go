package relay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/netnstest"
	"vswitch/internal/relay"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// rig is a host and a container with a cable between them: 10.77.0.1 and .2, fd77::1 and ::2.
type rig struct {
	host, box *netnstest.Container
	relay     *relay.Relay
}

func newRig(t *testing.T) *rig {
	t.Helper()
	lab := netnstest.New(t)
	r := &rig{host: lab.Container("host"), box: lab.Container("box")}
	r.host.IP("link add v0 type veth peer name v0 netns " + r.box.Name)
	for i, c := range []*netnstest.Container{r.host, r.box} {
		c.IP("link set lo up")
		c.IP(fmt.Sprintf("addr add 10.77.0.%d/24 dev v0", i+1))
		c.IP(fmt.Sprintf("addr add fd77::%d/64 dev v0 nodad", i+1))
		c.IP("link set v0 up")
	}
	r.relay = relay.New(relay.Config{Dial: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = r.host.Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}})
	t.Cleanup(func() {
		r.relay.Wait()
		r.host.IP("link del v0")
	})
	return r
}

// listen has the relay listen in the host until the end of the test.
func (r *rig) listen(t *testing.T, proto, at string, to string, from ...string) *relay.Listener {
	t.Helper()
	a := netip.MustParseAddrPort(at)
	target := relay.Target{To: netip.MustParseAddrPort(to)}
	for _, f := range from {
		target.From = append(target.From, netip.MustParsePrefix(f))
	}
	var l *relay.Listener
	err := r.host.Do(func() (err error) {
		l, err = r.relay.Listen(relay.Place{Proto: proto, Addr: a.Addr(), Port: a.Port()}, target)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(c *netnstest.Container, network, addr string) (conn net.Conn, err error) {
	err = c.Do(func() error {
		conn, err = net.DialTimeout(network, addr, netnstest.Patience)
		return err
	})
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(netnstest.Patience))
	}
	return conn, err
}

// echo sends back what comes over TCP; its end too.
func echo(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

// TestTCP: what a program of the host sends to any of its addresses comes back whole, its end last; nobody outside is heard.
func TestTCP(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	echo(t, r.box.ListenTCP("[::]:80"))
	r.listen(t, "tcp", "0.0.0.0:8080", "10.77.0.2:80")
	r.listen(t, "tcp", "[::]:8080", "[fd77::2]:80")
	sent := make([]byte, 8<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:8080", "127.9.9.9:8080", "10.77.0.1:8080", "[::1]:8080", "[fd77::1]:8080"} {
		conn, err := dial(r.host, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d of %d bytes came back: %v", addr, len(got), len(sent), err)
		}
		conn.Close()
	}
	for _, addr := range []string{"10.77.0.1:8080", "[fd77::1]:8080"} {
		err := r.box.Do(func() error {
			_, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
			return err
		})
		if err == nil {
			t.Errorf("somebody outside is heard at %s", addr)
		}
	}
}

// TestTCPEnds: a container that refuses, one that resets, a client that may not, a listener that is closed: all end the client's connection.
func TestTCPEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	in := r.box.ListenTCP("10.77.0.2:81")
	echo(t, r.box.ListenTCP("10.77.0.2:80"))
	go func() {
		conn, err := in.AcceptTCP()
		if err == nil {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.SetLinger(0)
			conn.Close()
		}
	}()
	defer in.Close()
	open := r.listen(t, "tcp", "127.0.0.1:8080", "10.77.0.2:80")
	r.listen(t, "tcp", "127.0.0.1:8081", "10.77.0.2:81")
	r.listen(t, "tcp", "127.0.0.1:8082", "10.77.0.2:82")
	r.listen(t, "tcp", "127.0.0.1:8083", "10.77.0.2:80", "10.0.0.0/8", "fd00::/8")
	r.listen(t, "tcp", "127.0.0.1:8084", "10.77.0.2:80", "127.0.0.0/8")
	for port, want := range map[int]error{8080: nil, 8081: unix.ECONNRESET, 8082: unix.ECONNRESET, 8083: unix.ECONNRESET, 8084: nil} {
		conn, err := dial(r.host, "tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			defer conn.Close()
			_, _ = conn.Write([]byte("x"))
			_, err = conn.Read(make([]byte, 1))
		}
		if !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("port %d: %v, want %v", port, err, want)
		}
		if port != 8080 {
			continue
		}
		if err := open.Close(); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the listener is closed, and the connection lives: %v", err)
		}
		if _, err := dial(r.host, "tcp", "127.0.0.1:8080"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the listener is closed, and takes connections: %v", err)
		}
	}
}

// TestTaken: a port of a program of the host, on any address or on one, is refused; on another one it is not.
func TestTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, at := range []string{"0.0.0.0:70", "10.77.0.1:71", "[::]:72"} {
		l := r.host.ListenTCP(at)
		defer l.Close()
	}
	u := r.host.UDP("127.0.0.1:73")
	defer u.Close()
	for _, c := range []struct {
		proto, at string
		taken     bool
	}{
		{"tcp", "0.0.0.0:70", true}, {"tcp", "127.0.0.1:70", true}, {"udp", "0.0.0.0:70", false}, {"tcp", "0.0.0.0:71", true},
		{"tcp", "127.0.0.1:71", false}, {"tcp", "[::]:72", true}, {"udp", "0.0.0.0:73", true}, {"udp", "[::]:73", false}, {"tcp", "192.0.2.1:74", false},
	} {
		a := netip.MustParseAddrPort(c.at)
		err := r.host.Do(func() error {
			l, err := r.relay.Listen(relay.Place{Proto: c.proto, Addr: a.Addr(), Port: a.Port()}, relay.Target{To: netip.MustParseAddrPort("10.77.0.2:80")})
			if err == nil {
				defer l.Close()
			}
			return err
		})
		if errors.Is(err, relay.ErrTaken) != c.taken || err != nil && !c.taken {
			t.Errorf("%s %s: %v", c.proto, c.at, err)
		}
	}
}

// TestUDP: datagrams of several clients come back to each of them, whole, in order, and from the address that they were sent to.
func TestUDP(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := r.box.UDP("[::]:53")
	defer box.Close()
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, from, err := box.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = box.WriteTo(b[:n], from)
		}
	}()
	r.listen(t, "udp", "0.0.0.0:5353", "10.77.0.2:53")
	l := r.listen(t, "udp", "[::]:5353", "[fd77::2]:53")
	for _, addr := range []string{"127.0.0.1:5353", "127.9.9.9:5353", "10.77.0.1:5353", "[::1]:5353", "[fd77::1]:5353"} {
		var conns []net.Conn
		for range 3 {
			conn, err := dial(r.host, "udp", addr) // takes datagrams from there alone
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conns = append(conns, conn)
		}
		for i, size := range []int{1, 0, 1400, 9000, 60000, 2} {
			for k, conn := range conns {
				sent := bytes.Repeat([]byte{byte(16*i + k)}, size)
				if _, err := conn.Write(sent); err != nil {
					t.Fatal(err)
				}
			}
			for k, conn := range conns {
				b := make([]byte, 64<<10)
				n, err := conn.Read(b)
				if want := bytes.Repeat([]byte{byte(16*i + k)}, size); err != nil || !bytes.Equal(b[:n], want) {
					t.Fatalf("%s, client %d: %d bytes came back, want %d: %v", addr, k, n, size, err)
				}
			}
		}
		for i := range 100 { // more than fit a batch
			if _, err := fmt.Fprint(conns[0], i); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			b := make([]byte, 64)
			if n, err := conns[0].Read(b); err != nil || string(b[:n]) != fmt.Sprint(i) {
				t.Fatalf("%s: %q instead of %d: %v", addr, b[:n], i, err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	conn, err := dial(r.host, "udp", "[::1]:5353")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the listener is closed: %v", err)
	}
}
