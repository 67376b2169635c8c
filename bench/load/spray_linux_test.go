package load

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// A spray's frames are whole, and of as many flows and MAC addresses as were asked for, in turn.
func TestSprayFrames(t *testing.T) {
	s := &sprayer{Spray: Spray{To: netip.MustParseAddrPort("10.77.0.3:9000"), Flow: 7, Payload: 18, Flows: 60000, Servers: 1, MACs: 300}, mac: [6]byte{2, 0, 0, 0, 0, 1}}
	s.prepare(net.HardwareAddr{2, 0, 0, 0, 0, 2}, [4]byte{10, 77, 0, 1})
	flows, macs := map[packet.Key]int{}, map[[6]byte]int{}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	const rounds = 2
	for n := range rounds * s.Flows {
		b := s.out.payloads[n%len(s.out.payloads)]
		s.next(b)
		f.Reset()
		f.Load(nil, b)
		if r := f.Parse(); r != packet.DropNone {
			t.Fatalf("frame %d: %v", n, r)
		}
		if n < 1000 || n%s.Flows > 49990 {
			if err := packettest.Finished(f.Vnet(), f.Bytes()); err != nil {
				t.Fatalf("frame %d: %v", n, err)
			}
		}
		if seq, ok := header(b[sprayData:], 7); !ok || seq != uint64(n) {
			t.Fatalf("frame %d has number %d", n, seq)
		}
		macs[f.Key.SrcMAC]++
		flows[packet.Key{Src: f.Key.Src, SrcPort: f.Key.SrcPort}]++
	}
	if len(flows) != s.Flows || len(macs) != s.MACs {
		t.Errorf("%d flows of %d addresses, want %d of %d", len(flows), len(macs), s.Flows, s.MACs)
	}
	for k, n := range flows {
		if n != rounds {
			t.Fatalf("%d frames of flow %+v", n, k)
		}
	}
}

// A spray at a rate sends no more than that, whatever it sleeps.
func TestSprayPaced(t *testing.T) {
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	to := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	s := &sprayer{Spray: Spray{To: to, Payload: 18, Flows: 10, Servers: 1, MACs: 1}, out: sender{UDPSend: UDPSend{Segments: 1}}}
	s.prepare(net.HardwareAddr{2, 0, 0, 0, 0, 2}, [4]byte{127, 0, 0, 1})
	if s.out.fd, err = open(unix.SOCK_DGRAM, to, time.Second); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s.out.fd)
	if errno := rawConnect(s.out.fd, newAddress(to)); errno != 0 {
		t.Fatal(errno)
	}
	const rate = 20_000
	var last time.Duration
	if err := s.paced(rate, func(now time.Duration) bool { last = now; return now < 50*time.Millisecond }); err != nil {
		t.Fatal(err)
	}
	sent := s.out.report.Datagrams
	if due := uint64(last.Seconds() * rate); sent == 0 || sent > due || sent+s.out.report.Missed < due/2 || s.out.seq != sent {
		t.Errorf("%d datagrams sent, number %d, %d missed; %d were due after %v", sent, s.out.seq, s.out.report.Missed, due, last)
	}
}
