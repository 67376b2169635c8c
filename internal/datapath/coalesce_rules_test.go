package datapath

import (
	"strconv"
	"strings"
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
)

// rule is what a few frames of one turn become. In want, frames that left as one are joined by +; they are numbered as sent.
type rule struct {
	name   string
	want   string
	frames []*packet.Frame
}

// u and s are a UDP datagram and a TCP segment of 100 bytes from one container to another; options change them.
func u(o ...packettest.Option) *packet.Frame {
	return packettest.UDP(append([]packettest.Option{to10, packettest.Size(100), packettest.Partial()}, o...)...)
}

func s(seq uint32, o ...packettest.Option) *packet.Frame {
	return packettest.TCP(append([]packettest.Option{to10, packettest.Size(100), packettest.Partial(), packettest.Seq(seq), packettest.Timestamps(1, 2)}, o...)...)
}

var (
	to10 = packettest.To("02:00:00:00:00:10", "10.0.0.2", 80)
	to11 = packettest.To("02:00:00:00:00:11", "10.0.0.2", 80)
	six  = []packettest.Option{packettest.From("02:00:00:00:00:01", "fd00::1", 1), packettest.To("02:00:00:00:00:10", "fd00::2", 80)}
	size = packettest.Size
	id   = packettest.ID
)

func u6(o ...packettest.Option) *packet.Frame {
	return u(append(append([]packettest.Option{}, six...), o...)...)
}

func s6(seq uint32, o ...packettest.Option) *packet.Frame {
	return s(seq, append(append([]packettest.Option{}, six...), o...)...)
}

// patch changes a byte of a frame that leaves its checksum to do, outside what the checksum covers so far.
func patch(f *packet.Frame, at int, b byte) *packet.Frame {
	f.Bytes()[at] = b
	return f
}

func repeat(n int, f func(i int) *packet.Frame) (all []*packet.Frame) {
	for i := range n {
		all = append(all, f(i))
	}
	return all
}

const (
	ipv4ID  = 18
	ipv6Low = 17 // flow label
	window  = 14 + 20 + 14
)

