package packet

import (
	"encoding/binary"
	"hash/crc32"
)

// Values of the vnet header (linux/virtio_net.h).
const (
	VnetNeedsCsum = 1 // flags: the sum from CsumStart on is still to be made, its field holds the pseudo-header's
	VnetDataValid = 2 // flags: somebody verified the checksum

	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDPL4 = 5    // USO: one datagram header, cut into datagrams of GSOSize payload bytes (Linux 6.2)
	GSOECN   = 0x80 // or'ed in: the TCP segments carry CWR
)

// VnetHeader is a view of struct virtio_net_hdr_v1, little endian. Offsets in it count from the Ethernet header.
//
//	0      1         2        4         6           8            10
//	+------+---------+--------+---------+-----------+------------+-------------+
//	|flags |gso_type |hdr_len |gso_size |csum_start |csum_offset |num_buffers  |
//	+------+---------+--------+---------+-----------+------------+-------------+
type VnetHeader []byte

func (v VnetHeader) Flags() uint8       { return v[0] }
func (v VnetHeader) NeedsCsum() bool    { return v[0]&VnetNeedsCsum != 0 }
func (v VnetHeader) GSOType() uint8     { return v[1] }
func (v VnetHeader) HdrLen() uint16     { return binary.LittleEndian.Uint16(v[2:]) }
func (v VnetHeader) GSOSize() uint16    { return binary.LittleEndian.Uint16(v[4:]) }
func (v VnetHeader) CsumStart() uint16  { return binary.LittleEndian.Uint16(v[6:]) }
func (v VnetHeader) CsumOffset() uint16 { return binary.LittleEndian.Uint16(v[8:]) }

func (v VnetHeader) SetHdrLen(n uint16)    { binary.LittleEndian.PutUint16(v[2:], n) }
func (v VnetHeader) SetCsumStart(n uint16) { binary.LittleEndian.PutUint16(v[6:], n) }

// Set fills the whole header.
func (v VnetHeader) Set(flags, gsoType uint8, hdrLen, gsoSize, csumStart, csumOffset uint16) {
	v[0], v[1] = flags, gsoType
	binary.LittleEndian.PutUint16(v[2:], hdrLen)
	binary.LittleEndian.PutUint16(v[4:], gsoSize)
	binary.LittleEndian.PutUint16(v[6:], csumStart)
	binary.LittleEndian.PutUint16(v[8:], csumOffset)
	v[10], v[11] = 0, 0
}

// Clear makes the header say: an ordinary frame, checksum complete.
func (v VnetHeader) Clear() { clear(v[:VnetLen]) }

// Limits of super-frames. Linux sends none beyond them and takes none.
const (
	minTCPSegment = 8   // TCP_MIN_GSO_SIZE: less is an attack on who must cut it
	maxUDPSegs    = 128 // UDP_MAX_SEGMENTS
)

// parseVnet holds a vnet header that says anything against the frame. What is not known to be true is dropped: the kernel
// of another container would act on it.
func (f *Frame) parseVnet(v VnetHeader) DropReason {
	switch {
	case v[0]&^(VnetNeedsCsum|VnetDataValid) != 0:
		return DropBadVnet
	case v.GSOType() != GSONone:
		return f.parseGSO(v)
	case v.NeedsCsum():
		return f.parsePartial(v)
	}
	v.Set(v[0], GSONone, 0, 0, 0, 0)
	return DropNone
}

// parsePartial holds NEEDS_CSUM of an ordinary frame against it. Checksums other than of TCP and UDP are made at once: that
// of a packet inside a tunnel, which the kernel leaves to us like any other, and the CRC of SCTP. A checksum would be
// written to where the sender says, so it must not hit what has been looked at: a filter could be passed by a forged header.
func (f *Frame) parsePartial(v VnetHeader) DropReason {
	start, off := int(v.CsumStart()), int(v.CsumOffset())
	if f.L4 != 0 && start == f.L4 && off == csumOffset(f.Key.Proto) {
		switch f.Key.Proto {
		case ProtoTCP, ProtoUDP:
			v.Set(v[0], GSONone, 0, 0, uint16(start), uint16(off)) // without hints that may be lies
		case ProtoSCTP:
			return f.completeSCTP()
		default:
			f.CompleteChecksum()
		}
		return DropNone
	}
	if start < f.unseen() || start+off+2 > f.L3End {
		return DropBadVnet
	}
	f.CompleteChecksum()
	return DropNone
}

