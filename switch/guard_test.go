package l2switch_test

import (
	"fmt"
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

// Every rule holds whatever tags lie before the packet.
func TestGuard(t *testing.T) {
	g := newGuard()
	for _, tags := range []struct {
		name string
		o    options
	}{
		{"untagged", nil},
		{"priority tag", options{packettest.VLAN(0xe000)}},
		{"VLAN 10", options{packettest.VLAN(10)}},
		{"QinQ", options{packettest.ServiceVLAN(5), packettest.VLAN(6)}},
		{"three tags", options{packettest.VLAN(0, 0), packettest.ServiceVLAN(0)}},
	} {
		for _, c := range guardCases {
			t.Run(tags.name+"/"+c.name, func(t *testing.T) {
				f := c.build(append(c.options[:len(c.options):len(c.options)], tags.o...)...)
				if r := f.Parse(); r != packet.DropNone {
					t.Fatalf("the parser refuses the frame: %s", r)
				}
				if r := g.Check(f); r != c.want {
					t.Errorf("got %s, want %s", r, c.want)
				}
			})
		}
	}
}

// More tags than the parser looks through hide the rest: a kernel strips any number of priority tags.
func TestGuardTooManyTags(t *testing.T) {
	for tags := range 6 {
		f := packettest.UDP(from(victim4, 1), packettest.VLAN(make([]uint16, tags)...))
		if r := f.Parse(); r != packet.DropNone {
			t.Fatalf("the parser refuses the frame: %s", r)
		}
		want := packet.DropSourceIP
		if tags > 3 {
			want = packet.DropHidden
		}
		if r := newGuard().Check(f); r != want {
			t.Errorf("%d tags: got %s, want %s", tags, r, want)
		}
	}
}

// A port without addresses has nothing to claim, but may look for one.
func TestGuardWithoutAddresses(t *testing.T) {
	g := l2switch.NewGuard([6]byte{2, 0, 0, 0, 0, 1}, nil)
	for _, c := range []struct {
		frame *packet.Frame
		want  packet.DropReason
	}{
		{packettest.UDP(from("0.0.0.0", 68), to(all4, 67)), packet.DropNone},
		{packettest.UDP(from(ownLL, 1), to(victim6, 1)), packet.DropNone},
		{packettest.UDP(from(own4, 1), to(victim4, 1)), packet.DropSourceIP},
		{packettest.UDP(from(own6, 1), to(victim6, 1)), packet.DropSourceIP},
		{packettest.ARPRequest(from(own4, 1), to(victim4, 1)), packet.DropARPSpoof},
		{packettest.ARPRequest(from("0.0.0.0", 1), to(own4, 1)), packet.DropARPSpoof},
	} {
		if r := c.frame.Parse(); r != packet.DropNone {
			t.Fatalf("the parser refuses the frame: %s", r)
		}
		if r := g.Check(c.frame); r != c.want {
			t.Errorf("%x: got %s, want %s", c.frame.Bytes(), r, c.want)
		}
	}
}

// What the guard says of a frame whose decision may be replayed depends on nothing but its Key: frames of the same Key get the same
// answer.
func TestGuardKeyed(t *testing.T) {
	g, seen := newGuard(), map[packet.Key]string{}
	answers := map[packet.Key]packet.DropReason{}
	for _, c := range guardCases {
		f := c.build(c.options...)
		f.Parse()
		k := f.Key
		nd := k.Proto == packet.ProtoICMPv6 && k.SrcPort>>8 >= 133 && k.SrcPort>>8 <= 137
		if !g.Keyed(f) || k.EtherType == packet.EtherTypeARP || nd || f.Flags&packet.FlagICMPError != 0 {
			continue
		}
		if r, ok := answers[k]; ok && r != g.Check(f) {
			t.Errorf("%s and %s have the same key, but not the same answer", seen[k], c.name)
		}
		seen[k], answers[k] = c.name, g.Check(f)
	}
	if len(seen) < 20 {
		t.Errorf("%d keys: this proves nothing", len(seen))
	}
}

// Whatever bytes a container sends, the guard neither panics nor reads beyond the frame, and lets pass only its own MAC.
func FuzzGuard(f *testing.F) {
	for _, c := range guardCases {
		f.Add(c.build(c.options...).Bytes())
	}
	g := newGuard()
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := packet.NewFrame(make([]byte, packet.BufSize))
		frame.Load(nil, b[:min(len(b), packet.MaxFrame)])
		if frame.Parse() != packet.DropNone {
			return
		}
		if r := g.Check(frame); r == packet.DropNone && fmt.Sprintf("%x", frame.Ethernet().Src()) != "020000000001" {
			t.Errorf("passes: %x", b)
		}
	})
}
