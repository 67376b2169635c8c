package packet

import "encoding/binary"

// Sizes of a frame's buffer, in bytes.
const (
	// VnetLen is the length of struct virtio_net_hdr_v1 (linux/virtio_net.h) with its num_buffers field.
	VnetLen = 12
	// Headroom lies before the Ethernet header: the vnet header, pushed VLAN tags and later a tunnel's outer headers.
	Headroom = 128
	// MaxFrame is the longest Ethernet frame we take: an IPv6 super-frame with a payload of 65535 bytes under an Ethernet
	// header with three VLAN tags.
	MaxFrame = 40 + 65535 + 14 + 3*4
	// BufSize is the size of a buffer that holds any frame.
	BufSize = 68 << 10
)

// PortID names a port: its slot in the port table in the low 16 bits, the slot's generation in the high 16. Zero is no port.
type PortID uint32

// MakePortID joins a slot and its generation.
func MakePortID(slot, generation uint16) PortID { return PortID(generation)<<16 | PortID(slot) }

// Slot returns the index in the port table.
func (id PortID) Slot() int { return int(id & 0xffff) }

// Generation tells this use of the slot from earlier ones.
func (id PortID) Generation() uint16 { return uint16(id >> 16) }

// Frame is one Ethernet frame, or one super-frame that the kernel cuts into segments later, in a buffer with headroom:
//
//	buf:  | headroom ... | vnet header (12) | Ethernet | tags | IP | TCP/UDP | payload |
//	                                        ^off        ^L3         ^L4       ^Payload  ^end
//
// The vnet header lies right before the Ethernet header, so that a frame read from a TAP is written to a TAP by one write
// with no copy. A frame lives for one turn of its worker: nobody keeps a *Frame after the turn, who must calls Clone.
// A Frame is not safe for concurrent use.
type Frame struct {
	buf      []byte
	off, end int
	own      []byte // while Borrowed: the frame's own buffer

	// Borrowed says that the memory belongs to the ingress port and is valid until its next Read.
	Borrowed bool

	// The rest is set by Parse. Offsets count from the Ethernet header.
	Flags   Flags
	L3      int // IP header, or what follows the last VLAN tag
	L4      int // TCP, UDP, ICMP... header; 0 when there is none (not IP, or a later fragment)
	Payload int // what follows the TCP or UDP header; 0 when L4 is 0
	L3End   int // end of the IP datagram: trailing padding lies behind it
	L3Size  int // bytes from L3 of one segment: what is held against an MTU
	Segs    int // frames on the wire: 1, or the segments of a super-frame
	Whole   int // of a first fragment: bytes of its datagram from the transport header on, when SetPorts told; else 0
	Key     Key
}

// NewFrame makes an empty frame in buf, which must be BufSize bytes long.
func NewFrame(buf []byte) *Frame {
	f := &Frame{}
	f.SetBuffer(buf)
	return f
}

// SetBuffer makes f an empty frame in buf.
func (f *Frame) SetBuffer(buf []byte) {
	f.buf, f.off, f.end, f.Borrowed, f.own = buf, Headroom, Headroom, false, nil
}

// Reset makes f empty again, in its own buffer.
func (f *Frame) Reset() {
	if f.Borrowed {
		f.SetBuffer(f.own)
	}
	f.off, f.end = Headroom, Headroom
}

// Space returns the memory into which a port reads: first the vnet header, then the frame.
func (f *Frame) Space() []byte { return f.buf[Headroom-VnetLen:] }

// SetRead says that the first n bytes of Space were filled: a vnet header and a frame.
func (f *Frame) SetRead(n int) { f.off, f.end = Headroom, Headroom-VnetLen+n }

// Load copies a vnet header (nil: all zero) and a frame into the buffer.
func (f *Frame) Load(vnet, frame []byte) {
	s := f.Space()
	clear(s[:VnetLen])
	copy(s, vnet)
	f.SetRead(VnetLen + copy(s[VnetLen:], frame))
}

// Lend makes f a view of a port's own memory, until Reset: vnet header and frame at buf[off-VnetLen:end].
func (f *Frame) Lend(buf []byte, off, end int) {
	if !f.Borrowed {
		f.own = f.buf
	}
	f.buf, f.off, f.end, f.Borrowed = buf, off, end, true
}

// Bytes returns the Ethernet frame.
func (f *Frame) Bytes() []byte { return f.buf[f.off:f.end] }

// WithVnet returns the vnet header and the Ethernet frame, as a TAP takes it.
func (f *Frame) WithVnet() []byte { return f.buf[f.off-VnetLen : f.end] }

// Len returns the length of the Ethernet frame in bytes.
func (f *Frame) Len() int { return f.end - f.off }

