package packet_test

import (
	"encoding/binary"
	"math/bits"
	"reflect"
	"testing"
	"unsafe"

	"vswitch/internal/packet"
)

func TestKeyIsPlainMemory(t *testing.T) {
	typ := reflect.TypeFor[packet.Key]()
	if typ.Size() != packet.KeySize {
		t.Errorf("%d bytes, want %d", typ.Size(), packet.KeySize)
	}
	var next uintptr
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Offset != next {
			t.Errorf("padding before %s", f.Name)
		}
		if f.Name == "_" {
			t.Error("a blank field is hashed and not compared")
		}
		if k := f.Type.Kind(); k == reflect.Array {
			k = f.Type.Elem().Kind()
			if k != reflect.Uint8 {
				t.Errorf("%s is an array of %s", f.Name, k)
			}
		} else if k < reflect.Uint8 || k > reflect.Uint64 {
			t.Errorf("%s is a %s", f.Name, k)
		}
		next = f.Offset + f.Type.Size()
	}
	if next != packet.KeySize {
		t.Error("padding at the end")
	}
}

// TestEveryByteOfKeyCounts flips each bit of a key: it must be another one, with another hash.
func TestEveryByteOfKeyCounts(t *testing.T) {
	var k packet.Key
	hashes := map[uint64]int{k.Hash(): -1}
	for bit := range packet.KeySize * 8 {
		other := k
		(*[packet.KeySize]byte)(unsafe.Pointer(&other))[bit/8] ^= 1 << (bit % 8)
		if other == k {
			t.Errorf("bit %d is not compared", bit)
		}
		if before, ok := hashes[other.Hash()]; ok {
			t.Errorf("bits %d and %d give the same hash", bit, before)
		}
		hashes[other.Hash()] = bit
	}
}

// TestHashSpreads fills tables, each with other secrets, with flows that differ in few bits, as flows do, and counts what meets in a bucket.
func TestHashSpreads(t *testing.T) {
	for name, vary := range map[string]func(k *packet.Key, i int){
		"ports":             func(k *packet.Key, i int) { k.SrcPort, k.DstPort = uint16(i), uint16(i>>7) },
		"source ports":      func(k *packet.Key, i int) { k.SrcPort = uint16(i) },
		"destination ports": func(k *packet.Key, i int) { k.DstPort = uint16(i) },
		"addresses":         func(k *packet.Key, i int) { binary.BigEndian.PutUint32(k.Src[:], uint32(i)) },
		"both":              func(k *packet.Key, i int) { k.Src[3], k.Dst[3] = byte(i), byte(i>>8) },
		"MACs":              func(k *packet.Key, i int) { binary.BigEndian.PutUint16(k.SrcMAC[4:], uint16(i)) },
		"swapped":           func(k *packet.Key, i int) { k.Src[i%16], k.Dst[i/16%16], k.InPort = 1, 2, packet.PortID(i/256) },
		"one factor":        func(k *packet.Key, i int) { k.Src[15] = 9; binary.BigEndian.PutUint64(k.Src[:], uint64(i)) },
	} {
		for range 50 {
			packet.Reseed()
			expectSpread(t, name, vary)
		}
	}
}

func expectSpread(t *testing.T, name string, vary func(k *packet.Key, i int)) {
	t.Helper()
	const n = 1 << 14
	var load [n]uint8
	worst, ones := 0, 0
	for i := range n {
		var k packet.Key
		vary(&k, i)
		h := k.Hash()
		load[h%n]++
		worst = max(worst, int(load[h%n]))
		ones += bits.OnesCount64(h)
	}
	used := 0
	for _, l := range load {
		used += min(int(l), 1)
	}
	// Thrown at random, 63.2 % of the buckets are used, and none holds more than about 9.
	if used < n*61/100 || worst > 12 {
		t.Errorf("%s: %d of %d buckets used, one by %d flows", name, used, n, worst)
	}
	if mean := float64(ones) / n; mean < 31.5 || mean > 32.5 {
		t.Errorf("%s: %.2f bits of 64 are set", name, mean)
	}
}

func TestHashBytes(t *testing.T) {
	seen := map[uint64]string{}
	for _, s := range []string{"", "\x00", "\x00\x00", "a", "b", "abcdef", "abcdefg", "abcdefgh", "abcdefgh\x00", "abcdefghabcdefgh"} {
		h := packet.HashBytes([]byte(s))
		if before, ok := seen[h]; ok {
			t.Errorf("%q and %q have the same hash", s, before)
		}
		seen[h] = s
	}
}
