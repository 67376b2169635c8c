package packet

import "encoding/binary"

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
