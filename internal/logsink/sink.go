// Package logsink keeps a program going whose log nobody reads.
//
// A pipe to a reader that stalls takes 64 KiB; then whoever writes to it stands still, with all the locks that it holds. So the
// log's lines go through a queue to a goroutine that may wait. What finds no place in the queue is lost, counted and, once the
// reader goes on, told.
package logsink

import (
	"io"
	"sync"
	"time"
)

// maxQueue is how many bytes wait for the reader: some thousand lines.
const maxQueue = 256 << 10

// Sink is a writer of whole lines that never blocks. It is safe for concurrent use. Close ends it.
type Sink struct {
	to   io.Writer
	tell func(to io.Writer, lost uint64)
	wake chan struct{} // has room for one
	done chan struct{}

	mu     sync.Mutex
	queue  [][]byte // guarded by mu
	size   int      // guarded by mu; bytes in queue
	lost   uint64   // guarded by mu; lines, since the start
	told   uint64   // guarded by mu; of them, those that the log tells of
	closed bool     // guarded by mu
}

// New makes a sink that writes to to. When lines were lost and to takes lines again, tell writes there how many.
func New(to io.Writer, tell func(to io.Writer, lost uint64)) *Sink {
	s := &Sink{to: to, tell: tell, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// Write queues a line. It returns no error: what is lost is counted.
func (s *Sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.size+len(line) > maxQueue {
		s.lost++
		return len(line), nil
	}
	s.queue = append(s.queue, append([]byte(nil), line...))
	s.size += len(line)
	s.poke()
	return len(line), nil
}

func (s *Sink) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Lost returns how many lines were lost.
func (s *Sink) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Close waits until all lines are written, but no longer than that: a reader that stalls does not keep the program from ending.
// Later lines are lost.
func (s *Sink) Close(within time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case <-s.done:
	case <-timeout.C:
	}
}

// run writes what is queued until the sink is closed.
func (s *Sink) run() {
	defer close(s.done)
	for range s.wake {
		for {
			line, ok, closed := s.next()
			if !ok {
				if closed {
					return
				}
				break
			}
			s.put(line)
		}
	}
}

// next takes the oldest line off the queue.
func (s *Sink) next() (line []byte, ok, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		return nil, false, s.closed
	}
	line, s.queue = s.queue[0], s.queue[1:]
	s.size -= len(line)
	return line, true, false
}

// put writes a line, and behind it how many others are missing.
func (s *Sink) put(line []byte) {
	_, err := s.to.Write(line)
	s.mu.Lock()
	if err != nil { // nobody reads any more
		s.lost++
	}
	missing := s.lost - s.told
	if err == nil {
		s.told = s.lost
	}
	s.mu.Unlock()
	if err == nil && missing > 0 {
		s.tell(s.to, missing)
	}
}
