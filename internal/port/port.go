package port

import (
	"errors"

	"vswitch/internal/packet"
)

// Port carries frames between the switch and one device. One worker reads it; any worker may write to it.
type Port interface {
	// Name returns the port's name, for people.
	Name() string
	// FD returns a file descriptor that a level-triggered epoll finds readable when Read has something to give, and on which
	// EPOLLERR or EPOLLHUP means that the device died.
	FD() int
	// Read puts one frame with its vnet header into f, without blocking. It may instead lend memory of its own until the
	// next Read (Frame.Lend). Errors: ErrAgain when there is none now, ErrGone when the device died; ErrRefused and
	// ErrOversize when a frame was there and is lost; any other means none. It does not call Parse.
	Read(f *packet.Frame) error
	// Write copies or sends the frame before it returns, without blocking, and leaves f alone. Safe for concurrent use, but
	// for a Serial. Errors: ErrFull, ErrDown, ErrGone, ErrRefused; all mean that the frame is lost.
	Write(f *packet.Frame) error
	// Close releases the file descriptor; the device stays. It is idempotent, and is called only when no worker can be in
	// Read or Write any more.
	Close() error
}

// The errors of Read and Write. They are compared by identity and never wrapped: the frame path makes no error values.
var (
	ErrAgain   = errors.New("no frame now")
	ErrGone    = errors.New("device is gone")
	ErrDown    = errors.New("device is down")
	ErrFull    = errors.New("device can take no more now")
	ErrRefused = errors.New("device refused the frame")

	// ErrOversize is Read's only: the frame was longer than packet.MaxFrame.
	ErrOversize = errors.New("frame is too long")
)

// Offload names work on a frame that a port leaves to its device.
type Offload uint8

const (
	OffloadCsum Offload = 1 << iota // NEEDS_CSUM frames
	OffloadTSO4                     // TCP super-frames over IPv4
	OffloadTSO6                     // TCP super-frames over IPv6
	OffloadUSO                      // UDP super-frames, GSOUDPL4

	OffloadAll = OffloadCsum | OffloadTSO4 | OffloadTSO6 | OffloadUSO
)

// Offloader is implemented by ports that take frames with work left to do. A port without it gets finished frames only.
type Offloader interface {
	Offload() Offload
}

// Flusher is implemented by ports that batch their writes. Flush is called at the end of a worker's turn by each worker that
// wrote to the port in it.
type Flusher interface {
	Flush() error
}

// Serial is implemented by ports that can't bear several workers at once: rings in shared memory, streams, stacks in userspace.
// Write is called by the one worker that also reads; others hand their frames over to it, through bounded queues.
type Serial interface {
	Serial()
}

// Throttle is implemented by ports that let less in while they are not read fast enough. Served is called by the worker that reads, after it
// has read all that was there (drained) or as much as it does at once.
type Throttle interface {
	Served(drained bool)
}

// Counters is implemented by ports that know of losses beside what Write returns.
type Counters interface {
	// KernelDrops returns rx, how many frames were dropped before we could read them, and counted, how many of the writes that
	// failed are in the device's own counter too: who reads that must not count them twice.
	KernelDrops() (rx, counted uint64, err error)
}
