package datapath

import (
	"bytes"
	"encoding/binary"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// The egress coalescer merges consecutive datagrams of a UDP flow into one USO super-frame, and consecutive segments of a TCP
// flow into one TSO super-frame, before they are written: one write, and one walk through the receiver's stack, instead of
// up to 64. The receiving kernel cuts the super-frame again, so content, order, boundaries and headers are as they were.
//
//   - Open super-frames live in the worker's pool of buffers. The first frame of one stays where it was read: the worker
//     gets another hot buffer. Only what is appended is copied, and only payload.
//   - All are flushed when the ingress port is drained or its budget ends: a frame waits at most for one failed read.
//   - A frame that can't be merged first flushes what is open for its egress and pair of MACs: no frame overtakes another
//     of its pair.
//   - An IPv4 datagram without DF is merged only when its ID follows, because the kernel numbers the segments in sequence;
//     with DF the ID means nothing (RFC 6864 4.1).
type coalescer struct {
	on    bool
	w     *Worker
	free  []*packet.Frame
	open  []*super // most recently used last
	spare []*super
	bytes int // held open
}

const (
	maxSegs      = 64    // UDP_MAX_SEGMENTS of Linux before 6.9
	maxSuperL3   = 65500 // bytes of one super-frame at L3
	maxHeldBytes = 128 << 10
	minTCPSize   = 8 // TCP_MIN_GSO_SIZE of Linux 6.13: smaller segments are suspect
)

// super is an open super-frame. The headers of its first frame are the pattern that the next has to fit.
type super struct {
	slot *slot
	f    *packet.Frame
	size int    // payload of each segment but the last, which may be shorter
	segs int    // merged so far
	seq  uint32 // TCP: sequence number that the next segment must have
	id   uint16 // IPv4: ID of the last one
}

func (c *coalescer) init(w *Worker, on bool) {
	c.w, c.on = w, on
	for range poolBuffers {
		c.spare = append(c.spare, new(super))
	}
}

// output merges the frame into an open super-frame, opens one with it, or writes it.
func (c *coalescer) output(s *slot, f *packet.Frame) {
	if !c.candidate(s, f) {
		c.flushPair(s, f)
		c.w.write(s, f)
		return
	}
	for i := len(c.open) - 1; i >= 0; i-- {
		p := c.open[i]
		if p.slot != s || p.f.Key != f.Key {
			continue
		}
		if p.fits(f) {
			c.append(i, f)
			return
		}
		c.flush(i)
		break // a flow has one open super-frame
	}
	if lastOfBurst(f) {
		c.w.write(s, f)
		return
	}
	c.start(s, f)
}

// candidate tells whether the frame may be a part of a super-frame at all.
func (c *coalescer) candidate(s *slot, f *packet.Frame) bool {
	const never = packet.FlagFragment | packet.FlagOptions | packet.FlagSYN | packet.FlagFIN | packet.FlagRST |
		packet.FlagGSO | packet.FlagGroup
	if f.L4 == 0 || f.Flags&never != 0 || f.Payload == f.L3End || f.Len() > packet.BufSize/2 {
		return false
	}
	b := f.Bytes()
	switch f.Key.Proto {
	case packet.ProtoUDP:
		u := packet.UDP(b[f.L4:])
		if s.offload&port.OffloadUSO == 0 || int(u.Length()) != f.L3End-f.L4 {
			return false
		}
	case packet.ProtoTCP:
		need := port.OffloadTSO4
		if f.Key.EtherType == packet.EtherTypeIPv6 {
			need = port.OffloadTSO6
		}
		if s.offload&need == 0 || packet.TCP(b[f.L4:]).Flags()&^packet.TCPPsh != packet.TCPAck || f.L3End-f.Payload < minTCPSize {
			return false
		}
	default:
		return false
	}
	// A checksum that is wrong or missing would come out right on the other side.
	if f.Key.EtherType == packet.EtherTypeIPv4 && packet.Fold(packet.Sum(b[f.L3:f.L3+20], 0)) != 0xffff {
		return false
	}
	if f.Vnet().NeedsCsum() {
		return binary.BigEndian.Uint16(b[f.L4+sumOffset(f):]) == pseudoSum(f)
	}
	return f.VerifyTransport()
}

// sumOffset returns where the transport header keeps its checksum.
func sumOffset(f *packet.Frame) int {
	if f.Key.Proto == packet.ProtoUDP {
		return 6
	}
	return 16
}

// pseudoSum returns what a frame with NEEDS_CSUM has in place of its checksum.
func pseudoSum(f *packet.Frame) uint16 {
	b, n := f.Bytes()[f.L3:], f.L3End-f.L4
	if f.Key.EtherType == packet.EtherTypeIPv4 {
		return packet.Fold(packet.PseudoSum(b[12:16], b[16:20], f.Key.Proto, n))
	}
	return packet.Fold(packet.PseudoSum(b[8:24], b[24:40], f.Key.Proto, n))
}

// lastOfBurst tells whether the sender says that nothing follows at once: not worth keeping open.
func lastOfBurst(f *packet.Frame) bool {
	return f.Key.Proto == packet.ProtoTCP && packet.TCP(f.Transport()).Flags()&packet.TCPPsh != 0
}

// fits tells whether f, a candidate with the same Key, continues p.
func (p *super) fits(f *packet.Frame) bool {
	a, b := p.f.Bytes(), f.Bytes()
	n := f.L3End - f.Payload
	if n > p.size || p.f.L3 != f.L3 || p.f.Payload != f.Payload ||
		p.f.L3End-p.f.L3+n > maxSuperL3 || p.f.Room() < n || !bytes.Equal(a[:f.L3], b[:f.L3]) {
		return false
	}
	x, y := a[f.L3:], b[f.L3:]
	if f.Key.EtherType == packet.EtherTypeIPv4 {
		v := packet.IPv4(y)
		// Version, IHL and TOS; flags, offset, TTL and protocol; addresses. Total length and checksum are made anew.
		if x[0] != y[0] || x[1] != y[1] || binary.BigEndian.Uint32(x[6:]) != binary.BigEndian.Uint32(y[6:]) ||
			binary.BigEndian.Uint64(x[12:]) != binary.BigEndian.Uint64(y[12:]) {
			return false
		}
		if !v.DontFragment() && v.ID() != p.id+1 {
			return false
		}
	} else if binary.BigEndian.Uint32(x) != binary.BigEndian.Uint32(y) || !bytes.Equal(x[6:40], y[6:40]) {
		return false
	}
	x, y = a[f.L4:], b[f.L4:]
	if binary.BigEndian.Uint32(x) != binary.BigEndian.Uint32(y) { // ports
		return false
	}
	if f.Key.Proto == packet.ProtoUDP {
		return true
	}
	// Acknowledgment; data offset and flags but PSH; window; urgent pointer; options.
	return packet.TCP(y).Seq() == p.seq && bytes.Equal(x[8:13], y[8:13]) && (x[13]^y[13])&^packet.TCPPsh == 0 &&
		bytes.Equal(x[14:16], y[14:16]) && bytes.Equal(x[18:f.Payload-f.L4], y[18:f.Payload-f.L4])
}

// start opens a super-frame with f as its first segment. f's buffer stays with it.
func (c *coalescer) start(s *slot, f *packet.Frame) {
	if len(c.free) == 0 {
		c.flush(0)
	}
	keep := c.free[len(c.free)-1]
	if f.Borrowed {
		f.CopyInto(keep)
	} else {
		// f is the worker's hot frame: it becomes the super-frame, and the free one becomes hot.
		c.w.hot, keep = keep, f
	}
	c.free = c.free[:len(c.free)-1]
	p := c.spare[len(c.spare)-1]
	c.spare = c.spare[:len(c.spare)-1]
	n := keep.L3End - keep.Payload
	*p = super{slot: s, f: keep, size: n, segs: 1}
	keep.SetLen(keep.L3End) // padding, if any
	if keep.Key.Proto == packet.ProtoTCP {
		p.seq = packet.TCP(keep.Transport()).Seq() + uint32(n)
	}
	if keep.Key.EtherType == packet.EtherTypeIPv4 {
		p.id = keep.IPv4().ID()
	}
	c.open = append(c.open, p)
	c.hold(keep.Len())
}

// append adds f's payload to the i-th open super-frame, and flushes it when nothing can follow.
func (c *coalescer) append(i int, f *packet.Frame) {
	p := c.open[i]
	payload := f.Bytes()[f.Payload:f.L3End]
	p.f.Append(payload)
	p.f.L3End += len(payload)
	p.segs++
	p.id++
	p.seq += uint32(len(payload))
	c.w.stats.Coalesced++
	short := len(payload) < p.size
	if lastOfBurst(f) {
		t := packet.TCP(p.f.Transport())
		t.SetFlags(t.Flags() | packet.TCPPsh) // the kernel leaves it on the last segment only
		short = true
	}
	if short || p.segs == maxSegs {
		c.flush(i)
		return
	}
	if i != len(c.open)-1 {
		copy(c.open[i:], c.open[i+1:])
		c.open[len(c.open)-1] = p
	}
	c.hold(len(payload))
}

// hold counts bytes held open and flushes everything when they are many.
func (c *coalescer) hold(n int) {
	if c.bytes += n; c.bytes > maxHeldBytes {
		c.flushAll()
	}
}

// flushAll writes all that is open, the oldest first.
func (c *coalescer) flushAll() {
	for len(c.open) > 0 {
		c.flush(0)
	}
	c.bytes = 0
}

// flushPair writes what is open from the frame's source MAC to its destination MAC by that egress.
func (c *coalescer) flushPair(s *slot, f *packet.Frame) {
	for i := 0; i < len(c.open); i++ {
		if k := &c.open[i].f.Key; c.open[i].slot == s && k.DstMAC == f.Key.DstMAC && k.SrcMAC == f.Key.SrcMAC {
			c.flush(i)
			i--
		}
	}
}

// flushSender writes what is open from the frame's source MAC.
func (c *coalescer) flushSender(f *packet.Frame) {
	for i := 0; i < len(c.open); i++ {
		if c.open[i].f.Key.SrcMAC == f.Key.SrcMAC {
			c.flush(i)
			i--
		}
	}
}

// flush writes the i-th open super-frame: as it came when it is a single frame, else with the headers of a super-frame.
func (c *coalescer) flush(i int) {
	p := c.open[i]
	c.open = append(c.open[:i], c.open[i+1:]...)
	if p.segs > 1 {
		p.finish()
	}
	c.w.write(p.slot, p.f)
	c.free = append(c.free, p.f)
	c.spare = append(c.spare, p)
}

// finish makes the headers those of a super-frame.
func (p *super) finish() {
	f := p.f
	b := f.Bytes()
	gso := uint8(packet.GSOTCPv4)
	if f.Key.EtherType == packet.EtherTypeIPv4 {
		packet.IPv4(b[f.L3:]).SetTotalLen(uint16(f.L3End - f.L3))
	} else {
		packet.IPv6(b[f.L3:]).SetPayloadLen(uint16(f.L3End - f.L3 - 40))
		gso = packet.GSOTCPv6
	}
	if f.Key.Proto == packet.ProtoUDP {
		packet.UDP(b[f.L4:]).SetLength(uint16(f.L3End - f.L4))
		gso = packet.GSOUDPL4
	}
	at := sumOffset(f)
	binary.BigEndian.PutUint16(b[f.L4+at:], pseudoSum(f))
	f.Vnet().Set(packet.VnetNeedsCsum, gso, uint16(f.Payload), uint16(p.size), uint16(f.L4), uint16(at))
	f.Flags |= packet.FlagGSO
	f.Segs = p.segs
	f.L3Size = f.Payload - f.L3 + p.size
}
