package packet_test

import (
	"bytes"
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

func parsed(t testing.TB, f *packet.Frame) *packet.Frame {
	t.Helper()
	if r := f.Parse(); r != packet.DropNone {
		t.Fatalf("dropped: %v", r)
	}
	return f
}

func newFrame() *packet.Frame { return packet.NewFrame(make([]byte, packet.BufSize)) }

// kinds are frames of all kinds that a tag may be put on.
func kinds() map[string]func(...Option) *packet.Frame {
	with := func(build func(...Option) *packet.Frame, more ...Option) func(...Option) *packet.Frame {
		return func(o ...Option) *packet.Frame { return build(append(more, o...)...) }
	}
	return map[string]func(...Option) *packet.Frame{
		"UDP":         with(UDP, Size(18)),
		"partial":     with(UDP, Size(18), Partial()),
		"IPv6":        with(TCP, from6, to6, Size(99), Partial()),
		"TSO":         with(TCP, GSO(1448), Size(60000), Timestamps(1, 2)),
		"USO6":        with(UDP, from6, to6, GSO(1000), Size(3001)),
		"fragment":    with(UDP, Fragment(9, true), Size(64)),
		"ARP":         with(ARPRequest),
		"opaque":      with(func(o ...Option) *packet.Frame { return Raw(0x88cc, o...) }, Size(46)),
		"with a tag":  with(UDP, VLAN(77), Partial()),
		"service tag": with(UDP, ServiceVLAN(77), Partial()),
	}
}

// same reports how two frames differ in bytes and in what Parse says of them.
func same(t *testing.T, got, want *packet.Frame) {
	t.Helper()
	if !bytes.Equal(got.WithVnet(), want.WithVnet()) {
		n := min(100, len(got.WithVnet()), len(want.WithVnet()))
		t.Errorf("bytes\ngot  %x\nwant %x", got.WithVnet()[:n], want.WithVnet()[:n])
	}
	g, w := find(got), find(want)
	g.VLAN, g.Inner, w.VLAN, w.Inner = 0, 0, 0, 0 // without Parse the Key knows the outermost tag only
	if g != w {
		t.Errorf("\ngot  %+v\nwant %+v", g, w)
	}
}

func TestPushSetPopVLAN(t *testing.T) {
	for name, build := range kinds() {
		t.Run(name, func(t *testing.T) {
			f := parsed(t, build())
			f.PushVLAN(0x600a)
			if f.Key.VLAN != packet.VLANPresent|10 || f.Ethernet().TCI() != 0x600a {
				t.Errorf("Key.VLAN %#x, TCI %#x", f.Key.VLAN, f.Ethernet().TCI())
			}
			pushed := f.Clone()
			f.SetVLAN(0xff0b)
			if f.Key.VLAN != packet.VLANPresent|0xf0b || f.Ethernet().TCI() != 0x6f0b {
				t.Errorf("Key.VLAN %#x, TCI %#x", f.Key.VLAN, f.Ethernet().TCI())
			}
			f.PopVLAN()
			same(t, f, parsed(t, build()))

			// The pushed frame is what Parse finds right in itself.
			again := pushed.Clone()
			parsed(t, again)
			same(t, pushed, again)
			if again.Key.VLAN != packet.VLANPresent|10 {
				t.Errorf("Parse finds VLAN %#x", again.Key.VLAN)
			}
		})
	}
}

func TestPushVLANIsWhatIsBuilt(t *testing.T) {
	f := parsed(t, TCP(GSO(1448), Size(3000)))
	f.PushVLAN(10)
	same(t, f, parsed(t, TCP(GSO(1448), Size(3000), VLAN(10))))
	CheckSuper(t, f)
}

func TestPushVLANDoesNotMovePayload(t *testing.T) {
	f := parsed(t, UDP(Size(18)))
	payload := &f.Bytes()[f.Payload]
	for range 3 {
		f.PushVLAN(1)
	}
	if &f.Bytes()[f.Payload] != payload {
		t.Error("the payload moved")
	}
}

func TestCloneAndCopyInto(t *testing.T) {
	for name, build := range kinds() {
		t.Run(name, func(t *testing.T) {
			f := parsed(t, build())
			f.PushVLAN(5)
			want := bytes.Clone(f.WithVnet())
			clone, copied := f.Clone(), newFrame()
			f.CopyInto(copied)
			clear(f.WithVnet())
			for _, c := range []*packet.Frame{clone, copied} {
				if !bytes.Equal(c.WithVnet(), want) || find(c) != find(f) || c.Key != f.Key {
					t.Errorf("differs: %+v, want %+v", find(c), find(f))
				}
				c.PushVLAN(6) // there is room for it
			}
		})
	}
}

func TestLentMemoryIsLeftAlone(t *testing.T) {
	theirs := make([]byte, packet.Headroom, 512)
	theirs = append(theirs, UDP(Size(18)).Bytes()...)
	want := bytes.Clone(theirs)

	f, other := newFrame(), newFrame()
	f.Lend(theirs, packet.Headroom, len(theirs))
	parsed(t, f)
	clone := f.Clone()
	f.CopyInto(other)
	if !f.Borrowed || clone.Borrowed || other.Borrowed {
		t.Error("only the frame itself is borrowed")
	}
	clone.SetVLAN(1)
	clear(other.Bytes())
	UDP(Size(99)).CopyInto(f) // goes into f's own buffer
	f.Lend(theirs, packet.Headroom, len(theirs))
	f.Lend(theirs, packet.Headroom, len(theirs))
	f.Reset()
	f.Load(nil, make([]byte, 60))
	if f.Borrowed || !bytes.Equal(theirs, want) {
		t.Error("lent memory changed")
	}
}

func TestWireBytes(t *testing.T) {
	for name, build := range kinds() {
		f := build()
		want := 0
		for _, b := range Resegment(f.Vnet(), f.Bytes()) {
			want += len(b)
		}
		if got := parsed(t, f).WireBytes(); got != want {
			t.Errorf("%s: %d bytes, want %d", name, got, want)
		}
	}
}

func TestPortID(t *testing.T) {
	id := packet.MakePortID(0xfffe, 0xfffd)
	if id.Slot() != 0xfffe || id.Generation() != 0xfffd {
		t.Errorf("slot %#x, generation %#x", id.Slot(), id.Generation())
	}
}

func TestDropReasonsHaveWords(t *testing.T) {
	names := map[string]bool{}
	for r := range packet.DropReasons {
		if r.String() == "" || r.Sentence() == "" || names[r.String()] {
			t.Errorf("reason %d: %q, %q", r, r.String(), r.Sentence())
		}
		names[r.String()] = true
	}
	if packet.DropReasons.String() != "unknown" || packet.DropReasons.Sentence() != "unknown reason" {
		t.Error("there is a reason too many")
	}
}
