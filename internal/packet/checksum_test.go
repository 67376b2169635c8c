package packet_test

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/packet"
)

// plainSum is the Internet checksum word by word, folded and not complemented.
func plainSum(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestSumAgreesWithItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 7, 8, 9, 20, 63, 64, 65, 127, 128, 1448, 1501, 65535}).Draw(t, "length")
		b := make([]byte, n)
		fill := rapid.SampledFrom([]byte{0, 1, 0x55, 0xff}).Draw(t, "fill")
		mul := rapid.Byte().Draw(t, "mul")
		for i := range b {
			b[i] = fill + byte(i)*mul
		}
		if got, want := packet.Fold(packet.Sum(b, 0)), plainSum(b); got != want {
			t.Fatalf("sum of %d bytes is %#04x, want %#04x", n, got, want)
		}
		cut := rapid.IntRange(0, n/2).Draw(t, "cut") * 2
		if got, want := packet.Fold(packet.Sum(b[cut:], packet.Sum(b[:cut], 0))), plainSum(b); got != want {
			t.Fatalf("sum of two parts is %#04x, want %#04x", got, want)
		}
	})
}

func TestSumCarries(t *testing.T) {
	b := make([]byte, 64)
	for i := range b {
		b[i] = 0xff
	}
	for n := range 65 {
		if got, want := packet.Fold(packet.Sum(b[:n], ^uint64(0))), plainSum(append([]byte{0xff, 0xff}, b[:n]...)); got != want {
			t.Errorf("%d bytes: %#04x, want %#04x", n, got, want)
		}
	}
}

func TestPseudoSum(t *testing.T) {
	src, dst := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	if got := packet.Fold(packet.PseudoSum(src, dst, packet.ProtoUDP, 8)); got != 0x141c {
		t.Errorf("IPv4: %#04x", got) // 0a00+0001+0a00+0002+0011+0008
	}
	src, dst = make([]byte, 16), make([]byte, 16)
	src[0], src[15], dst[0], dst[15] = 0xfd, 1, 0xfd, 2
	if got := packet.Fold(packet.PseudoSum(src, dst, packet.ProtoTCP, 0x10014)); got != 0xfa1f {
		t.Errorf("IPv6: %#04x", got) // fd00+0001+fd00+0002+0001+0014+0006, carried around
	}
}

// TestUpdateSum checks RFC 1624: an updated checksum verifies where the recomputed one does, and is the same unless zero is
// in play, which has two forms.
func TestUpdateSum(t *testing.T) {
	words := []uint16{0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x1234}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.SampledFrom(words), rapid.Uint16())
		b := make([]byte, 8)
		for i := 2; i < 8; i += 2 {
			binary.BigEndian.PutUint16(b[i:], word.Draw(t, "word"))
		}
		binary.BigEndian.PutUint16(b, ^plainSum(b))
		old, new := binary.BigEndian.Uint16(b[4:]), word.Draw(t, "new")
		empty := plainSum(b[2:]) == 0 // nothing but zeros: no header is like that
		got := packet.UpdateSum(binary.BigEndian.Uint16(b), old, new)

		binary.BigEndian.PutUint16(b[4:], new)
		binary.BigEndian.PutUint16(b, got)
		empty = empty || plainSum(b[2:]) == 0
		if s := plainSum(b); s != 0xffff && !empty {
			t.Fatalf("%#04x -> %#04x: the sum is %#04x", old, new, s)
		}
		if want := ^plainSum(b[2:]); got != want && got^want != 0xffff {
			t.Fatalf("%#04x -> %#04x: checksum %#04x, recomputed %#04x", old, new, got, want)
		} else if got != want && !empty {
			t.Fatalf("%#04x -> %#04x: zero in another form than recomputed: %#04x, %#04x", old, new, got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1448, 65000} {
		buf := make([]byte, n)
		b.Run(byteCount(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				packet.Sum(buf, 0)
			}
		})
	}
}