var rules = []rule{
	{"UDP", "0+1+2", []*packet.Frame{u(), u(), u()}},
	{"UDP v6", "0+1+2", []*packet.Frame{u6(), u6(), u6()}},
	{"TCP", "0+1+2", []*packet.Frame{s(0), s(100), s(200)}},
	{"TCP v6", "0+1+2", []*packet.Frame{s6(0), s6(100), s6(200)}},
	{"complete checksums, too", "0+1+2", []*packet.Frame{packettest.UDP(to10, size(100)), u(), packettest.UDP(to10, size(100))}},
	{"a single one stays as it is", "0", []*packet.Frame{packettest.UDP(to10, size(100))}},
	{"a shorter one is the last", "0+1 2+3", []*packet.Frame{u(), u(size(99)), u(), u()}},
	{"a longer one starts anew", "0 1+2", []*packet.Frame{u(), u(size(101)), u(size(101))}},
	{"TCP, a shorter one is the last", "0+1 2", []*packet.Frame{s(0), s(100, size(50)), s(150)}},
	{"64 segments", "0+1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16+17+18+19+20+21+22+23+24+25+26+27+28+29+30+31+32+33+34+35+36+37+38+39+" +
		"40+41+42+43+44+45+46+47+48+49+50+51+52+53+54+55+56+57+58+59+60+61+62+63", repeat(64, func(int) *packet.Frame { return u() })},
	{"64 KiB", "0+1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16+17+18+19+20+21+22+23+24+25+26+27+28+29+30+31+32+33+34+35+36+37+38+39+40+41+42+43 44+45",
		repeat(46, func(int) *packet.Frame { return u(size(1472)) })},

	{"IDs in sequence without DF", "0+1+2", []*packet.Frame{u(id(0xffff, false)), u(id(0, false)), u(id(1, false))}},
	{"IDs out of sequence without DF", "0 1 2", []*packet.Frame{u(id(1, false)), u(id(1, false)), u(id(3, false))}},
	{"IDs are nothing with DF", "0+1+2", []*packet.Frame{u(id(9, true)), u(id(9, true)), u(id(3, true))}},
	{"DF differs", "0 1", []*packet.Frame{u(id(1, true)), u(id(2, false))}},
	{"TTL differs", "0 1", []*packet.Frame{u(), u(packettest.TTL(63))}},
	{"TOS differs", "0 1", []*packet.Frame{u(), u(packettest.TOS(4))}},
	{"hop limit differs", "0 1", []*packet.Frame{u6(), u6(packettest.TTL(63))}},
	{"traffic class differs", "0 1", []*packet.Frame{u6(), u6(packettest.TOS(4))}},
	{"flow label differs", "0 1", []*packet.Frame{u6(), patch(u6(), ipv6Low, 7)}},
	{"priority of the tag differs", "0+1 2", []*packet.Frame{u(packettest.VLAN(5)), u(packettest.VLAN(5)), u(packettest.VLAN(0x2005))}},
	{"third tag differs", "0 1", []*packet.Frame{u(packettest.VLAN(5, 6, 7)), u(packettest.VLAN(5, 6, 8))}},

	{"sequence number too high", "0 1", []*packet.Frame{s(0), s(101)}},
	{"sequence number again", "0 1", []*packet.Frame{s(0), s(0)}},
	{"sequence number wraps", "0+1", []*packet.Frame{s(0xffffffb0), s(20)}},
	{"acknowledgment differs", "0 1", []*packet.Frame{s(0), s(100, packettest.Ack(2))}},
	{"window differs", "0 1", []*packet.Frame{s(0), patch(s(100), window, 1)}},
	{"options differ", "0 1", []*packet.Frame{s(0), s(100, packettest.Timestamps(2, 2))}},
	{"length of options differs", "0 1", []*packet.Frame{s(0), s(100, packettest.TCPOptions())}},
	{"urgent pointer differs", "0 1", []*packet.Frame{s(0), s(100, packettest.Urgent(3))}},
	{"PSH is the last", "0+1 2", []*packet.Frame{s(0), s(100, packettest.Flags(0x18)), s(200)}},
	{"PSH alone", "0 1+2", []*packet.Frame{s(0, packettest.Flags(0x18)), s(100), s(200)}},
	{"FIN", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x11))}},
	{"SYN", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x12))}},
	{"RST", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x14))}},
	{"URG", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x30))}},
	{"ECE", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x50))}},
	{"CWR", "0 1", []*packet.Frame{s(0), s(100, packettest.Flags(0x90))}},
	{"no ACK", "0 1", []*packet.Frame{s(0, packettest.Flags(0)), s(100, packettest.Flags(0))}},
	{"pure ACK", "0 1 2", []*packet.Frame{s(0), s(100, size(0)), s(100)}},
	{"tiny segments", "0 1", []*packet.Frame{s(0, size(7)), s(7, size(7))}},

	{"IP options", "0 1", []*packet.Frame{u(packettest.IPOptions(1, 1, 1, 0)), u(packettest.IPOptions(1, 1, 1, 0))}},
	{"extension headers", "0 1", []*packet.Frame{u6(packettest.HopByHop()), u6(packettest.HopByHop())}},
	{"fragments", "0 1", []*packet.Frame{u(packettest.Complete(), packettest.Fragment(0, true)), u(packettest.Complete(), packettest.Fragment(0, true))}},
	{"no UDP checksum", "0 1", []*packet.Frame{packettest.UDP(to10, packettest.NoChecksum(), size(9)), packettest.UDP(to10, packettest.NoChecksum(), size(9))}},
	{"wrong checksum", "0 1 2", []*packet.Frame{u(), packettest.UDP(to10, size(100), packettest.BadChecksum()), u()}},
	{"wrong pseudo-header's sum", "0 1 2", []*packet.Frame{u(), u(packettest.BadChecksum()), u()}},
	{"wrong IPv4 checksum", "0 1 2", []*packet.Frame{u(), patch(u(), ipv4ID, 7), u()}},
	{"empty datagrams", "0 1", []*packet.Frame{u(size(0)), u(size(0))}},
	{"super-frames", "0+1 2 3", []*packet.Frame{u(), u(), u(packettest.GSO(100), size(250)), u()}},

	{"padding", "0+1+2", []*packet.Frame{u(packettest.Trailer(4)), u(packettest.Trailer(4)), u()}},

	{"another flow of the pair waits not", "0+2 1+3", []*packet.Frame{u(), s(0), u(), s(100)}},
	{"another pair waits not", "0 2 1+3", []*packet.Frame{u(), u(to11), packettest.ICMPEcho(to10), u(to11)}},
	{"what can't be merged keeps its place", "0+1 2 3+4", []*packet.Frame{u(), u(), packettest.ICMPEcho(to10), u(), u()}},
	{"so does ARP", "0+1 2 3+4", []*packet.Frame{u(), u(), packettest.ARPReply(to10), u(), u()}},
	{"a flood keeps its place among its sender's", "1 0+2 3 4", []*packet.Frame{u(), u(to11), u(), packettest.ARPRequest(to10), u()}},
}

