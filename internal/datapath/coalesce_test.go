package datapath

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
	"vswitch/internal/port/mem"
)

// bench is a worker between one ingress and the egresses that frames name by the last byte of their destination MAC.
//
//	in --> worker --> out[0]: MACs ...10 and ...11, and everything else
//	              \-> out[1]: MAC ...12
type bench struct {
	d   *Datapath
	in  *mem.Port
	out [2]*mem.Port
	ids [2]packet.PortID
}

func newBench(t testing.TB, offload port.Offload, options ...mem.Option) *bench {
	b := &bench{in: newPort(t, "in", options...)}
	var set flow.FloodSet
	b.d = newTest(t, Config{Workers: 1}, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		v.MaxL3, v.Cacheable = 1500, true
		if f.Flags&packet.FlagGroup != 0 {
			v.Add(flow.Action{Op: flow.OpFlood, Set: &set})
			return
		}
		v.Add(flow.Action{Op: flow.OpOutput, Port: b.ids[egress(f.Key.DstMAC)]})
	}))
	add(t, b.d, b.in)
	for i := range b.out {
		b.out[i] = newPort(t, fmt.Sprint("out", i), mem.Queue(4096))
		b.out[i].SetOffload(offload)
		b.ids[i] = add(t, b.d, b.out[i])
		set.Members = append(set.Members, flow.FloodMember{Port: b.ids[i]})
	}
	return b
}

func egress(dst [6]byte) int {
	if dst[5] == 0x12 {
		return 1
	}
	return 0
}

