package l2switch

import (
	"testing"

	"pgregory.net/rapid"
)

// The index answers as a map, with so few keys and buckets that probes run into each other and around the end.
func TestIndexEqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex()
		twin := map[fdbKey]uint32{}
		for slot := uint32(1); slot < 400; slot++ {
			k := fdbKey(rapid.IntRange(0, 60).Draw(t, "key"))
			if _, ok := twin[k]; ok {
				x.remove(k)
				delete(twin, k)
			} else {
				x.insert(k, slot)
				twin[k] = slot
			}
			for k := range fdbKey(61) {
				if got := x.find(k); got != twin[k] {
					t.Fatalf("key %d is at %d, want %d", k, got, twin[k])
				}
			}
		}
		if x.n != len(twin) {
			t.Fatalf("%d keys, want %d", x.n, len(twin))
		}
	})
}

func TestKey(t *testing.T) {
	mac := [6]byte{0x02, 0x42, 0xac, 0x11, 0x00, 0xff}
	if k := makeKey(4094, mac); k.vlan() != 4094 || k.mac() != mac || k != 0xffe_0242_ac11_00ff {
		t.Errorf("key %x is VLAN %d, %x", k, k.vlan(), k.mac())
	}
}