func TestCoalescingRules(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			b := newBench(t, port.OffloadAll)
			written := b.run(t, r.frames)[0]
			checkWritten(t, port.OffloadAll, written)
			var sent, got []unit
			numbers := map[int]string{} // of the first segment of each frame
			for i, f := range r.frames {
				numbers[len(sent)] = strconv.Itoa(i)
				sent = append(sent, units(f)...)
			}
			for _, f := range written {
				got = append(got, units(f)...)
			}
			checkSame(t, sent, got)
			if have := joined(sent, written, numbers); have != r.want {
				t.Errorf("written %s, want %s", have, r.want)
			}
		})
	}
}

// joined tells which of the frames sent make up each frame written.
func joined(sent []unit, written []*packet.Frame, numbers map[int]string) string {
	used := make([]bool, len(sent))
	var all []string
	for _, f := range written {
		var parts []string
		for _, u := range units(f) {
			for i := range sent {
				if !used[i] && sent[i].flow == u.flow && string(sent[i].bytes) == string(u.bytes) {
					used[i] = true
					if n, ok := numbers[i]; ok {
						parts = append(parts, n)
					}
					break
				}
			}
		}
		all = append(all, strings.Join(parts, "+"))
	}
	return strings.Join(all, " ")
}

// A port whose device lacks an offload gets such frames one by one.
func TestCoalescingNeedsOffload(t *testing.T) {
	frames := []*packet.Frame{u(), u(), s(0), s(100), s6(0), s6(100)}
	for _, c := range []struct {
		offload port.Offload
		want    int
	}{
		{port.OffloadAll, 3}, {0, 6}, {port.OffloadCsum, 6}, {port.OffloadCsum | port.OffloadUSO, 5},
		{port.OffloadCsum | port.OffloadTSO4, 5}, {port.OffloadCsum | port.OffloadTSO6, 5},
	} {
		b := newBench(t, c.offload)
		written := b.run(t, frames)[0]
		if len(written) != c.want {
			t.Errorf("offload %b: %d frames written, want %d", c.offload, len(written), c.want)
		}
		if n := int(b.d.WorkerCounters()[0].Coalesced); n != len(frames)-c.want {
			t.Errorf("offload %b: %d frames merged, want %d", c.offload, n, len(frames)-c.want)
		}
		if c.offload == 0 {
			for _, f := range written {
				packettest.CheckFinished(t, f)
			}
		}
	}
}

// More flows than buffers: the least recently used super-frame leaves first.
func TestCoalescerPool(t *testing.T) {
	b := newBench(t, port.OffloadAll)
	flow := func(i int) *packet.Frame { return u(packettest.From("02:00:00:00:00:01", "10.0.0.1", uint16(i))) }
	open := poolBuffers - 2
	frames := repeat(open, flow)
	frames = append(frames, flow(0), flow(open), flow(1), flow(0)) // 0 is used: 1 leaves for open, 2 for 1
	written := b.run(t, frames)[0]
	if len(written) != open+2 {
		t.Fatalf("%d frames written, want %d", len(written), open+2)
	}
	src := func(i int) int { w := written[i].Clone(); w.Parse(); return int(w.Key.SrcPort) }
	if src(0) != 1 || src(1) != 2 || src(len(written)-1) != 0 {
		t.Errorf("first %d and %d, last %d", src(0), src(1), src(len(written)-1))
	}
}

// Nothing waits beyond the end of a budget, or 128 KiB.
func TestCoalescerFlushes(t *testing.T) {
	b := newBench(t, port.OffloadAll)
	if n := len(b.run(t, repeat(budgetFrames+10, func(int) *packet.Frame { return u(size(10)) }))[0]); n != 2 {
		t.Errorf("budget: %d frames written, want 2", n)
	}
	b.d.SetMTU(b.ids[0], 9000)
	for _, f := range b.run(t, repeat(32, func(i int) *packet.Frame {
		return u(packettest.From("02:00:00:00:00:01", "10.0.0.1", uint16(i%4)), size(8000))
	}))[0] {
		if n := len(units(f)); n > 5 { // 8 fit in one, but 17 are 128 KiB
			t.Errorf("%d frames in one", n)
		}
	}
}

// A super-frame has 64 segments at most, which is also a budget: here the frames come without one.
func TestCoalescerSegments(t *testing.T) {
	b := newBench(t, port.OffloadAll)
	w, out := b.d.workers[0], b.d.lookup(b.ids[0])
	f := u(size(10))
	for range 100 {
		w.hot.Reset()
		w.hot.Load(f.Vnet(), f.Bytes())
		w.hot.Parse()
		w.co.output(out, w.hot)
	}
	w.co.flushAll()
	written := b.out[0].Sent()
	checkWritten(t, port.OffloadAll, written)
	if len(written) != 2 || len(units(written[0])) != 64 {
		t.Errorf("%d frames written", len(written))
	}
}
