package load

import "encoding/binary"

// Every datagram starts with a header of 16 bytes, which fits the 18 bytes of payload of the smallest Ethernet frame:
//
//	 0       4       8               16
//	+-------+-------+---------------+
//	| magic | flow  | sequence      |   big endian; flow tells runs apart that use the same port
//	+-------+-------+---------------+
const (
	headerSize = 16
	magic      = 0x76_73_62_6e // "vsbn"
)

// warming marks the number of a datagram that only makes what is between the ends know its flow: receivers leave it aside.
const warming = 1 << 63

func putHeader(b []byte, flow uint32, seq uint64) {
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint32(b[4:], flow)
	binary.BigEndian.PutUint64(b[8:], seq)
}

// header returns the sequence number of a datagram of the flow, or false for a stranger.
func header(b []byte, flow uint32) (uint64, bool) {
	if len(b) < headerSize || binary.BigEndian.Uint32(b) != magic || binary.BigEndian.Uint32(b[4:]) != flow {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// window is how many sequence numbers back a late datagram can be told from a duplicate. At a million datagrams a second
// it is a quarter of a second, longer than any queue here.
const window = 1 << 18

// Sequence counts what happened to the datagrams of one flow. The zero value is ready for sequence numbers from 0.
type Sequence struct {
	Unique     uint64 // different datagrams that arrived
	Duplicates uint64 // datagrams that had arrived before
	Reordered  uint64 // datagrams that arrived after one with a higher number
	Ancient    uint64 // datagrams too far behind to say whether they are late or duplicates; in no other count
	next       uint64 // highest number seen, plus one
	seen       [window / 64]uint64
}

// Add counts one arrival.
func (s *Sequence) Add(seq uint64) {
	if seq >= s.next {
		s.forget(s.next, seq)
		s.next = seq + 1
		s.mark(seq)
		s.Unique++
		return
	}
	if s.next-seq > window {
		s.Ancient++
		return
	}
	if s.mark(seq) {
		s.Duplicates++
		return
	}
	s.Unique++
	s.Reordered++
}

// mark sets the bit of seq and reports whether it was set before.
func (s *Sequence) mark(seq uint64) bool {
	word, bit := &s.seen[seq%window/64], uint64(1)<<(seq%64)
	was := *word&bit != 0
	*word |= bit
	return was
}

// forget clears the bits from first to last, which belonged to numbers a window ago.
func (s *Sequence) forget(first, last uint64) {
	if last-first >= window {
		s.seen = [window / 64]uint64{}
		return
	}
	for seq := first; seq <= last; seq++ {
		s.seen[seq%window/64] &^= uint64(1) << (seq % 64)
	}
}
