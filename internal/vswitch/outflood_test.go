package vswitch_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// TestSYNFloodFromOutside: somebody outside floods a published port with SYNs of made-up sources, IPv4 and IPv6 in turn, up to 50,000 a second:
// they fill a table of 5000 ten times over in each. Connections by that port and through the masquerade go on, new ones mostly succeed, and the
// table keeps within its limit.
func TestSYNFloodFromOutside(t *testing.T) {
	const limit, tries = 5000, 2
	n := newInternet(t, "--max-network-connections=5000")
	for _, family := range []string{"-4", "-6"} { // answers to nobody end there
		n.isp.Run("ip", family, "route", "add", "blackhole", "default")
	}
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80", "--", "publish", "c", "8081:81")
	all := n.sessions(t)
	l := n.c.ListenTCP(":81")
	defer l.Close()
	go answer(l)
	stop, ended := make(chan struct{}), make(chan struct{})
	opened := func() uint64 {
		s, _ := n.d.Client.Stats(t.Context())
		return s.Connections.Opened
	}
	socket, mac := n.isp.PacketSocket("eth0"), n.isp.MAC()
	var frames [2][]byte
	for i, src := range []string{"11.0.244.255", "2001:db8:ffff::1"} { // words that vary come with their complement, so that the checksum stays right
		frames[i] = packettest.TCP(packettest.From(mac, src, 0), packettest.To(n.host.Link("up0").MAC, hostAddrs[i], 8081),
			packettest.Flags(packet.TCPSyn), packettest.Seq(0xffff)).Bytes()
	}
	go func() {
		defer close(ended)
		const batch = 1024
		taken := uint64(0)
		for k := uint32(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			for _, frame := range frames {
				time.Sleep(20 * time.Millisecond * netnstest.Slack)
				// A daemon that others keep from its work gets the time to take half of it: what overflows its queue, new connections lose too.
				for deadline := time.Now().Add(time.Second); opened() < taken+batch/2 && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
				taken = opened()
				socket.Blast(batch, len(frame), func(_ int, f []byte) {
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
				})
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	stats := func() (opened, evicted uint64, now int) {
		s, err := n.d.Client.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Connections.Opened, s.Connections.Evicted, s.Connections.Connections
	}
	n.d.Eventually("a flood that has to make room for itself", func() bool { _, evicted, _ := stats(); return evicted > 4*limit })
	good, total, start := 0, 0, time.Now()
	before, _, now := stats()
	after := before
	for total < 2*tries || after < before+1000 && time.Since(start) < netnstest.Patience {
		for _, at := range hostAddrs {
			total++
			if answered(n.server, net.JoinHostPort(at, "8081")) {
				good++
			}
		}
		for _, s := range all {
			if err := words(s.inner, s.far); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
		after, _, now = stats()
	}
	t.Logf("%d of %d new connections succeeded in %v, beside %d of the flood", good, total, time.Since(start), after-before)
	if good < total*9/10 {
		t.Errorf("%d of %d new connections succeeded", good, total)
	}
	if after-before < 1000 || now > limit+2 {
		t.Errorf("%d connections, %d opened meanwhile: this proves nothing, or is too much", now, after-before)
	}
}
