package packet_test

import (
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame *packet.Frame
	}{
		{"UDP4", UDP(Size(18))},
		{"UDP4-partial", UDP(Size(18), Partial())},
		{"TCP4-TSO", TCP(GSO(1448), Size(60000), Timestamps(1, 2))},
		{"TCP6", TCP(from6, to6, Size(1400))},
		{"UDP6-hopbyhop", UDP(from6, to6, HopByHop(), Size(18))},
		{"UDP4-QinQ", UDP(ServiceVLAN(100), VLAN(10), Size(18))},
		{"ARP", ARPRequest()},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.frame.Parse()
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	f := UDP(Size(18))
	f.Parse()
	var sum uint64
	for b.Loop() {
		sum += f.Key.Hash()
	}
}
