package mem

import "vswitch/internal/packet"

// queue is a bounded ring of frames. Its slots keep their memory, so that a warm queue allocates nothing.
//
//	slot:  | headroom ... | vnet header | Ethernet frame |
type queue struct {
	slots []slot
	head  int // the oldest
	n     int
}

type slot struct {
	buf []byte
	end int
}

func newQueue(size int) queue { return queue{slots: make([]slot, size)} }

func (q *queue) full() bool { return q.n == len(q.slots) }

// push copies a vnet header (nil: all zero) and a frame behind the others. Not when full.
func (q *queue) push(vnet, frame []byte) {
	s := &q.slots[(q.head+q.n)%len(q.slots)]
	q.n++
	s.end = packet.Headroom + len(frame)
	if len(s.buf) < s.end {
		s.buf = make([]byte, (s.end+1023)&^1023)
	}
	v := s.buf[packet.Headroom-packet.VnetLen : packet.Headroom]
	clear(v)
	copy(v, vnet)
	copy(s.buf[packet.Headroom:], frame)
}

// pop takes the oldest out. Its memory is good until the next push. Not when empty.
func (q *queue) pop() *slot {
	s := &q.slots[q.head]
	q.head = (q.head + 1) % len(q.slots)
	q.n--
	return s
}

// withVnet returns the vnet header and the frame.
func (s *slot) withVnet() []byte { return s.buf[packet.Headroom-packet.VnetLen : s.end] }
