package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to a running Internet checksum (RFC 1071), without folding or complementing it. The running sum is kept in the
// byte order of the machine; Fold turns it into the value to store.
func Sum(b []byte, sum uint64) uint64 {
	var carry uint64
	for len(b) >= 64 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[0:]), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[56:]), carry)
		sum, _ = bits.Add64(sum, 0, carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum, _ = bits.Add64(sum, 0, carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var t uint64
		for i, c := range b {
			t |= uint64(c) << (8 * i)
		}
		sum, carry = bits.Add64(sum, t, 0)
		sum, _ = bits.Add64(sum, 0, carry)
	}
	return sum
}

// Fold folds a running sum to 16 bits in network byte order, not complemented: the form in which a NEEDS_CSUM frame keeps
// its pseudo-header's sum.
func Fold(sum uint64) uint16 {
	sum = sum&0xffffffff + sum>>32
	sum = sum&0xffffffff + sum>>32
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	return bits.ReverseBytes16(uint16(sum))
}

// PseudoSum is the running sum of the pseudo-header (RFC 793 3.1, RFC 8200 8.1): src and dst are 4 or 16 bytes each, length
// counts the transport header and its payload.
func PseudoSum(src, dst []byte, proto uint8, length int) uint64 {
	sum := Sum(src, 0)
	sum = Sum(dst, sum)
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], uint32(length))
	b[7] = proto
	return Sum(b[:], sum)
}

// UpdateSum returns checksum after a 16-bit word it covers went from was to is (RFC 1624, equation 3).
func UpdateSum(checksum, was, is uint16) uint16 {
	s := uint32(^checksum) + uint32(^was) + uint32(is)
	s = s&0xffff + s>>16
	s = s&0xffff + s>>16
	return ^uint16(s)
}
