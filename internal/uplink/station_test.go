package uplink_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
	"vswitch/internal/uplink"
)

// The container of a station's lab has addresses of its own on the outside's segment.
var (
	stationMAC   = [6]byte{0x02, 0, 0, 0, 0xab, 0xcd}
	stationAddrs = []string{"192.0.2.77", "2001:db8:1::77"}
)

func (l *lab) station() *uplink.Station {
	l.t.Helper()
	s, err := uplink.OpenStation(l.stationConfig(), l.store.take(), l.recorded)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Remove() })
	return s
}

func (l *lab) stationConfig() uplink.StationConfig {
	c := uplink.StationConfig{ID: l.cfg.ID, Interface: "up0", Host: l.host, MAC: stationMAC, Store: l.store, Record: l.cfg.Record}
	for _, a := range stationAddrs {
		c.Addrs = append(c.Addrs, netip.MustParseAddr(a))
	}
	return c
}

// occupy makes the container that has the station's MAC and addresses.
func (l *lab) occupy(s *uplink.Station) (stop func() [2]linktest.Counts) {
	l.t.Helper()
	c := l.container.String()
	p := linktest.TAP(l.t, l.private, l.container, netip.MustParsePrefix(stationAddrs[0]+"/24"), netip.MustParsePrefix(stationAddrs[1]+"/64"))
	linktest.IP(l.t, "-n", c, "link", "set", "eth0", "address", net.HardwareAddr(stationMAC[:]).String())
	for _, gateway := range gateways {
		linktest.IP(l.t, "-n", c, "route", "replace", "default", "via", gateway)
	}
	return linktest.Pump(l.t, p, s.Port())
}

