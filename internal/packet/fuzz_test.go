package packet_test

import (
	"bytes"
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// FuzzParse: no frame makes Parse panic or say what is not so. What it lets pass, all that comes after may rely on.
func FuzzParse(f *testing.F) {
	for _, build := range kinds() {
		for _, o := range [][]Option{{}, {VLAN(10)}, {ServiceVLAN(7), VLAN(10)}, {Trailer(5)}} {
			frame := build(o...)
			b := bytes.Clone(frame.WithVnet())
			f.Add(b[:min(len(b), 600)])
		}
	}
	for _, frame := range []*packet.Frame{
		ICMPEcho(), ICMPEcho(from6, to6), IP(132, Size(20)), IP(47, Size(60)), TCP(Flags(2), Timestamps(1, 2)),
		TCP(from6, to6, HopByHop(), Extension(60, 0, 1, 4, 0, 0, 0, 0), GSO(20), Size(50)),
		UDP(from6, to6, Fragment(0, false)), UDP(IPOptions(1, 1, 1, 0)), UDP(GSO(20), Size(50), Complete()),
	} {
		f.Add(bytes.Clone(frame.WithVnet()))
	}
	for _, b := range BadFrames("02:00:00:00:00:01", "02:00:00:00:00:02") {
		f.Add(append(bytes.Clone(b.Vnet), b.Frame...))
	}
	segment := newFrame()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > len(segment.Space()) {
			return
		}
		// Nothing lies behind the frame, so that who reads on panics.
		frame := packet.NewFrame(make([]byte, packet.Headroom-packet.VnetLen+len(b)))
		frame.SetRead(copy(frame.Space(), b))
		if frame.Parse() != packet.DropNone {
			return
		}
		checkInvariants(t, frame)
		checkParsedTwice(t, frame)
		use(frame, segment)
	})
}

// checkInvariants says what every parsed frame has in common.
func checkInvariants(t *testing.T, f *packet.Frame) {
	t.Helper()
	k, v := &f.Key, f.Vnet()
	if f.L3 < 14 || f.L3 > f.L3End || f.L3End > f.Len() || f.L3Size < 0 || f.L3Size > f.Len()-f.L3 || f.Segs < 1 {
		t.Fatalf("offsets %+v of %d bytes", find(f), f.Len())
	}
	if (f.L4 == 0) != (f.Payload == 0) || f.L4 != 0 && (f.L4 < f.L3+20 || f.Payload < f.L4+8 || f.Payload > f.L3End) {
		t.Fatalf("transport %+v", find(f))
	}
	if f.L4 != 0 && f.Flags&packet.FlagFragment != 0 {
		t.Fatal("a fragment has a transport header")
	}
	if v.NeedsCsum() && (int(v.CsumStart()) != f.L4 || k.Proto != packet.ProtoTCP && k.Proto != packet.ProtoUDP) {
		t.Fatalf("NEEDS_CSUM of something else: %x, %+v", v, find(f))
	}
	if gso := v.GSOType() != packet.GSONone; gso != (f.Segs > 1) || gso != (f.Flags&packet.FlagGSO != 0) || gso && !v.NeedsCsum() {
		t.Fatalf("super-frame: %x, %+v", v, find(f))
	}
	if f.Segs > 1 && int(v.HdrLen()) != f.Payload || f.Segs == 1 && v.HdrLen() != 0 {
		t.Fatalf("header length: %x, %+v", v, find(f))
	}
}

func checkParsedTwice(t *testing.T, f *packet.Frame) {
	t.Helper()
	b, said, key := bytes.Clone(f.WithVnet()), find(f), f.Key
	if r := f.Parse(); r != packet.DropNone || find(f) != said || f.Key != key || !bytes.Equal(f.WithVnet(), b) {
		t.Fatalf("parsed again: %v\nfirst  %+v\nsecond %+v", r, said, find(f))
	}
}

// use calls all that a parsed frame is good for.
func use(f, dst *packet.Frame) {
	f.Key.Hash()
	f.VerifyTransport()
	f.NoChecksum()
	f.WireBytes()
	switch f.Key.EtherType {
	case packet.EtherTypeIPv4:
		h := f.IPv4()
		h.SetTotalLen(h.TotalLen())
		h.SetID(h.ID())
		_, _, _, _ = h.Src(), h.Dst(), h.TTL(), h[:h.HeaderLen()]
	case packet.EtherTypeIPv6:
		h := f.IPv6()
		_, _, _ = h.Src(), h.Dst(), h.HopLimit()
	case packet.EtherTypeARP:
		_ = packet.ARP(f.Bytes()[f.L3:]).TargetIP()
	}
	if f.L4 != 0 {
		switch t := f.Transport(); f.Key.Proto {
		case packet.ProtoTCP:
			_ = t[:packet.TCP(t).HeaderLen()]
		case packet.ProtoUDP:
			_ = t[:packet.UDP(t).Length()]
		}
	}
	if f.Segs > 1 {
		for _, i := range []int{0, f.Segs / 2, f.Segs - 1} {
			f.Segment(dst, i, false)
			f.Segment(dst, i, true)
		}
	} else {
		f.CopyInto(dst)
		dst.CompleteChecksum()
	}
	if f.Key.VLAN != 0 || f.Key.Inner != 0 {
		f.SetVLAN(5)
		f.PopVLAN()
	}
	f.PushVLAN(9)
	f.Clone()
}