// run lets the worker read the frames in one go and returns what it wrote, by egress.
func (b *bench) run(t fataler, frames []*packet.Frame) (out [2][]*packet.Frame) {
	t.Helper()
	for _, f := range frames {
		if err := b.in.Inject(f.Vnet(), f.Bytes()); err != nil {
			t.Fatalf("inject: %v", err)
		}
	}
	for range 4*len(frames)/budgetFrames + 1 { // a flood counts as its copies
		if err := b.d.Turn(); err != nil {
			t.Fatalf("%v", err)
		}
	}
	for i := range out {
		out[i] = b.out[i].Sent()
	}
	w := b.d.workers[0]
	if len(w.co.open) != 0 || w.co.bytes != 0 || len(w.co.free) != poolBuffers-2 || len(w.co.spare) != poolBuffers {
		t.Fatalf("the coalescer kept something: %d open, %d bytes, %d free, %d spare", len(w.co.open), w.co.bytes, len(w.co.free), len(w.co.spare))
	}
	return out
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// unit is a frame as the receiver's stack gets it, and what the rules of order need to know of it.
type unit struct {
	bytes     []byte // normal form
	flow      packet.Key
	pair      [12]byte
	candidate bool // could be a part of a super-frame
}

// units are the frames that the receiver gets for what was sent or written: super-frames cut, checksums made.
func units(f *packet.Frame) (all []unit) {
	candidate := mergeable(f)
	for _, b := range packettest.Resegment(f.Vnet(), f.Bytes()) {
		g := packet.NewFrame(make([]byte, packet.BufSize))
		g.Load(nil, b)
		g.Parse()
		all = append(all, unit{normal(g), g.Key, [12]byte(b), candidate})
	}
	return all
}

// normal is the frame without what need not survive: padding, and the ID of an IPv4 datagram that is never cut (RFC 6864).
func normal(f *packet.Frame) []byte {
	b := bytes.Clone(f.Bytes())[:f.L3End]
	if f.Key.EtherType == packet.EtherTypeIPv4 && f.IPv4().DontFragment() && f.Flags&packet.FlagFragment == 0 && packettest.Finished(nil, f.Bytes()) == nil {
		clear(b[f.L3+4 : f.L3+6])
		clear(b[f.L3+10 : f.L3+12])
	}
	return b
}

// mergeable says what may be merged in other words than the coalescer: from the bytes, and by gopacket's sums.
func mergeable(f *packet.Frame) bool {
	g := f.Clone()
	if g.Parse() != packet.DropNone || g.L4 == 0 || g.Flags&(packet.FlagFragment|packet.FlagOptions|packet.FlagGroup) != 0 ||
		f.Vnet().GSOType() != 0 || g.L3End == g.Payload {
		return false
	}
	t := g.Transport()
	switch g.Key.Proto {
	case packet.ProtoTCP:
		if t[13] != 0x10 && t[13] != 0x18 || g.L3End-g.Payload < 8 {
			return false
		}
	case packet.ProtoUDP:
		if t[6] == 0 && t[7] == 0 && !f.Vnet().NeedsCsum() {
			return false
		}
	default:
		return false
	}
	finished := packettest.Resegment(f.Vnet(), f.Bytes())[0]
	return packettest.Finished(nil, finished) == nil
}

// checkSame holds what came out of an egress against what was sent there: the same frames; those of a flow in their order;
// and no frame that can't be merged overtakes another of its MAC pair, or is overtaken.
func checkSame(t fataler, sent, got []unit) {
	t.Helper()
	if len(sent) != len(got) {
		t.Fatalf("%d frames sent, %d received", len(sent), len(got))
	}
	byFlow := map[packet.Key][]int{} // places in got
	for i, u := range got {
		byFlow[u.flow] = append(byFlow[u.flow], i)
	}
	place := make([]int, len(sent)) // where each came out
	for i, u := range sent {
		places := byFlow[u.flow]
		if len(places) == 0 {
			t.Fatalf("frame %d of flow %+v is missing", i, u.flow)
		}
		place[i], byFlow[u.flow] = places[0], places[1:]
		if g := got[place[i]]; !bytes.Equal(u.bytes, g.bytes) {
			t.Fatalf("frame %d of flow %+v is not what was sent:\n%x\n%x", i, u.flow, u.bytes, g.bytes)
		}
	}
	for i := range sent {
		for j := i + 1; j < len(sent); j++ {
			if sent[i].pair == sent[j].pair && (!sent[i].candidate || !sent[j].candidate) && place[i] > place[j] {
				t.Fatalf("frame %d overtook frame %d of the same MAC pair", j, i)
			}
		}
	}
}

// checkWritten holds each written frame against its vnet header.
func checkWritten(t fataler, offload port.Offload, frames []*packet.Frame) {
	t.Helper()
	for _, f := range frames {
		if f.Vnet().GSOType() == 0 {
			continue
		}
		if err := packettest.Super(f.Vnet(), f.Bytes()); err != nil {
			t.Fatalf("not a right super-frame: %v\n%x", err, f.WithVnet())
		}
	}
}

var offloads = []port.Offload{
	port.OffloadAll, port.OffloadAll, port.OffloadAll, 0, port.OffloadCsum,
	port.OffloadCsum | port.OffloadUSO, port.OffloadCsum | port.OffloadTSO4 | port.OffloadTSO6, port.OffloadCsum | port.OffloadTSO6,
}

// Whatever is sent comes out: content, order, boundaries, checksums right or wrong, and all fields of the headers.
func TestCoalescerIsInvisible(t *testing.T) {
	merged, written, sentAll := uint64(0), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		offload := rapid.SampledFrom(offloads).Draw(rt, "offload")
		var options []mem.Option
		if rapid.Bool().Draw(rt, "lending") {
			options = append(options, mem.Lending())
		}
		b := newBench(t, offload, options...)
		traffic := rapid.SampledFrom([]func(*rapid.T, int) []*packet.Frame{packettest.Traffic, smooth, smooth}).Draw(rt, "traffic")
		frames := interleave(rt, traffic(rt, 150))
		var sent [2][]unit
		for _, f := range frames {
			g := f.Clone()
			if g.Parse() != packet.DropNone || g.L3Size > 1500 {
				continue // lost for a reason, not ours here
			}
			to := []int{egress(g.Key.DstMAC)}
			if g.Flags&packet.FlagGroup != 0 {
				to = []int{0, 1}
			}
			for _, i := range to {
				sent[i] = append(sent[i], units(f)...)
			}
		}
		for i, frames := range b.run(rt, frames) {
			checkWritten(rt, offload, frames)
			var got []unit
			for _, f := range frames {
				got = append(got, units(f)...)
			}
			checkSame(rt, sent[i], got)
			written += len(frames)
			sentAll += len(sent[i])
		}
		for id, c := range b.d.PortCounters() {
			for r, n := range c.Drops {
				if n > 0 && id == b.ids[0] || n > 0 && id == b.ids[1] {
					rt.Fatalf("%d packets dropped as %s", n, packet.DropReason(r))
				}
			}
		}
		merged += b.d.WorkerCounters()[0].Coalesced
	})
	t.Logf("%d frames sent, %d merged, %d written", sentAll, merged, written)
	if merged*10 < uint64(sentAll) {
		t.Errorf("only %d frames were merged: this proves nothing", merged)
	}
}

// interleave adds frames that can't be merged to the flows' own.
func interleave(t *rapid.T, frames []*packet.Frame) []*packet.Frame {
	for range rapid.IntRange(0, 12).Draw(t, "extras") {
		mac := fmt.Sprintf("02:00:00:00:00:%02x", rapid.IntRange(0x10, 0x12).Draw(t, "extra's mac"))
		o := []packettest.Option{packettest.To(mac, "10.0.0.2", 80), packettest.Size(rapid.IntRange(0, 60).Draw(t, "extra's size"))}
		extra := rapid.SampledFrom([]func(...packettest.Option) *packet.Frame{
			packettest.ICMPEcho, packettest.ARPReply, packettest.ARPRequest,
			func(o ...packettest.Option) *packet.Frame { return packettest.Raw(0x88cc, o...) },
			func(o ...packettest.Option) *packet.Frame { return packettest.TCP(append(o, packettest.Size(0))...) }, // pure ACK
			func(o ...packettest.Option) *packet.Frame { return packettest.UDP(append(o, packettest.Trailer(4))...) },
		}).Draw(t, "extra")(o...)
		frames = slices.Insert(frames, rapid.IntRange(0, len(frames)).Draw(t, "place"), extra)
	}
	return frames
}

