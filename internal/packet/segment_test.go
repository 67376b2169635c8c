package packet_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

func byteCount(n int) string { return fmt.Sprintf("%dB", n) }

// checkSegments cuts f and compares with the oracle: complete, and partial and then completed. What Segment says of a
// segment must be what Parse finds in it.
func checkSegments(t interface {
	Helper()
	Fatalf(string, ...any)
}, f *packet.Frame) {
	t.Helper()
	want := Resegment(f.Vnet(), f.Bytes())
	before := bytes.Clone(f.WithVnet())
	if f.Segs != len(want) {
		t.Fatalf("%d segments, want %d", f.Segs, len(want))
	}
	dst := newFrame()
	for i := range f.Segs {
		for _, partial := range []bool{false, true} {
			f.Segment(dst, i, partial)
			if dst.Vnet().NeedsCsum() != partial || dst.Vnet().GSOType() != packet.GSONone {
				t.Fatalf("segment %d: vnet header %x", i, dst.Vnet())
			}
			said := *dst
			if r := dst.Parse(); r != packet.DropNone || find(dst) != find(&said) || dst.Key != said.Key {
				t.Fatalf("segment %d: %v\nsaid   %+v\nparsed %+v", i, r, find(&said), find(dst))
			}
			dst.CompleteChecksum()
			if !bytes.Equal(dst.Bytes(), want[i]) {
				n := min(100, dst.Len(), len(want[i]))
				t.Fatalf("segment %d of %d, partial %v, %d bytes, want %d\ngot  %x\nwant %x",
					i, f.Segs, partial, dst.Len(), len(want[i]), dst.Bytes()[:n], want[i][:n])
			}
			if err := Finished(dst.Vnet(), dst.Bytes()); err != nil {
				t.Fatalf("segment %d: %v", i, err)
			}
			if !dst.VerifyTransport() {
				t.Fatalf("segment %d: VerifyTransport says no", i)
			}
		}
	}
	if !bytes.Equal(f.WithVnet(), before) {
		t.Fatalf("the super-frame changed")
	}
}

func TestSegment(t *testing.T) {
	all := uint8(0x01 | 0x08 | 0x10 | 0x20 | 0x40 | 0x80) // FIN PSH ACK URG ECE CWR
	for _, c := range []struct {
		name  string
		frame *packet.Frame
	}{
		{"TCP", TCP(GSO(1448), Size(60000), Timestamps(1, 2), Flags(0x18))},
		{"TCP of whole segments", TCP(GSO(1000), Size(3000))},
		{"TCP with all flags", TCP(GSO(1000), Size(2500), Flags(all), Urgent(5))},
		{"TCP with ECN offload", TCP(GSO(1000), ECN(), Size(2500), Flags(0x98))},
		{"numbers that wrap", TCP(GSO(1000), Size(5500), Seq(0xfffffa00), ID(0xfffe, false))},
		{"TCP over IPv6", TCP(from6, to6, GSO(1440), Size(64000))},
		{"behind extension headers", TCP(from6, to6, HopByHop(), GSO(500), Size(1200))},
		{"behind IPv4 options", UDP(IPOptions(1, 1, 1, 0), GSO(500), Size(1200))},
		{"tag", TCP(VLAN(0xe00a), GSO(500), Size(1200))},
		{"QinQ", UDP(ServiceVLAN(7), VLAN(10), from6, to6, GSO(501), Size(1203))},
		{"UDP", UDP(GSO(1472), Size(60000))},
		{"UDP over IPv6, odd sizes", UDP(from6, to6, GSO(333), Size(10001))},
		{"one byte more", UDP(GSO(1472), Size(1473))},
		{"without NEEDS_CSUM", UDP(GSO(1000), Size(2500), Complete())},
		{"the longest", UDP(GSO(1472), Size(65507))},
		{"the longest over IPv6", TCP(from6, to6, GSO(1440), Size(65515))},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parsed(t, c.frame)
			checkSegments(t, f)
			f.PushVLAN(99)
			checkSegments(t, parsed(t, f))
		})
	}
}