// TestStation: a MAC and addresses beside the host's, which neighbors find, with super-frames, and nothing of the host's traffic.
func TestStation(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	before := l.fingerprint()
	s := l.station()
	if st := s.State(); st.Attached != uplink.AttachedPacket || st.Problem != "" || st.Name != "up0" || !st.Carrier || st.MTU != 1500 {
		t.Fatalf("state %+v", st)
	}
	stop := l.occupy(s)
	linktest.IP(t, "-n", l.outside.String(), "neigh", "flush", "dev", "eth0")
	for i := range stationAddrs {
		l.echo(l.container, stationAddrs[i], 8080)
		l.echo(l.outside, outsideAddrs[i], 7000)
		l.talks("to the station", l.outside, 0, stationAddrs[i], 8080)
		l.talks("from the station", l.container, 0, outsideAddrs[i], 7000)
		linktest.IP(t, "netns", "exec", l.outside.String(), "ping", "-c", "2", "-i", "0.01", "-W", "30", stationAddrs[i])
	}
	counts := stop()
	for i, c := range counts {
		if c.Frames == 0 || c.Super == 0 || c.Bad != 0 || c.Lost != 0 {
			t.Errorf("from port %d: %+v; want frames and super-frames, none bad or lost", i, c)
		}
	}
	stop = linktest.Pump(t, nowhere(t), s.Port())
	for i := range hostAddrs {
		l.echo(l.host, hostAddrs[i], 8000)
		l.talks("to the host", l.outside, 0, hostAddrs[i], 8000)
		l.talks("from the host", l.host, 0, outsideAddrs[i], 7000)
		l.refused("closed port of the host's", hostAddrs[i], 81)
	}
	if n := stop()[1].Frames; n > 30 { // ARP, and neighbor solicitations
		t.Errorf("%d frames came to the station, of traffic that is the host's", n)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	l.unchanged(before)
	linktest.IP(t, "-n", l.outside.String(), "neigh", "flush", "dev", "eth0")
	if c, err := dial(l.outside, 0, stationAddrs[0], 8080, 300*time.Millisecond); err == nil {
		t.Error("a station that was removed answers")
		_ = c.Close()
	}
}

// nowhere is a port whose other end nobody has set up.
func nowhere(t *testing.T) port.Port {
	t.Helper()
	return linktest.TAP(t, linktest.Private(t), linktest.Namespace(t))
}

// TestStationFollows: the interface is renamed, goes down and up, is removed and comes back, and the daemon is replaced; the station is there
// whenever the interface is.
func TestStationFollows(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.station()
	stop := l.followStation(s)
	unplug := l.occupy(s)
	h := l.host.String()
	ip := func(args ...string) { t.Helper(); linktest.IP(t, append([]string{"-n", h}, args...)...) }
	until := func(what string, holds func(uplink.State) bool) {
		t.Helper()
		linktest.Eventually(t, what, func() bool { return holds(s.State()) })
	}
	l.echo(l.container, stationAddrs[0], 8080)
	c, err := dial(l.outside, 0, stationAddrs[0], 8080, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	works := func(what string) {
		t.Helper()
		if err := exchange(c, 1<<16); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	works("at first")
	linktest.Rename(t, l.host.String(), "up0", "wan0")
	until("renamed", func(st uplink.State) bool { return st.Name == "wan0" })
	works("renamed")
	linktest.Rename(t, l.host.String(), "wan0", "up0")
	ip("link", "set", "up0", "mtu", "1400")
	until("its MTU is 1400", func(st uplink.State) bool { return st.MTU == 1400 })
	ip("link", "set", "up0", "mtu", "1500")
	ip("link", "set", "up0", "down")
	until("down", func(st uplink.State) bool { return !st.Carrier })
	ip("link", "set", "up0", "up")
	until("up", func(st uplink.State) bool { return st.Up && st.Carrier })
	works("down and up")
	ip("link", "del", "up0")
	until("gone", func(st uplink.State) bool {
		return st.Index == 0 && st.Attached == "" && strings.Contains(st.Problem, "gone")
	})
	ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "address", gatewayMAC, "netns", l.outside.String())
	ip("link", "set", "up0", "up")
	linktest.IP(t, "-n", l.outside.String(), "addr", "add", gateways[0]+"/24", "dev", "eth0")
	linktest.IP(t, "-n", l.outside.String(), "link", "set", "eth0", "up")
	until("back", func(st uplink.State) bool {
		return st.Carrier && st.Problem == "" && st.Attached == uplink.AttachedPacket
	})
	works("the interface is another one")
	stop()
	unplug()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = l.station() // with the socket of the one before
	l.followStation(s)
	l.occupyAgain(s)
	works("another daemon")
}

// occupyAgain pumps between a new TAP of the container and a station. The container's stack keeps its connections: they are of its addresses.
func (l *lab) occupyAgain(s *uplink.Station) {
	l.t.Helper()
	linktest.IP(l.t, "-n", l.container.String(), "link", "del", "eth0")
	l.occupy(s)
}

func (l *lab) followStation(s *uplink.Station) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx, func(uplink.State) {}); err != nil {
			l.t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	l.t.Cleanup(stop)
	return stop
}

// TestStationGate: of SYNs for the station no more get into its queue than are meant to, until it is read on, and all else gets in. The gate is there, and
// open, also after a daemon that left it shut, or that had none.
func TestStationGate(t *testing.T) {
	t.Parallel()
	const drained = 1024 // see internal/bpf/gate.go
	l := newLab(t)
	outside := listenEthernet(t, l.outside, "eth0")
	number := uint32(0)
	frame := func(i int, build func(...packettest.Option) *packet.Frame, more ...packettest.Option) []byte {
		number++
		return build(append([]packettest.Option{
			packettest.From(gatewayMAC, outsideAddrs[i%2], 40000), packettest.To(net.HardwareAddr(stationMAC[:]).String(), stationAddrs[i%2], 80),
			packettest.Flags(packet.TCPSyn), packettest.Seq(number),
		}, more...)...).Bytes()
	}
	send := func(b []byte) {
		if _, err := outside.file.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	s := l.station()
	for _, c := range []struct {
		what   string
		before func()
	}{
		{"a new station", func() {}},
		{"its queue is read", func() { s.Port().(port.Throttle).Served(true) }},
		{"after a daemon that left the gate shut", func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = l.station()
		}},
		{"after a daemon without a gate", func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			held := l.store.take()
			defer closeAll(held)
			if err := unix.SetsockoptInt(held["frames"], unix.SOL_SOCKET, unix.SO_DETACH_BPF, 0); err != nil {
				t.Fatal(err)
			}
			s = l.station()
		}},
	} {
		c.before()
		refused := func() uint64 {
			n, _, err := s.Port().(port.Counters).KernelDrops()
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		const syns, others, bad = 2 * drained, 100, 3
		before, entered, passed, malformed := refused(), 0, 0, 0
		for i := range others {
			send(frame(i, packettest.TCP, packettest.VLAN(5)))
		}
		for i := range syns {
			send(frame(i, packettest.TCP))
		}
		send(frame(0, packettest.TCP)[:14+9]) // the header's protocol is missing
		send(frame(1, packettest.TCP)[:14+6])
		send(frame(1, packettest.TCP, packettest.Fragment(0, true))[:14+40+3])
		for i := range others {
			send(frame(i, packettest.UDP))
		}
		linktest.Eventually(t, c.what+": all have arrived", func() bool {
			for f.Reset(); s.Port().Read(f) == nil; f.Reset() {
				switch reason := f.Parse(); {
				case reason != packet.DropNone:
					malformed++
				case f.Key.Proto == packet.ProtoTCP:
					entered++
				case f.Key.Proto == packet.ProtoUDP:
					passed++
				}
			}
			return entered+int(refused()-before) >= syns && passed >= others && malformed >= bad
		})
		const more = 100 // that enter where others keep this test from its work for a while
		if entered < drained || entered > drained+more || entered+int(refused()-before) != syns || passed != others || malformed != bad {
			t.Errorf("%s: of %d SYNs %d entered and %d were refused, want %d to enter; of %d others %d entered, and of %d malformed ones %d",
				c.what, syns, entered, refused()-before, drained, others, passed, bad, malformed)
		}
	}
}

// TestStationRefusals: an interface that can't have a station is refused, and nothing is left.
func TestStationRefusals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, args := range [][]string{
		{"tuntap", "add", "tun0", "mode", "tun"}, {"link", "add", "br0", "type", "bridge"},
		{"link", "add", "member", "type", "veth", "peer", "name", "other"}, {"link", "set", "member", "master", "br0"},
	} {
		linktest.IP(t, append([]string{"-n", l.host.String()}, args...)...)
	}
	before := l.fingerprint()
	for name, code := range map[string]string{"lo": api.CodeRefused, "tun0": api.CodeRefused, "member": api.CodeRefused, "nosuch": api.CodeNotFound} {
		cfg := l.stationConfig()
		cfg.Interface = name
		_, err := uplink.OpenStation(cfg, nil, uplink.Changes{})
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != code {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
	}
	if len(l.store.take()) != 0 {
		t.Error("fds are left in the store")
	}
	l.unchanged(before)

}
