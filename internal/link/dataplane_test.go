package link_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/port"
)

var (
	left  = []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("fd99::1/64")}
	right = []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24"), netip.MustParsePrefix("fd99::2/64")}
)

// TestTraffic runs the kernel's stack against itself through two ports:
//
//	namespace a: eth0 --- port --- pump --- port --- eth0 :namespace b
func TestTraffic(t *testing.T) {
	kinds := []string{"tap", "veth"}
	for _, a := range kinds {
		for _, b := range kinds {
			t.Run(a+"-"+b, func(t *testing.T) { testTraffic(t, a, b) })
		}
	}
}

func testTraffic(t *testing.T, kindA, kindB string) {
	private := linktest.Private(t)
	a, b := linktest.Namespace(t), linktest.Namespace(t)
	stop := linktest.Pump(t, newPort(t, kindA, private, a, left), newPort(t, kindB, private, b, right))
	for i := range left {
		linktest.IP(t, "netns", "exec", a.String(), "ping", "-c", "2", "-i", "0.01", "-W", "30", right[i].Addr().String())
		transfer(t, a, b, right[i].Addr())
		transfer(t, b, a, left[i].Addr())
	}
	for i, c := range stop() {
		if c.Frames == 0 || c.Super == 0 || c.Bad != 0 || c.Lost != 0 {
			t.Errorf("from port %d: %+v; want frames and super-frames, none bad or lost", i, c)
		}
	}
}

func newPort(t *testing.T, kind string, private, ns *link.Namespace, addrs []netip.Prefix) port.Port {
	if kind == "tap" {
		return linktest.TAP(t, private, ns, addrs...)
	}
	p, _ := linktest.Veth(t, private, ns, addrs...)
	return p
}

// transfer sends some megabytes over TCP and compares them.
func transfer(t *testing.T, from, to *link.Namespace, server netip.Addr) {
	t.Helper()
	sent := make([]byte, 4<<20)
	_, _ = rand.Read(sent)
	listener := listen(t, to, server)
	defer listener.Close()
	received := make(chan []byte, 1)
	go func() {
		defer close(received)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		received <- b
	}()
	err := from.Do(func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Write(sent)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-received, sent) {
		t.Errorf("from %s to %s: received is not what was sent", from, server)
	}
}

func listen(t *testing.T, ns *link.Namespace, at netip.Addr) (l net.Listener) {
	t.Helper()
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
