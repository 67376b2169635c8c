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

func BenchmarkSegment(b *testing.B) {
	for _, c := range []struct {
		name    string
		partial bool
		frame   *packet.Frame
	}{
		{"TCP4", false, TCP(GSO(1448), Size(60000), Timestamps(1, 2))},
		{"TCP4-partial", true, TCP(GSO(1448), Size(60000), Timestamps(1, 2))},
		{"UDP6", false, UDP(from6, to6, GSO(1432), Size(60000))},
		{"UDP4-18B", false, UDP(GSO(18), Size(18*64))},
	} {
		f, dst := parsed(b, c.frame), newFrame()
		b.Run(c.name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				f.Segment(dst, i, c.partial)
				if i++; i == f.Segs {
					i = 0
				}
			}
		})
	}
}

func BenchmarkVerifyTransport(b *testing.B) {
	for _, n := range []int{18, 1400} {
		f := parsed(b, UDP(Size(n)))
		b.Run(byteCount(n), func(b *testing.B) {
			for b.Loop() {
				f.VerifyTransport()
			}
		})
	}
}

func BenchmarkPushPopVLAN(b *testing.B) {
	f := parsed(b, UDP(Size(18), Partial()))
	for b.Loop() {
		f.PushVLAN(10)
		f.PopVLAN()
	}
}
