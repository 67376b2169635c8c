package pipeline

import (
	"encoding/binary"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// fragment sends an IPv4 frame on in pieces that fit the MTU of its way out (RFC 791 3.2). Each segment of a super-frame is a datagram
// of its own.
func (w *walk) fragment() {
	f := w.f.Clone()
	if w.rewrite != nil {
		f.Rewrite(w.rewrite)
	}
	if f.Flags&packet.FlagGSO == 0 {
		f.CompleteChecksum()
		w.pieces(f)
		return
	}
	segment := packet.NewFrame(make([]byte, packet.BufSize))
	for i := range f.Segs {
		f.Segment(segment, i, false)
		w.pieces(segment)
	}
}

// pieces makes the fragments of one datagram, which may be a fragment itself.
func (w *walk) pieces(f *packet.Frame) {
	h := f.IPv4()
	header, data := h[:h.HeaderLen()], h[h.HeaderLen():]
	offset, more := h.Fragment()
	for first := true; first || len(data) > 0; first = false {
		if !first && len(header) > 20 {
			header = laterHeader(header)
		}
		n := len(data)
		if len(header)+n > w.mtu {
			n = (w.mtu - len(header)) &^ 7
		}
		b := make([]byte, 14+len(header)+n)
		copy(b, w.hop.Dst[:])
		copy(b[6:], w.hop.Src[:])
		binary.BigEndian.PutUint16(b[12:], packet.EtherTypeIPv4)
		p := packet.IPv4(b[14:])
		copy(p, header)
		copy(p[len(header):], data[:n])
		data = data[n:]
		flags := offset
		if more || len(data) > 0 {
			flags |= 0x2000
		}
		offset += uint16(n / 8)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[6:], flags)
		p[8]--
		binary.BigEndian.PutUint16(p[10:], 0)
		binary.BigEndian.PutUint16(p[10:], ^packet.Fold(packet.Sum(p[:len(header)], 0)))
		m := &flow.Made{Bytes: b, Set: w.set}
		if w.out != nil {
			m.Port = w.out.ID
		}
		w.v.Make(m)
	}
}

// laterHeader leaves out the options that later fragments don't have: those without the copied flag.
func laterHeader(h packet.IPv4) packet.IPv4 {
	out := append(packet.IPv4{}, h[:20]...)
	for o := h[20:]; len(o) > 0 && o[0] != 0; {
		n := 1
		if o[0] != 1 {
			n = int(o[1])
		}
		if o[0]&0x80 != 0 {
			out = append(out, o[:n]...)
		}
		o = o[n:]
	}
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	out[0] = 0x40 | byte(len(out)/4)
	return out
}
