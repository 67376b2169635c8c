package packettest

import (
	"fmt"

	"pgregory.net/rapid"

	"vswitch/internal/packet"
)

// flow is one conversation's state: what its next frame would be.
type flow struct {
	proto      uint8
	options    []Option
	seq        uint32
	id         uint16
	size       int // usual payload
	df, stamps bool
}

// Traffic draws what a switch may read from one container in one turn: up to most frames of a few flows in bursts, TCP and
// UDP, IPv4 and IPv6, tagged or not, of all sizes, mostly in sequence, mostly mergeable, some not. MAC addresses may be
// shared by flows. Frames are not parsed.
func Traffic(t *rapid.T, most int) []*packet.Frame {
	flows := make([]*flow, rapid.IntRange(1, 5).Draw(t, "flows"))
	for i := range flows {
		flows[i] = newFlow(t, i)
	}
	var frames []*packet.Frame
	n := rapid.IntRange(1, most).Draw(t, "frames")
	for len(frames) < n {
		fl := flows[rapid.IntRange(0, len(flows)-1).Draw(t, "flow")]
		for range rapid.IntRange(1, 12).Draw(t, "burst") {
			frames = append(frames, fl.next(t))
		}
	}
	return frames[:n]
}

func newFlow(t *rapid.T, i int) *flow {
	port := uint16(1000 + i)
	mac := fmt.Sprintf("02:00:00:00:00:%02x", rapid.IntRange(0x10, 0x12).Draw(t, "mac"))
	from, to := From("02:00:00:00:00:01", "10.0.0.1", port), To(mac, "10.0.0.2", 80)
	if rapid.Bool().Draw(t, "v6") {
		from, to = From("02:00:00:00:00:01", "fd00::1", port), To(mac, "fd00::2", 80)
	}
	f := &flow{
		proto:   rapid.SampledFrom([]uint8{protoTCP, protoUDP}).Draw(t, "proto"),
		options: []Option{from, to, TOS(rapid.SampledFrom([]uint8{0, 0, 0x2e << 2, 1}).Draw(t, "tos"))},
		seq:     rapid.SampledFrom([]uint32{1, 1 << 31, 0xfffff000}).Draw(t, "seq"),
		id:      rapid.SampledFrom([]uint16{0, 1, 0xfff0}).Draw(t, "id"),
		size:    rapid.SampledFrom([]int{1, 18, 100, 512, 1400, 1448}).Draw(t, "size"),
		df:      rapid.Bool().Draw(t, "df"),
		stamps:  rapid.Bool().Draw(t, "timestamps"),
	}
	if rapid.IntRange(0, 3).Draw(t, "tag") == 0 {
		f.options = append(f.options, VLAN(rapid.SampledFrom([]uint16{1, 10, 0xe00a}).Draw(t, "tci")))
	}
	return f
}

// next draws the flow's next frame. rare draws things that happen once in a while.
func (f *flow) next(t *rapid.T) *packet.Frame {
	rare := func(what string) bool { return rapid.IntRange(0, 15).Draw(t, what) == 15 }
	size, options := f.size, append([]Option{}, f.options...)
	if rare("other size") {
		size = rapid.SampledFrom([]int{0, 1, f.size / 2, f.size + 1, 1460}).Draw(t, "size")
	}
	super := rare("super")
	switch {
	case super:
		segment := max(size, 8) // no kernel sends smaller ones
		options = append(options, GSO(segment))
		size = segment*rapid.IntRange(1, 40).Draw(t, "segments") + rapid.IntRange(1, segment).Draw(t, "rest")
	case rapid.IntRange(0, 3).Draw(t, "complete") < 3:
		options = append(options, Partial())
	case rare("bad checksum"):
		options = append(options, BadChecksum())
	case rare("no checksum"):
		options = append(options, NoChecksum())
	}
	if rare("ttl") {
		options = append(options, TTL(3))
	}
	if rare("ip options") {
		options = append(options, IPOptions(1, 1, 1, 0), HopByHop())
	}
	if rare("lost") {
		f.seq += uint32(f.size)
		f.id++
	}
	if f.id++; rare("id") {
		f.id += 7
	}
	options = append(options, Size(size), ID(f.id, f.df))
	if !super && size >= 64 && rare("fragment") {
		options = append(options, Fragment(rapid.SampledFrom([]uint16{0, 185}).Draw(t, "offset"), true), Complete())
	}
	if f.proto == protoUDP {
		return UDP(options...)
	}
	return f.nextTCP(t, options, size)
}

func (f *flow) nextTCP(t *rapid.T, options []Option, size int) *packet.Frame {
	flags := rapid.SampledFrom([]uint8{0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x18, 0x18,
		0x90, 0x50, 0x11, 0x19, 0x02, 0x14, 0x30, 0xd8}).Draw(t, "tcp flags")
	options = append(options, Seq(f.seq), Flags(flags))
	if f.stamps {
		options = append(options, Timestamps(f.seq>>14, 7))
	}
	f.seq += uint32(size)
	return TCP(options...)
}
