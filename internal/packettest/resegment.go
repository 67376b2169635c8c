package packettest

import (
	"encoding/binary"
	"fmt"
)

// Resegment returns the frames that a receiver sees: the segments of a super-frame as the kernel will cut it, or the frame
// itself, all with their checksums complete. It is the oracle for those who merge and cut: it makes each segment anew, in the
// plainest way, and panics on what is no right frame.
func Resegment(vnet, frame []byte) [][]byte {
	if vnet == nil || vnet[1] == 0 {
		return [][]byte{finish(vnet, frame)}
	}
	if err := Super(vnet, frame); err != nil && int(binary.LittleEndian.Uint16(vnet[4:])) < len(frame) {
		panic(fmt.Sprintf("packettest: super-frame: %v", err))
	}
	l, err := decode(frame)
	if err != nil {
		panic(err)
	}
	size := int(binary.LittleEndian.Uint16(vnet[4:]))
	var segments [][]byte
	for at := l.payload; at < l.end || at == l.payload; at += size {
		b := append([]byte{}, frame[:l.payload]...)
		b = append(b, frame[at:min(at+size, l.end)]...)
		l.fix(b, len(segments), at-l.payload, at+size >= l.end)
		segments = append(segments, b)
	}
	return segments
}

// finish makes the checksum that a frame left to do.
func finish(vnet, frame []byte) []byte {
	b := append([]byte{}, frame...)
	if vnet == nil || vnet[0]&needsCsum == 0 {
		return b
	}
	start := binary.LittleEndian.Uint16(vnet[6:])
	c := ^sum16(b[start:])
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[start+binary.LittleEndian.Uint16(vnet[8:]):], c)
	return b
}

// fix makes the headers of the i-th segment, whose payload was at the given place of the super-frame's.
func (l *layout) fix(b []byte, i, place int, last bool) {
	be := binary.BigEndian
	ip, t := b[l.l3:], b[l.l4:]
	if l.ipv4 != nil {
		be.PutUint16(ip[2:], uint16(len(ip)))
		be.PutUint16(ip[4:], l.ipv4.Id+uint16(i))
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^sum16(ip[:int(l.ipv4.IHL)*4]))
	} else {
		be.PutUint16(ip[4:], uint16(len(ip)-40))
	}
	if l.tcp != nil {
		be.PutUint32(t[4:], l.tcp.Seq+uint32(place))
		if i > 0 {
			t[13] &^= flagCWR
		}
		if !last {
			t[13] &^= flagFIN | flagPSH
		}
	} else {
		be.PutUint16(t[4:], uint16(len(t)))
	}
	at := checksumAt(l.proto)
	be.PutUint16(t[at:], 0)
	be.PutUint16(t[at:], complete(pseudo(l.src, l.dst, l.proto, len(t)), t))
}
