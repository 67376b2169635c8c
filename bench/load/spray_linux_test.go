package load

import (
	"net"
	"net/netip"
	"testing"

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
