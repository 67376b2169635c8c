package packettest

import "encoding/binary"

// sum16 is the Internet checksum in its plainest form (RFC 1071), folded and not complemented.
func sum16(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			w := uint32(b[i]) << 8
			if i+1 < len(b) {
				w |= uint32(b[i+1])
			}
			sum += w
			sum = sum>>16 + sum&0xffff
		}
	}
	return uint16(sum)
}

// pseudo is the pseudo-header of IPv4 (RFC 793 3.1) or IPv6 (RFC 8200 8.1). ICMP has none.
func pseudo(src, dst []byte, proto uint8, length int) []byte {
	if proto == protoICMP {
		return nil
	}
	b := append(append([]byte{}, src...), dst...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return binary.BigEndian.AppendUint32(b, uint32(proto))
}

// checksumAt says where a protocol keeps its checksum; -1: nowhere.
func checksumAt(proto uint8) int {
	switch proto {
	case protoTCP:
		return 16
	case protoUDP:
		return 6
	case protoICMP, protoICMPv6:
		return 2
	case protoSCTP:
		return 8
	}
	return -1
}

// complete is the checksum of a transport header and payload whose checksum field is zero, as it is sent. A zero is sent as
// 0xffff, which UDP demands and to the others means the same.
func complete(pseudo, transport []byte) uint16 {
	if c := ^sum16(pseudo, transport); c != 0 {
		return c
	}
	return 0xffff
}
