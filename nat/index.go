package nat

// index finds records by the hash of what they are about: open addressing with linear probing, at most half full. It is cut into parts
// that grow one by one, so that nobody waits for all of it to be laid out anew: a part of a full table is 8192 buckets, some 50 us.
// Removal shifts back what follows, so that there are no tombstones. What hashes alike is told apart by the caller, see cursor.
type index struct {
	parts [indexParts]part
}

type part struct {
	buckets []bucket
	n       int
}

// bucket refers to a record; ref 0 is none.
type bucket struct {
	tag uint32 // low half of the hash
	ref uint32
}

const (
	indexParts   = 64
	firstBuckets = 16
	indexShift   = 64 - 6 // the part is the hash's top six bits
	indexHalves  = 2      // a part grows when this times its records are more than its buckets
)

func newIndex() *index {
	x := &index{}
	for i := range x.parts {
		x.parts[i].buckets = make([]bucket, firstBuckets)
	}
	return x
}

// cursor walks the records whose hashes look like one.
type cursor struct {
	buckets []bucket
	tag     uint32
	at      uint32
}

func (x *index) seek(hash uint64) cursor {
	p := &x.parts[hash>>indexShift]
	return cursor{p.buckets, uint32(hash), uint32(hash) & uint32(len(p.buckets)-1)}
}

// next returns the next record, or 0.
func (c *cursor) next() uint32 {
	mask := uint32(len(c.buckets) - 1)
	for {
		b := c.buckets[c.at&mask]
		c.at++
		if b.ref == 0 || b.tag == c.tag {
			return b.ref
		}
	}
}

// insert adds a record that is not there yet.
func (x *index) insert(hash uint64, ref uint32) {
	p := &x.parts[hash>>indexShift]
	if indexHalves*(p.n+1) > len(p.buckets) {
		old := p.buckets
		p.buckets = make([]bucket, 2*len(old))
		for _, b := range old {
			if b.ref != 0 {
				p.place(b)
			}
		}
	}
	p.place(bucket{uint32(hash), ref})
	p.n++
}

func (p *part) place(b bucket) {
	mask := uint32(len(p.buckets) - 1)
	i := b.tag & mask
	for p.buckets[i].ref != 0 {
		i = (i + 1) & mask
	}
	p.buckets[i] = b
}

// remove takes out a record that is there.
func (x *index) remove(hash uint64, ref uint32) {
	p := &x.parts[hash>>indexShift]
	mask := uint32(len(p.buckets) - 1)
	hole := uint32(hash) & mask
	for p.buckets[hole].ref != ref {
		hole = (hole + 1) & mask
	}
	// What follows up to the next empty bucket moves into the hole, unless its own place lies behind the hole.
	for i := (hole + 1) & mask; p.buckets[i].ref != 0; i = (i + 1) & mask {
		if (i-p.buckets[i].tag)&mask >= (i-hole)&mask {
			p.buckets[hole] = p.buckets[i]
			hole = i
		}
	}
	p.buckets[hole] = bucket{}
	p.n--
}

// bytes returns the memory of the buckets.
func (x *index) bytes() (n int) {
	for i := range x.parts {
		n += 8 * len(x.parts[i].buckets)
	}
	return n
}