// SetLen cuts the frame to n bytes or makes it longer; the new bytes are whatever the buffer holds.
func (f *Frame) SetLen(n int) { f.end = f.off + n }

// Room returns how many bytes fit behind the frame.
func (f *Frame) Room() int { return len(f.buf) - f.end }

// Append copies b behind the frame. The caller checked Room.
func (f *Frame) Append(b []byte) { f.end += copy(f.buf[f.end:], b) }

// Vnet returns the view of the vnet header.
func (f *Frame) Vnet() VnetHeader { return VnetHeader(f.buf[f.off-VnetLen : f.off]) }

// Ethernet returns the view of the Ethernet header.
func (f *Frame) Ethernet() Ethernet { return Ethernet(f.buf[f.off:f.end]) }

// IPv4 returns the view of the IPv4 datagram. Only after Parse found EtherType IPv4.
func (f *Frame) IPv4() IPv4 { return IPv4(f.buf[f.off+f.L3 : f.off+f.L3End]) }

// IPv6 returns the view of the IPv6 datagram. Only after Parse found EtherType IPv6.
func (f *Frame) IPv6() IPv6 { return IPv6(f.buf[f.off+f.L3 : f.off+f.L3End]) }

// Transport returns the bytes from the TCP, UDP or ICMP header to the datagram's end. Only when L4 is not 0.
func (f *Frame) Transport() []byte { return f.buf[f.off+f.L4 : f.off+f.L3End] }

// Clone copies the frame into a buffer of its own, with the same headroom.
func (f *Frame) Clone() *Frame {
	c := *f
	c.buf = make([]byte, max(f.end, Headroom))
	copy(c.buf[f.off-VnetLen:], f.WithVnet())
	c.Borrowed, c.own = false, nil
	return &c
}

// CopyInto copies the frame into dst's own buffer and leaves f alone.
func (f *Frame) CopyInto(dst *Frame) {
	dst.Reset()
	buf := dst.buf
	*dst = *f
	dst.buf, dst.Borrowed, dst.own = buf, false, nil
	dst.off = Headroom
	dst.end = Headroom + f.Len()
	copy(buf[Headroom-VnetLen:], f.WithVnet())
}

// PushVLAN inserts an 802.1Q tag with the given TCI (IEEE 802.1Q 9.6) before the EtherType, by moving the addresses into
// the headroom; the vnet header's offsets follow. L3Size is unchanged: a tag does not count against the MTU.
func (f *Frame) PushVLAN(tci uint16) {
	copy(f.buf[f.off-VnetLen-4:], f.buf[f.off-VnetLen:f.off+12])
	f.off -= 4
	b := f.buf[f.off:]
	binary.BigEndian.PutUint16(b[12:], EtherTypeVLAN)
	binary.BigEndian.PutUint16(b[14:], tci)
	f.shift(4)
	f.Key.VLAN = tci&VLANMask | VLANPresent
}

// PopVLAN removes the outermost tag. Only when the frame has one.
func (f *Frame) PopVLAN() {
	copy(f.buf[f.off-VnetLen+4:f.off+16], f.buf[f.off-VnetLen:f.off+12])
	f.off += 4
	f.shift(-4)
	f.Key.VLAN = 0
}

// SetVLAN rewrites the VLAN id of the outermost tag and keeps its priority. Only when the frame has one.
func (f *Frame) SetVLAN(vid uint16) {
	b := f.buf[f.off+14:]
	binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)&^VLANMask|vid&VLANMask)
	f.Key.VLAN = vid&VLANMask | VLANPresent
}

// shift moves all offsets by n after a tag was pushed or popped.
func (f *Frame) shift(n int) {
	v := f.Vnet()
	if v.NeedsCsum() {
		v.SetCsumStart(uint16(int(v.CsumStart()) + n))
	}
	if h := v.HdrLen(); h != 0 {
		v.SetHdrLen(uint16(int(h) + n))
	}
	f.L3 += n
	f.L3End += n
	if f.L4 != 0 {
		f.L4 += n
		f.Payload += n
	}
}

// WireBytes returns the bytes on the wire: a super-frame counts as its segments, each with its headers.
func (f *Frame) WireBytes() int { return f.end - f.off + (f.Segs-1)*f.Payload }

// Route sends an IP frame one hop further: other MACs, and one less of its TTL or hop limit, which is at least 2. The key follows.
func (f *Frame) Route(dst, src *[6]byte) {
	b := f.buf[f.off:]
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
	f.Key.DstMAC, f.Key.SrcMAC = *dst, *src
	if f.Key.EtherType == EtherTypeIPv4 {
		f.IPv4().DecrementTTL()
	} else {
		f.IPv6().DecrementHopLimit()
	}
}
