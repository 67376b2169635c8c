package vswitch_test

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// TestSYNFloodFromOutside: somebody outside floods a published port with SYNs of made-up sources, IPv4 and IPv6 in turn, as fast as it can: several
// times what the daemon can answer. Connections by that port and through the masquerade go on, new ones mostly succeed, and the table keeps
// within its limit.
func TestSYNFloodFromOutside(t *testing.T) {
	for _, u := range []struct {
		name, add string
		addrs     []string
	}{
		{"shared", "add-uplink up0 --name own", hostAddrs},
		{"dedicated", dedicated, []string{station4, station6}},
	} {
		t.Run(u.name, func(t *testing.T) { synFloodFromOutside(t, u.add, u.addrs) })
	}
}

func synFloodFromOutside(t *testing.T, addUplink string, addrs []string) {
	const limit, clients, tries = 5000, 8, 2
	n := newInternet(t, "--max-network-connections=5000")
	for _, family := range []string{"-4", "-6"} { // answers to nobody end there
		n.isp.Run("ip", family, "route", "add", "blackhole", "default")
	}
	n.d.Must(strings.Fields(addUplink + " -- publish c 8080:80 -- publish c 8081:81")...)
	all := n.sessionsAt(t, addrs)
	l := n.c.ListenTCP(":81")
	defer l.Close()
	go answer(l)
	sent, stop := n.floodPublished(t, addrs, 8081)
	defer stop()
	stats := func() (opened, evicted uint64, now int) {
		s, err := n.d.Client.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Connections.Opened, s.Connections.Evicted, s.Connections.Connections
	}
	n.d.Eventually("a flood that has to make room for itself", func() bool { _, evicted, _ := stats(); return evicted > 4*limit })
	var good atomic.Int32
	var wg sync.WaitGroup
	start := time.Now()
	before, _, _ := stats()
	flooded := sent.Load()
	for i := range clients {
		wg.Go(func() {
			for range tries {
				if answered(n.server, net.JoinHostPort(addrs[i%2], "8081")) {
					good.Add(1)
				}
			}
		})
	}
	news := make(chan struct{})
	go func() { wg.Wait(); close(news) }()
	after, now := before, 0
	var took []time.Duration
	for waits := true; waits || after < before+1000 && time.Since(start) < netnstest.Patience; {
		for _, s := range all {
			spoke := time.Now()
			if err := words(s.inner, s.far); err != nil {
				t.Errorf("%s: %v", s.name, err)
				<-news
				return
			}
			took = append(took, time.Since(spoke))
		}
		select {
		case <-news:
			waits = false
		case <-time.After(10 * time.Millisecond):
		}
		after, _, now = stats()
	}
	slices.Sort(took)
	t.Logf("%d of %d new connections succeeded in %v, beside %d of the flood, of which %d were sent; on %d established ones words took %v (p50), %v (p99)",
		good.Load(), clients*tries, time.Since(start), after-before, sent.Load()-flooded, len(took), took[len(took)/2], took[len(took)*99/100])
	if good.Load() < clients*tries*9/10 {
		t.Errorf("%d of %d new connections succeeded", good.Load(), clients*tries)
	}
	if after-before < 1000 || now > limit+2 {
		t.Errorf("%d connections, %d opened meanwhile: this proves nothing, or is too much", now, after-before)
	}
	if dropped(n.d, "uplink:own", "kernel_rx_dropped") == 0 {
		t.Error("of the flood nothing is counted that did not get in")
	}
}

// floodPublished has the ISP send SYNs to a port of the uplink's addresses as fast as it can, none of them twice, and counts them.
func (n *internet) floodPublished(t *testing.T, addrs []string, port uint16) (sent *atomic.Uint64, stop func()) {
	t.Helper()
	var frames [2][]byte
	for i, src := range []string{"11.0.244.255", "2001:db8:ffff::1"} { // words that vary come with their complement, so that the checksum stays right
		frames[i] = packettest.TCP(packettest.From(n.isp.MAC(), src, 0), packettest.To(gatewayMACSeen(t, n.isp, addrs[i]), addrs[i], port),
			packettest.Flags(packet.TCPSyn), packettest.Seq(0xffff)).Bytes()
	}
	socket, enough, ended := n.isp.PacketSocket("eth0"), make(chan struct{}), make(chan struct{})
	sent = new(atomic.Uint64)
	go func() {
		defer close(ended)
		for k := uint32(0); ; {
			select {
			case <-enough:
				return
			default:
			}
			for _, frame := range frames {
				sent.Add(64)
				socket.Blast(64, len(frame), func(_ int, f []byte) {
					copy(f, frame)
					k++
					r := k * 2654435761
					source, tcp, word := f[26:], f[34:], 11<<8|uint16(r>>24)
					if len(f) > 60 {
						source, tcp, word = f[26:], f[54:], uint16(r>>16)
					}
					binary.BigEndian.PutUint16(source, word)
					binary.BigEndian.PutUint16(source[2:], ^word)
					binary.BigEndian.PutUint16(tcp, uint16(r))
					binary.BigEndian.PutUint16(tcp[6:], ^uint16(r))
					binary.BigEndian.PutUint16(tcp[4:], uint16(k>>16))
					binary.BigEndian.PutUint16(tcp[8:], ^uint16(k>>16))
				})
			}
		}
	}()
	return sent, func() { close(enough); <-ended }
}
