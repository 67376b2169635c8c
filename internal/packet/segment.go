package packet

import "encoding/binary"

// Segment writes the i-th of f's Segs segments into dst, whose buffer must be BufSize bytes long, as the kernel would cut it
// (tcp_gso_segment, __udp_gso_segment): the headers are repeated; lengths follow; the IPv4 identification counts up; TCP's
// sequence number goes on, CWR stays with the first segment, FIN and PSH with the last. The segment's checksum is left to
// offload (NEEDS_CSUM) when partial is true, else it is made. f must be a super-frame that Parse found right; it stays as it
// is. dst needs no Parse.
func (f *Frame) Segment(dst *Frame, i int, partial bool) {
	size := int(f.Vnet().GSOSize())
	from := f.Payload + i*size
	to := min(from+size, f.L3End)
	f.header(dst, f.Payload+to-from)
	copy(dst.buf[dst.off+f.Payload:], f.buf[f.off+from:f.off+to])

	dst.Flags &^= FlagGSO
	dst.Segs = 1
	dst.fixIP(i)
	last := i == f.Segs-1
	if f.Key.Proto == ProtoTCP {
		dst.fixTCP(uint32(i*size), i == 0, last)
	} else {
		UDP(dst.Transport()).SetLength(uint16(to - from + 8))
	}
	dst.fixPartial(uint16(f.L3End - f.L4))
	if !partial {
		dst.CompleteChecksum()
	}
}

// header makes dst a frame of n bytes, with the headers of f and what Parse found.
func (f *Frame) header(dst *Frame, n int) {
	dst.Reset()
	buf := dst.buf
	*dst = *f
	dst.buf, dst.off, dst.end, dst.own, dst.Borrowed = buf, Headroom, Headroom+n, nil, false
	dst.L3End, dst.L3Size = n, n-f.L3
	copy(buf[Headroom:], f.buf[f.off:f.off+f.Payload])
}

// fixIP sets the datagram's length, and the i-th identification.
func (f *Frame) fixIP(i int) {
	if f.Key.EtherType == EtherTypeIPv6 {
		h := f.IPv6()
		h.SetPayloadLen(uint16(len(h) - 40))
		return
	}
	h := f.IPv4()
	h.SetTotalLen(uint16(len(h)))
	h.SetID(h.ID() + uint16(i))
}

// fixTCP moves the sequence number by n and clears the flags that belong to another segment.
func (f *Frame) fixTCP(n uint32, first, last bool) {
	t := TCP(f.Transport())
	binary.BigEndian.PutUint32(t[4:], t.Seq()+n)
	if !first {
		t.SetFlags(t.Flags() &^ TCPCwr)
	}
	if !last {
		t.SetFlags(t.Flags() &^ (TCPFin | TCPPsh))
		f.Flags &^= FlagFIN
	}
}

// fixPartial makes the frame an ordinary one with NEEDS_CSUM. The pseudo-header's sum in it was for the old transport
// length. It is not made from the addresses, since behind a routing header the last address counts (RFC 8200 8.1).
func (f *Frame) fixPartial(old uint16) {
	t, off := f.Transport(), csumOffset(f.Key.Proto)
	sum := ^binary.BigEndian.Uint16(t[off:])
	binary.BigEndian.PutUint16(t[off:], ^UpdateSum(sum, old, uint16(len(t))))
	f.Vnet().Set(VnetNeedsCsum, GSONone, 0, 0, uint16(f.L4), uint16(off))
}