// unseen returns where the part of the frame begins that Parse did not look at; its end when there is none.
func (f *Frame) unseen() int {
	switch {
	case f.L4 != 0:
		return f.Payload
	case f.Flags&FlagFragment != 0 || f.Key.EtherType == EtherTypeARP:
		return f.L3End
	case f.Key.EtherType == EtherTypeIPv4:
		return f.L3 + f.IPv4().HeaderLen()
	case f.Key.EtherType == EtherTypeIPv6:
		_, at, _ := f.parseExtensions(f.buf[f.off:f.off+f.L3End], f.IPv6().NextHeader(), f.L3+40)
		return at
	}
	return f.L3
}

// csumOffset returns where a transport header keeps its checksum; -1: nowhere we know.
func csumOffset(proto uint8) int {
	switch proto {
	case ProtoTCP:
		return 16
	case ProtoUDP:
		return 6
	case ProtoICMP, ProtoICMPv6:
		return 2
	case ProtoSCTP:
		return 8
	}
	return -1
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// completeSCTP makes the CRC32c of an SCTP packet (RFC 9260 6.8, appendix A). The vnet header has no way to say that it is
// one, so that the next kernel would make an Internet checksum.
func (f *Frame) completeSCTP() DropReason {
	t := f.Transport()
	if len(t) < 12 {
		return DropBadVnet
	}
	binary.LittleEndian.PutUint32(t[8:], 0)
	binary.LittleEndian.PutUint32(t[8:], crc32.Checksum(t, castagnoli))
	f.Vnet().Clear()
	return DropNone
}

// parseGSO holds a super-frame's vnet header against it, and makes an ordinary frame of one that has a single segment.
func (f *Frame) parseGSO(v VnetHeader) DropReason {
	k := &f.Key
	size, payload := int(v.GSOSize()), f.L3End-f.Payload
	if f.L4 == 0 || f.L3End != f.Len() {
		return DropBadVnet
	}
	var right bool
	switch v.GSOType() {
	case GSOTCPv4, GSOTCPv4 | GSOECN:
		right = k.Proto == ProtoTCP && k.EtherType == EtherTypeIPv4 && size >= minTCPSegment
	case GSOTCPv6, GSOTCPv6 | GSOECN:
		right = k.Proto == ProtoTCP && k.EtherType == EtherTypeIPv6 && size >= minTCPSegment
	case GSOUDPL4:
		right = k.Proto == ProtoUDP && size > 0 && payload <= maxUDPSegs*size &&
			int(UDP(f.Transport()).Length()) == f.L3End-f.L4
	}
	if !right || !f.cuttable() {
		return DropBadVnet
	}
	if !v.NeedsCsum() {
		if k.EtherType == EtherTypeIPv6 && f.Flags&FlagOptions != 0 {
			return DropBadVnet // a routing header may hold the address that the sum is over
		}
		f.makePartial()
	} else if int(v.CsumStart()) != f.L4 || int(v.CsumOffset()) != csumOffset(k.Proto) {
		return DropBadVnet
	}
	if payload <= size {
		v.Set(v[0], GSONone, 0, 0, v.CsumStart(), v.CsumOffset())
		return DropNone
	}
	f.Flags |= FlagGSO
	v.SetHdrLen(uint16(f.Payload))
	f.L3Size = f.Payload - f.L3 + size
	f.Segs = (payload + size - 1) / size
	return DropNone
}

// cuttable tells whether a kernel could cut the super-frame. It knows the tags of 802.1Q and 802.1ad only (eth_type_vlan in
// linux/if_vlan.h), and repeats hop-by-hop, routing and destination headers in each segment (ipv6_gso_pull_exthdrs in
// net/ipv6/ip6_offload.c). No stack sends a super-frame with another header, which would not be the same in each segment.
func (f *Frame) cuttable() bool {
	for b := f.Bytes()[12 : f.L3-2]; len(b) > 0; b = b[4:] {
		if binary.BigEndian.Uint16(b) == EtherTypeQinQ1 {
			return false
		}
	}
	if f.Key.EtherType != EtherTypeIPv6 || f.Flags&FlagOptions == 0 {
		return true
	}
	h := f.IPv6()
	for next, at := h.NextHeader(), 40; f.L3+at < f.L4; next, at = h[at], at+8+8*int(h[at+1]) {
		if next != 0 && next != 43 && next != 60 {
			return false
		}
	}
	return true
}

// makePartial replaces a complete transport checksum by the pseudo-header's sum and says so in the vnet header.
func (f *Frame) makePartial() {
	n := 16
	if f.Key.EtherType == EtherTypeIPv4 {
		n = 4
	}
	t, off := f.Transport(), csumOffset(f.Key.Proto)
	sum := PseudoSum(f.Key.Src[:n], f.Key.Dst[:n], f.Key.Proto, len(t))
	binary.BigEndian.PutUint16(t[off:], Fold(sum))
	v := f.Vnet()
	v.Set(VnetNeedsCsum, v.GSOType(), 0, v.GSOSize(), uint16(f.L4), uint16(off))
}