// smooth draws frames of many flows, all in sequence: those of a few flows at a time by turns, mostly full, now and then the
// last of a burst, and seldom something else about them.
func smooth(t *rapid.T, max int) []*packet.Frame {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	type state struct {
		build   func(...packettest.Option) *packet.Frame
		options []packettest.Option
		seq     uint32
		id      uint16
		size    int
	}
	flows := make([]state, 1+r.IntN(24))
	for i := range flows {
		fl := &flows[i]
		from, to := packettest.From("02:00:00:00:00:01", "10.0.0.1", uint16(i)), packettest.To(fmt.Sprintf("02:00:00:00:00:%02x", 0x10+r.IntN(3)), "10.0.0.2", 80)
		if r.IntN(2) == 0 {
			from, to = packettest.From("02:00:00:00:00:01", "fd00::1", uint16(i)), packettest.To(fmt.Sprintf("02:00:00:00:00:%02x", 0x10+r.IntN(3)), "fd00::2", 80)
		}
		fl.build, fl.options = packettest.UDP, []packettest.Option{from, to}
		if r.IntN(2) == 0 {
			fl.build, fl.options = packettest.TCP, append(fl.options, packettest.Timestamps(9, 9))
		}
		if r.IntN(3) == 0 {
			fl.options = append(fl.options, packettest.VLAN(0x2005))
		}
		if r.IntN(2) == 0 {
			fl.options = append(fl.options, packettest.Partial())
		}
		fl.seq, fl.id, fl.size = r.Uint32(), uint16(r.Uint32()), 8+r.IntN(1400)
	}
	var frames []*packet.Frame
	active := 1 + r.IntN(len(flows))
	for len(frames) < max {
		fl := &flows[r.IntN(active)]
		size, o := fl.size, slices.Clone(fl.options)
		switch r.IntN(40) {
		case 0:
			size = 8 + r.IntN(fl.size)
		case 1:
			o = append(o, packettest.Flags(0x18))
		case 2:
			o = append(o, packettest.BadChecksum())
		case 3:
			o = append(o, packettest.TTL(9))
		case 4:
			o = append(o, packettest.TOS(4))
		case 5:
			fl.id++
		case 6:
			fl.seq++
		case 7:
			active = 1 + r.IntN(len(flows))
		}
		fl.id++
		frames = append(frames, fl.build(append(o, packettest.Size(size), packettest.Seq(fl.seq), packettest.ID(fl.id, fl.size%2 == 0))...))
		fl.seq += uint32(size)
	}
	return frames
}

// All payload sizes, of all four kinds of flow, with sums to be made or complete, by turns: three equal ones and a shorter one
// leave as one frame.
func TestCoalesceEverySize(t *testing.T) {
	b := newBench(t, port.OffloadAll)
	for size := 1; size <= 1472; size++ {
		for _, kind := range []int{size % 8, (size + 3) % 8} {
			build, o := packettest.UDP, []packettest.Option{packettest.To("02:00:00:00:00:10", "10.0.0.2", 80)}
			if kind&1 != 0 {
				build = packettest.TCP
			}
			least, most := 1, 1472
			if kind&1 != 0 {
				least, most = 8, 1460
			}
			if kind&2 != 0 {
				o = []packettest.Option{packettest.From("02:00:00:00:00:01", "fd00::1", 1), packettest.To("02:00:00:00:00:10", "fd00::2", 80)}
				most -= 20
			}
			if size < least || size > most {
				continue
			}
			if kind&4 != 0 {
				o = append(o, packettest.Partial())
			}
			if (size+kind)%5 == 0 {
				o = append(o, packettest.VLAN(0xe064))
			}
			var frames []*packet.Frame
			for i, n := range []int{size, size, size, max(least, size/2)} {
				frames = append(frames, build(append(o, packettest.Size(n), packettest.ID(uint16(i-2), size%2 == 0), packettest.Seq(uint32(i*size-3)))...))
			}
			out := b.run(t, frames)
			if len(out[0]) != 1 {
				t.Fatalf("size %d, kind %d: %d frames written", size, kind, len(out[0]))
			}
			var sent []unit
			for _, f := range frames {
				sent = append(sent, units(f)...)
			}
			checkWritten(t, port.OffloadAll, out[0])
			checkSame(t, sent, units(out[0][0]))
		}
	}
}
