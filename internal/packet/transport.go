package packet

import "encoding/binary"

// CompleteChecksum makes the checksum that a NEEDS_CSUM frame left to offload, for a port without it. Not for super-frames,
// see Segment. A sum of 0 becomes 0xffff, as UDP demands (RFC 768); for the others both mean the same.
func (f *Frame) CompleteChecksum() {
	v := f.Vnet()
	if !v.NeedsCsum() {
		return
	}
	b := f.buf[f.off+int(v.CsumStart()) : f.off+f.L3End]
	sum := ^Fold(Sum(b, 0))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[v.CsumOffset():], sum)
	v.Clear()
}

// NoChecksum reports whether the frame is a UDP datagram sent without a checksum (RFC 768; over IPv6 RFC 6935).
func (f *Frame) NoChecksum() bool {
	return f.L4 != 0 && f.Key.Proto == ProtoUDP && UDP(f.Transport()).Checksum() == 0 && !f.Vnet().NeedsCsum()
}

// VerifyTransport reports whether the frame has a complete TCP, UDP or ICMP checksum and it is right. It says no to what it
// cannot judge: other protocols, NoChecksum, NEEDS_CSUM, fragments, destinations still to come in an IPv6 routing header.
func (f *Frame) VerifyTransport() bool {
	if f.L4 == 0 || f.Vnet().NeedsCsum() || f.NoChecksum() {
		return false
	}
	t := f.Transport()
	var sum uint64
	switch f.Key.Proto {
	case ProtoICMP:
		return Fold(Sum(t, 0)) == 0xffff
	case ProtoUDP:
		t = t[:UDP(t).Length()]
	case ProtoTCP, ProtoICMPv6:
	default:
		return false
	}
	if f.Key.EtherType == EtherTypeIPv6 {
		sum = PseudoSum(f.IPv6().Src(), f.IPv6().Dst(), f.Key.Proto, len(t))
	} else {
		sum = PseudoSum(f.IPv4().Src(), f.IPv4().Dst(), f.Key.Proto, len(t))
	}
	return Fold(Sum(t, sum)) == 0xffff
}
