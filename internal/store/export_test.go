package store

// Seal adds the checksum to the JSON of a record.
func Seal(value string) []byte { return append([]byte(value), sum([]byte(value))...) }

// Waiting returns how many updates wait for the disk.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}
