package l2switch

import (
	"encoding/binary"

	"vswitch/internal/packet"
)

// fdbKey is a VLAN id and a MAC address in one word: the id above the 48 bits of the address.
type fdbKey uint64

func makeKey(vlan uint16, mac [6]byte) fdbKey {
	return fdbKey(vlan)<<48 | fdbKey(binary.BigEndian.Uint16(mac[:]))<<32 | fdbKey(binary.BigEndian.Uint32(mac[2:]))
}

func (k fdbKey) vlan() uint16 { return uint16(k >> 48) }

func (k fdbKey) mac() (mac [6]byte) {
	binary.BigEndian.PutUint16(mac[:], uint16(k>>32))
	binary.BigEndian.PutUint32(mac[2:], uint32(k))
	return mac
}

// hash is seeded anew by each process, so that nobody can choose addresses that meet in one bucket.
func (k fdbKey) hash() uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(k))
	return packet.HashBytes(b[:])
}

// index finds entries by key: open addressing with linear probing, at most half full. Removal shifts back what follows, so
// that there are no tombstones: a flood of addresses that come and go leaves it as fast and as large as before.
type index struct {
	buckets []bucket
	mask    uint64
	n       int
}

type bucket struct {
	key  fdbKey
	slot uint32 // of the entry; 0: the bucket is empty
}

const minBuckets = 64

func newIndex() index { return index{buckets: make([]bucket, minBuckets), mask: minBuckets - 1} }

// find returns the slot of the entry with the key, or 0.
func (x *index) find(k fdbKey) uint32 {
	for i := k.hash() & x.mask; ; i = (i + 1) & x.mask {
		if b := &x.buckets[i]; b.key == k || b.slot == 0 {
			return b.slot
		}
	}
}

// insert adds a key that is not there yet.
func (x *index) insert(k fdbKey, slot uint32) {
	if 2*(x.n+1) > len(x.buckets) {
		old := x.buckets
		*x = index{make([]bucket, 2*len(old)), uint64(2*len(old) - 1), x.n}
		for _, b := range old {
			if b.slot != 0 {
				x.place(b)
			}
		}
	}
	x.place(bucket{k, slot})
	x.n++
}

func (x *index) place(b bucket) {
	i := b.key.hash() & x.mask
	for x.buckets[i].slot != 0 {
		i = (i + 1) & x.mask
	}
	x.buckets[i] = b
}

// remove takes out a key that is there.
func (x *index) remove(k fdbKey) {
	hole := k.hash() & x.mask
	for x.buckets[hole].key != k {
		hole = (hole + 1) & x.mask
	}
	// What follows up to the next empty bucket moves into the hole, unless its own place lies behind the hole.
	for i := (hole + 1) & x.mask; x.buckets[i].slot != 0; i = (i + 1) & x.mask {
		if home := x.buckets[i].key.hash(); (i-home)&x.mask >= (i-hole)&x.mask {
			x.buckets[hole] = x.buckets[i]
			hole = i
		}
	}
	x.buckets[hole] = bucket{}
	x.n--
}