func TestSegmentRandomTraffic(t *testing.T) {
	supers := 0
	rapid.Check(t, func(t *rapid.T) {
		for _, f := range Traffic(t, 40) {
			if r := f.Parse(); r != packet.DropNone {
				t.Fatalf("dropped: %v", r)
			}
			if f.Flags&packet.FlagGSO != 0 {
				supers++
				checkSegments(t, f)
			}
		}
	})
	if supers == 0 {
		t.Error("no super-frame was drawn")
	}
}

func TestCompleteChecksum(t *testing.T) {
	for name, o := range map[string][]Option{
		"v4": {}, "v6": {from6, to6}, "tag": {VLAN(9)}, "padding": {Trailer(17)}, "odd": {Size(33)},
		"zero": {Payload("\xc3\xff\x3b\xfe")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, build := range []func(...Option) *packet.Frame{UDP, TCP} {
				f, want := parsed(t, build(append(o, Partial())...)), build(o...)
				if f.VerifyTransport() || f.NoChecksum() {
					t.Error("a partial checksum is taken for a complete one")
				}
				f.CompleteChecksum()
				if !bytes.Equal(f.WithVnet(), want.WithVnet()) {
					t.Errorf("\ngot  %x\nwant %x", f.WithVnet(), want.WithVnet())
				}
				CheckFinished(t, f)
				f.CompleteChecksum() // does nothing any more
				CheckFinished(t, f)
			}
		})
	}
}

// TestChecksumZeroIsSentAsOnes builds a datagram whose checksum comes out as zero (RFC 768).
func TestChecksumZeroIsSentAsOnes(t *testing.T) {
	f := parsed(t, UDP(Partial(), Payload("\x00\x00")))
	g := *f
	f.CompleteChecksum()
	c := packet.UDP(f.Transport()).Checksum() // as payload, it makes the sum come out as zero
	zero := parsed(t, UDP(Partial(), Payload([]byte{byte(c >> 8), byte(c)})))
	zero.CompleteChecksum()
	if got := packet.UDP(zero.Transport()).Checksum(); got != 0xffff || zero.NoChecksum() || !zero.VerifyTransport() {
		t.Errorf("checksum %#04x of %+v", got, g)
	}
	CheckFinished(t, zero)
}

func TestVerifyTransport(t *testing.T) {
	for _, c := range []struct {
		name     string
		frame    *packet.Frame
		want, no bool
	}{
		{"UDP", UDP(Size(33)), true, false},
		{"UDP over IPv6", UDP(from6, to6, Size(33), VLAN(1)), true, false},
		{"TCP", TCP(Size(33), Trailer(4)), true, false},
		{"TCP behind extension headers", TCP(from6, to6, HopByHop()), true, false},
		{"ICMP", ICMPEcho(Size(33)), true, false},
		{"ICMPv6", ICMPEcho(from6, to6, Size(33)), true, false},
		{"no checksum", UDP(Size(33), NoChecksum()), false, true},
		{"no checksum over IPv6", UDP(from6, to6, Size(33), NoChecksum()), false, true},
		{"bad UDP", UDP(Size(33), BadChecksum()), false, false},
		{"bad TCP", TCP(Size(33), BadChecksum()), false, false},
		{"bad ICMP", ICMPEcho(Size(33), BadChecksum()), false, false},
		{"partial", TCP(Partial()), false, false},
		{"fragment", UDP(Fragment(0, true), Size(64)), false, false},
		{"another protocol", IP(132, Size(64)), false, false},
		{"not IP", ARPRequest(), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parsed(t, c.frame)
			if got, no := f.VerifyTransport(), f.NoChecksum(); got != c.want || no != c.no {
				t.Errorf("verified %v, no checksum %v; want %v, %v", got, no, c.want, c.no)
			}
		})
	}
	// A datagram may be shorter than its IP datagram; its checksum then covers its own length.
	f := UDP(Size(4))
	short := UDP(Size(8))
	copy(short.Bytes()[34:], f.Bytes()[34:46])
	if !parsed(t, short).VerifyTransport() {
		t.Error("bytes behind the UDP length were summed up")
	}
}
