package datapath

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
)

// A ring holds at most so many frames, and their bytes with headroom.
const (
	ringFrames = 512
	ringBytes  = 1 << 20
	ringAlign  = 64
)

// ring is a bounded queue of cloned frames from one worker to another, or to itself. One pushes, one takes; neither waits
// for the other. The bytes lie off the Go heap, each frame's in one piece:
//
//	memory:  | frame 7 | frame 8 |   (skipped)   |   frames in order of push, at ever growing positions modulo ringBytes
//	          ^freed              ^pos
type ring struct {
	memory  []byte
	entries [ringFrames]entry
	pos     uint64 // of the next frame's bytes; the pusher's own
	tail    atomic.Uint32
	_       [64]byte // keeps the two off each other's cache lines
	head    atomic.Uint32
	freed   atomic.Uint64 // position up to which bytes may be used again
}

type entry struct {
	frame packet.Frame
	end   uint64 // position behind its bytes
}

// newRing makes an empty ring. Its memory costs what was once in use.
func newRing() (*ring, error) {
	m, err := unix.Mmap(-1, 0, ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map a ring of %d bytes: %w", ringBytes, err)
	}
	return &ring{memory: m}, nil
}

// close gives the memory back. Nobody uses the ring or its frames any more.
func (r *ring) close() {
	if r != nil && r.memory != nil {
		unix.Munmap(r.memory)
		r.memory = nil
	}
}

// push clones the frame to the end of the queue; false when there is no room for it.
func (r *ring) push(f *packet.Frame) bool {
	tail := r.tail.Load()
	if tail-r.head.Load() == ringFrames {
		return false
	}
	need := uint64(packet.Headroom+f.Len()+ringAlign-1) &^ (ringAlign - 1)
	pos := r.pos
	if left := ringBytes - pos%ringBytes; left < need {
		pos += left
	}
	if pos+need-r.freed.Load() > ringBytes {
		return false
	}
	at := pos % ringBytes
	e := &r.entries[tail%ringFrames]
	e.frame.SetBuffer(r.memory[at : at+need : at+need])
	f.CopyInto(&e.frame)
	e.end = pos + need
	r.pos = e.end
	r.tail.Store(tail + 1)
	return true
}

// empty tells whether all that was pushed has been taken and dealt with.
func (r *ring) empty() bool { return r.head.Load() == r.tail.Load() }

// front returns the oldest frame, which stays in the ring; nil when there is none.
func (r *ring) front() *packet.Frame {
	head := r.head.Load()
	if head == r.tail.Load() {
		return nil
	}
	return &r.entries[head%ringFrames].frame
}

// pop removes the frame that front returned: its memory may be used again.
func (r *ring) pop() {
	head := r.head.Load()
	r.freed.Store(r.entries[head%ringFrames].end)
	r.head.Store(head + 1)
}
