package nat

const chunkSize = 256

// slab keeps records in chunks, C being an array of chunkSize of them, or several side by side. Chunks never move and are kept. Slots
// are numbered from 1; 0 is none. Those given back are in a list, which their records link.
type slab[C any] struct {
	chunks []*C
	used   uint32 // slots taken from chunks so far
	free   uint32 // head of the list
}

// take returns a free slot. link is where a record that was given back has the next one.
func (s *slab[C]) take(link func(slot uint32) *uint32) uint32 {
	if slot := s.free; slot != 0 {
		s.free = *link(slot)
		return slot
	}
	s.used++
	if int(s.used/chunkSize) == len(s.chunks) {
		s.chunks = append(s.chunks, new(C))
	}
	return s.used
}

func (s *slab[C]) give(slot uint32, link func(slot uint32) *uint32) {
	*link(slot), s.free = s.free, slot
}
