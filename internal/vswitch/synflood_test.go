package vswitch_test

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// TestSYNFlood: a container floods its gateway with SYNs of made-up sources of its subnet as fast as it can. What others have open through the
// masquerade goes on, new connections mostly succeed, and the table of connections keeps within its limit.
//
//	x ---SYNs of 10.11.x.x---> neta --- router --- netb ---> sink, where they end
//	a ---TCP-----------------> neta --- router --- netb ---> b
func TestSYNFlood(t *testing.T) {
	const limit, tries = 5000, 50
	lab := netnstest.New(t)
	d := lab.Daemon("--max-network-connections=5000")
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/16", "--masquerade", "on")
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24")
	a, b, x, sink := lab.Container("a"), lab.Container("b"), lab.Container("x"), lab.Container("sink")
	d.Join("neta", "a", a)
	d.Join("neta", "x", x)
	d.Join("netb", "b", b)
	d.Join("netb", "sink", sink)
	d.Must("add-route", "10.99.0.0/16", "via", "10.12.0.3") // it does not forward
	near, far := pair(t, a, b, "10.12.0.2")
	talk(t, near, far)
	ping(lab, a, "10.12.0.2")
	ping(lab, x, "10.12.0.2")
	ping(lab, x, "10.12.0.3")
	gw := gatewayMACSeen(t, x, "10.11.0.1")
	frame := packettest.TCP(packettest.From(x.MAC(), "10.11.0.3", 0), packettest.To(gw, "10.99.0.1", 80), packettest.Flags(packet.TCPSyn)).Bytes()
	socket, stop, ended := x.PacketSocket("eth0"), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := uint32(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			socket.Blast(4096, len(frame), func(_ int, f []byte) {
				copy(f, frame)
				n++
				r := n * 2654435761
				f[28], f[29] = byte(r>>24)|0x80, byte(r>>16) // who is none of ours
				binary.BigEndian.PutUint16(f[34:], uint16(r))
			})
		}
	}()
	defer func() { close(stop); <-ended }()
	stats := func() (opened, evicted uint64, now int) {
		s, err := d.Client.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Connections.Opened, s.Connections.Evicted, s.Connections.Connections
	}
	d.Eventually("a flood that has to make room for itself", func() bool { _, evicted, _ := stats(); return evicted > 4*limit })
	l := b.ListenTCP("10.12.0.2:0")
	defer l.Close()
	go answer(l)
	good := 0
	before, _, _ := stats()
	start := time.Now()
	after, now, total := before, 0, 0
	for total < tries || after < before+1000 && time.Since(start) < netnstest.Patience {
		if total++; answered(a, l.Addr().String()) {
			good++
		}
		talk(t, near, far)
		after, _, now = stats()
	}
	t.Logf("%d of %d new connections succeeded in %v, beside %d of the flood", good, total, time.Since(start), after-before)
	if good < total*8/10 {
		t.Errorf("%d of %d new connections succeeded", good, total)
	}
	if after-before < 1000 || now > limit+2 {
		t.Errorf("%d connections, %d opened meanwhile: this proves nothing, or is too much", now, after-before)
	}
}

// gatewayMACSeen returns the MAC that the container's kernel has learned of its gateway.
func gatewayMACSeen(t *testing.T, c *netnstest.Container, addr string) string {
	t.Helper()
	words := strings.Fields(c.IP("neigh show " + addr))
	i := slices.Index(words, "lladdr")
	if i < 0 || i+1 == len(words) {
		t.Fatalf("%s does not know the MAC of %s: %v", c.Name, addr, words)
	}
	return words[i+1]
}

// answer sends back the first four bytes of each connection.
func answer(l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var buf [4]byte
			if n, err := conn.Read(buf[:]); err == nil {
				_, _ = conn.Write(buf[:n])
			}
		}()
	}
}

// answered tells whether a new connection carries something there and back within a time in which a SYN may be lost twice; with a daemon that takes longer for
// all, more often.
func answered(c *netnstest.Container, addr string) bool {
	conn, err := c.DialTCP(addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(4*time.Second*netnstest.Slack)) != nil {
		return false
	}
	if _, err := conn.Write([]byte("ping")); err != nil {
		return false
	}
	var buf [4]byte
	n, err := conn.Read(buf[:])
	return err == nil && string(buf[:n]) == "ping"
}
