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
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/link"
	"vswitch/internal/netnstest"
	"vswitch/internal/relay"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// rig is a host and a container with a cable between them: 10.77.0.1 and .2, fd77::1 and ::2.
type rig struct {
	host, box *netnstest.Container
	relay     *relay.Relay

	mu    sync.Mutex
	rules map[relay.Place]rule // guarded by mu
}

// rule is where a place leads, and for whom.
type rule struct {
	to   netip.AddrPort
	from []netip.Prefix
}

func newRig(t *testing.T) *rig {
	t.Helper()
	lab := netnstest.New(t)
	r := &rig{host: lab.Container("host"), box: lab.Container("box"), rules: make(map[relay.Place]rule)}
	r.host.IP("link add v0 type veth peer name v0 netns " + r.box.Name)
	for i, c := range []*netnstest.Container{r.host, r.box} {
		c.IP("link set lo up")
		c.IP(fmt.Sprintf("addr add 10.77.0.%d/24 dev v0", i+1))
		c.IP(fmt.Sprintf("addr add fd77::%d/64 dev v0 nodad", i+1))
		c.IP("link set v0 up")
	}
	for i, c := range []*netnstest.Container{r.host, r.box} {
		lab.Eventually("IPv6 addresses are local", func() bool { return c.ListensAt(fmt.Sprintf("fd77::%d", i+1)) })
	}
	r.relay = relay.New(relay.Config{Find: r.find, Enter: r.host.Do, Dial: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
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

func (r *rig) find(proto string, at netip.AddrPort, client netip.Addr) (netip.AddrPort, bool) {
	any := netip.IPv4Unspecified()
	if at.Addr().Is6() {
		any = netip.IPv6Unspecified()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x, ok := r.rules[relay.Place{Proto: proto, Addr: at.Addr(), Port: at.Port()}]
	if !ok {
		x, ok = r.rules[relay.Place{Proto: proto, Addr: any, Port: at.Port()}]
	}
	return x.to, ok && (len(x.from) == 0 || slices.ContainsFunc(x.from, func(p netip.Prefix) bool { return p.Contains(client) }))
}

// lead makes a place lead to the container.
func (r *rig) lead(proto, at, to string, from ...string) relay.Place {
	a := netip.MustParseAddrPort(at)
	p, x := relay.Place{Proto: proto, Addr: a.Addr(), Port: a.Port()}, rule{to: netip.MustParseAddrPort(to)}
	for _, f := range from {
		x.from = append(x.from, netip.MustParsePrefix(f))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules[p] = x
	return p
}

// listen has the relay listen in the host until the end of the test.
func (r *rig) listen(t *testing.T, proto, at, to string, from ...string) *relay.Listener {
	t.Helper()
	l, err := r.relay.Listen(r.lead(proto, at, to, from...))
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

// heard tells whether somebody outside the host is, where a program of the host would be answered.
func (r *rig) heard(network, addr string) bool {
	return r.box.Do(func() error {
		conn, err := net.DialTimeout(network, addr, 200*time.Millisecond)
		if err != nil || network == "tcp" {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	}) == nil
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
		if r.heard("tcp", addr) {
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
			if _, err = conn.Write([]byte("x")); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
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
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
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
		l, err := r.relay.Listen(relay.Place{Proto: c.proto, Addr: a.Addr(), Port: a.Port()})
		if err == nil {
			defer l.Close()
		}
		if errors.Is(err, relay.ErrTaken) != c.taken || err != nil && !c.taken {
			t.Errorf("%s %s: %v", c.proto, c.at, err)
		}
	}
}

// serveUDP sends datagrams back from a port of the container.
func (r *rig) serveUDP(t *testing.T, port int) {
	t.Helper()
	box := r.box.UDP(fmt.Sprintf("[::]:%d", port))
	t.Cleanup(func() { box.Close() })
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, from, err := box.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = box.WriteTo(b[:n], from)
		}
	}()
}

// TestLookup: ranges of ports, of all addresses and of one, by TCP and UDP, by one socket of each protocol and family; nobody else's are touched, and what is taken back ends.
func TestLookup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	echo(t, r.box.ListenTCP("[::]:80"))
	r.serveUDP(t, 80)
	ns, err := link.OpenNetns(r.host.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	l, err := r.relay.OpenLookup(ns.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := r.host.ListenTCP("0.0.0.0:5999")
	echo(t, own)
	var conns []net.Conn
	say := func(network, addr string, want bool) {
		t.Helper()
		conn, err := dial(r.host, network, addr)
		b := make([]byte, 64)
		if err == nil {
			conns = append(conns, conn)
			t.Cleanup(func() { conn.Close() })
			_, _ = conn.Write([]byte(addr))
			var n int
			if n, err = conn.Read(b); err == nil && string(b[:n]) != addr {
				err = fmt.Errorf("%q came", b[:n])
			}
		}
		if (err == nil) != want {
			t.Errorf("%s %s: %v", network, addr, err)
		}
	}
	for _, proto := range []string{"tcp", "udp"} {
		for addr, to := range map[string]string{"0.0.0.0": "10.77.0.2:80", "[::]": "[fd77::2]:80", "127.0.0.5": "10.77.0.2:80", "[fd77::1]": "[fd77::2]:80"} {
			first := 5000
			if addr != "0.0.0.0" && addr != "[::]" {
				first = 6000
			}
			var place relay.Place
			for p := first + 99; p >= first; p-- {
				place = r.lead(proto, fmt.Sprintf("%s:%d", addr, p), to)
			}
			if err := errors.Join(l.Set(place, place.Port+99, true), l.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		for _, addr := range []string{"127.0.0.1:5000", "127.0.0.9:5099", "10.77.0.1:5050", "[::1]:5031", "[fd77::1]:5032", "127.0.0.5:6000", "[fd77::1]:6099"} {
			say(proto, addr, true)
			say(proto, addr, true) // another client
		}
		for _, addr := range []string{"127.0.0.1:5100", "127.0.0.6:6000", "[::1]:6099"} {
			say(proto, addr, false)
		}
	}
	say("tcp", "127.0.0.1:5999", true) // the host's own
	for _, addr := range []string{"10.77.0.1:5000", "[fd77::1]:5032", "[fd77::1]:6099"} {
		if r.heard("tcp", addr) || r.heard("udp", addr) {
			t.Errorf("somebody outside is heard at %s, which is looked up", addr)
		}
	}
	old := conns[0]
	if err := errors.Join(l.Set(relay.Place{Proto: "tcp", Addr: netip.IPv4Unspecified(), Port: 5000}, 5000, false), l.Flush()); err != nil {
		t.Error(err)
	}
	r.mu.Lock()
	delete(r.rules, relay.Place{Proto: "tcp", Addr: netip.IPv4Unspecified(), Port: 5000})
	r.mu.Unlock()
	r.relay.Review()
	if _, err := old.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection by a port that is taken back: %v", err)
	}
	say("tcp", "127.0.0.1:5000", false)
	say("tcp", "127.0.0.1:5001", true)
}

// TestUDP: datagrams of several clients come back to each of them, whole, in order, and from the address that they were sent to; nobody outside is heard.
func TestUDP(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serveUDP(t, 53)
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
	for _, addr := range []string{"10.77.0.1:5353", "[fd77::1]:5353"} {
		if r.heard("udp", addr) {
			t.Errorf("somebody outside is heard at %s", addr)
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
