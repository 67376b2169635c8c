package packettest

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"

	"vswitch/internal/packet"
)

// Source is where choices come from: random numbers, or a fuzzer's bytes.
type Source interface{ IntN(n int) int }

// Hostile draws what nobody should send: a frame from and to the given MAC addresses with some of its lengths, headers, tags or
// bytes changed, and a vnet header that may lie. One in eight is as it should be.
func Hostile(r Source, from, to string) (vnet, frame []byte) {
	f := hostileBase(r, from, to)
	vnet, frame = slices.Clone(f.Vnet()), slices.Clone(f.Bytes())
	for range r.IntN(4) {
		switch r.IntN(8) {
		case 0: // cut off
			frame = frame[:r.IntN(len(frame)+1)]
		case 1: // followed by something
			frame = append(frame, make([]byte, []int{1, 2, 40, 1400, 64 << 10}[r.IntN(5)])...)
		case 2: // one byte of a header, or of anything
			if at := r.IntN(min(len(frame), 100) + 1); at < len(frame) {
				frame[at] = byte(r.IntN(256))
			}
		case 3: // a length, offset or type in a header
			if at := 12 + r.IntN(70); at+2 <= len(frame) {
				binary.BigEndian.PutUint16(frame[at:], odd(r, len(frame)))
			}
		case 4:
			if len(frame) >= 14 {
				frame = nest(r, frame)
			}
		default:
			lie(r, vnet, len(frame))
		}
	}
	return vnet, frame[:min(len(frame), packet.BufSize-packet.Headroom)]
}

// hostileBase draws a right frame with a header or two that are seldom seen.
func hostileBase(r Source, from, to string) *packet.Frame {
	ips := [][2]string{{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}}[r.IntN(2)]
	o := []Option{From(from, ips[0], uint16(1+r.IntN(3))), To(to, ips[1], 80), Size([]int{0, 1, 7, 8, 100, 1400, 3000, 60000}[r.IntN(8)])}
	if r.IntN(3) == 0 {
		o = append(o, VLAN([]uint16{0, 10, 11, 13, 0xe00a}[r.IntN(5)]))
	}
	if r.IntN(8) == 0 {
		o = append(o, IPOptions(1, 1, 1, 0))
	}
	for range r.IntN(5) - 2 {
		o = append(o, Extension([]uint8{0, 43, 60, 135, 51, 44}[r.IntN(6)], append([]byte{byte(r.IntN(3))}, make([]byte, 6+8*r.IntN(2))...)...))
	}
	if r.IntN(8) == 0 {
		o = append(o, Fragment(uint16(r.IntN(200)), r.IntN(2) == 0))
	}
	switch r.IntN(3) {
	case 0:
		o = append(o, Partial())
	case 1:
		o = append(o, GSO([]int{1, 7, 8, 500, 1448, 9000, 65535}[r.IntN(7)]))
		if r.IntN(4) == 0 {
			o = append(o, Complete())
		}
	}
	switch r.IntN(8) {
	case 0:
		return ICMPEcho(o...)
	case 1:
		if ips[0] == "10.0.0.1" {
			return ARPReply(o...)
		}
		return IP(uint8([]int{0, 33, 41, 43, 47, 51, 59, 132, 136, 255}[r.IntN(10)]), o...)
	case 2:
		return IP(uint8([]int{1, 4, 6, 17, 41, 47, 50, 58, 132, 136}[r.IntN(10)]), o...)
	case 3:
		return Raw([]uint16{0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x9100, 0x8847, 0x05ff, 20}[r.IntN(9)], o...)
	case 4, 5:
		return TCP(append(o, Flags(uint8([]int{0x10, 0x18, 0x90, 0x12, 0x19, 0xff, 0}[r.IntN(7)])), Seq(uint32(r.IntN(3)*1448)))...)
	}
	return UDP(o...)
}

// odd draws a number at which somebody may stumble.
func odd(r Source, n int) uint16 {
	some := []int{0, 1, 2, 6, 7, 8, 13, 14, 16, 18, 20, 33, 34, 38, 40, 54, 58, 60, 0x7fff, 0x8000, 0x8100, 0x88a8, 0xfffe, 0xffff,
		n - 55, n - 34, n - 20, n - 14, n - 2, n - 1, n, n + 1, 0x4500, 0x4600, 0x4f00, 0x6000}
	return uint16(some[r.IntN(len(some))])
}

// nest puts up to 20 VLAN tags behind the addresses.
func nest(r Source, frame []byte) []byte {
	var tags []byte
	for range 1 + r.IntN(20) {
		tags = append(tags, [][]byte{{0x81, 0}, {0x88, 0xa8}, {0x91, 0}}[r.IntN(3)]...)
		tags = append(tags, 0, byte(10*r.IntN(2)))
	}
	return slices.Insert(frame, 12, tags...)
}

// lie changes a vnet header.
func lie(r Source, v []byte, n int) {
	switch r.IntN(4) {
	case 0:
		v[0] = byte([]int{0, 1, 2, 3, 4, 0xff}[r.IntN(6)])
	case 1:
		v[1] = byte([]int{0, 1, 2, 3, 4, 5, 6, 0x80, 0x81, 0x84, 0x85, 0x20, 0x40, 0xff}[r.IntN(14)])
	default:
		binary.LittleEndian.PutUint16(v[2+2*r.IntN(5):], odd(r, n))
	}
}

// beyond matches what gopacket can't or won't judge, where it is for the receiver to do so: what is in options and routing headers,
// and headers and tags (0x9100) that it does not know.
var beyond = regexp.MustCompile(`option|routing|not currently supported|Unable to decode (EthernetType 37120|IPProtocol 135)`)

// Acceptable says why a kernel could not take a frame, or would come to harm by it: the vnet header must be true of what gopacket
// finds in the frame. A frame that leaves no work to do may hold anything.
func Acceptable(vnet, frame []byte) error {
	le := binary.LittleEndian
	switch {
	case len(frame) < 14:
		return fmt.Errorf("%d bytes are no frame", len(frame))
	case vnet[0]&^(needsCsum|packet.VnetDataValid) != 0:
		return fmt.Errorf("vnet flags %#x", vnet[0])
	case vnet[1] == 0 && vnet[0]&needsCsum == 0:
		return nil
	}
	l, err := decode(frame)
	switch {
	case err != nil && beyond.MatchString(err.Error()):
		return nil
	case err != nil:
		return err
	case l.opaque && !l.fragment:
		return nil
	case vnet[1] != 0:
		return l.checkSuper(vnet, frame)
	}
	if start, at := int(le.Uint16(vnet[6:])), int(le.Uint16(vnet[8:])); l.l4 == 0 || start != l.l4 || at != checksumAt(l.proto) || start+at+2 > l.end {
		return fmt.Errorf("checksum left to do at %d+%d, the transport header is at %d", start, at, l.l4)
	}
	return nil
}
