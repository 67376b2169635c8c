package mem

import (
	"fmt"
	"sync"
	"time"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// Port is the switch's end of a link that lives in memory. The test is the device at the other end:
//
//	test -- Inject --> | in  | -- Read --> switch
//	test <-- Next ---- | out | <- Write -- switch
//
// It holds the switch to the contract: what the device was not said to take (SetOffload) is refused, and memory that was
// lent is spoilt as soon as the switch may no longer look at it. All methods are safe for concurrent use; Read is for one
// worker at a time, as with any port.
type Port struct {
	name    string
	lending bool
	written chan struct{} // holds one token while out may have frames

	mu      sync.Mutex
	event   event // readable while in has frames, or when gone; guarded by mu, as all below
	in, out queue
	lent    slot
	offload port.Offload
	drops   uint64 // frames that in could not hold
	down    bool
	gone    bool
}

var (
	_ port.Port      = (*Port)(nil)
	_ port.Offloader = (*Port)(nil)
	_ port.Counters  = (*Port)(nil)
)

// Option changes how a port is made.
type Option func(*Port)

// QueueLen is how many frames a port holds in each direction, unless Queue says otherwise.
const QueueLen = 1024

// Queue sets how many frames the port holds in each direction.
func Queue(n int) Option { return func(p *Port) { p.in, p.out = newQueue(n), newQueue(n) } }

// Lending makes Read lend the port's own memory (packet.Frame.Borrowed).
func Lending() Option { return func(p *Port) { p.lending = true } }

// New makes a port that is up and takes all offloads.
func New(name string, options ...Option) (*Port, error) {
	e, err := newEvent()
	if err != nil {
		return nil, fmt.Errorf("make eventfd of port %s: %w", name, err)
	}
	p := &Port{name: name, event: e, offload: port.OffloadAll, written: make(chan struct{}, 1)}
	Queue(QueueLen)(p)
	for _, o := range options {
		o(p)
	}
	return p, nil
}

// Name implements port.Port.
func (p *Port) Name() string { return p.name }

// FD implements port.Port; -1 when closed.
func (p *Port) FD() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.event.fd
}

// Read implements port.Port.
func (p *Port) Read(f *packet.Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return port.ErrGone
	}
	if p.in.n == 0 {
		return port.ErrAgain
	}
	s := p.in.pop()
	p.event.set(p.in.n > 0)
	if !p.lending {
		f.SetRead(copy(f.Space(), s.withVnet()))
		return nil
	}
	for i := range p.lent.buf {
		p.lent.buf[i] = 0xdb
	}
	*s, p.lent = p.lent, *s
	f.Lend(p.lent.buf, packet.Headroom, p.lent.end)
	return nil
}

// Write implements port.Port.
func (p *Port) Write(f *packet.Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return port.ErrGone
	case p.down:
		return port.ErrDown
	case work(f)&^p.offload != 0:
		return port.ErrRefused
	case p.out.full():
		return port.ErrFull
	}
	p.out.push(f.Vnet(), f.Bytes())
	p.wake()
	return nil
}

// work returns what is left to do on a frame, or all bits when no device could do it.
func work(f *packet.Frame) (o port.Offload) {
	v := f.Vnet()
	if v.NeedsCsum() {
		o = port.OffloadCsum
	}
	switch v.GSOType() &^ packet.GSOECN {
	case packet.GSONone:
		return o
	case packet.GSOTCPv4:
		return o | port.OffloadTSO4
	case packet.GSOTCPv6:
		return o | port.OffloadTSO6
	case packet.GSOUDPL4:
		return o | port.OffloadUSO
	}
	return ^port.Offload(0)
}

func (p *Port) wake() {
	select {
	case p.written <- struct{}{}:
	default:
	}
}

// Offload implements port.Offloader.
func (p *Port) Offload() port.Offload {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offload
}

// KernelDrops implements port.Counters: rx are the frames that Inject could not queue.
func (p *Port) KernelDrops() (rx, counted uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drops, 0, nil
}

// Close implements port.Port.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	return p.event.close()
}

// Inject queues a copy of a vnet header (nil: all zero) and a frame for the switch to read, as if the device had sent it.
func (p *Port) Inject(vnet, frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return port.ErrGone
	case p.down:
		return port.ErrDown
	case p.in.full():
		p.drops++
		return port.ErrFull
	}
	p.in.push(vnet, frame)
	p.event.set(true)
	return nil
}

// Next takes out the oldest frame that the switch wrote, waiting for one up to the timeout; nil when there is none. The
// frame has memory of its own, without room behind it, and is not parsed.
func (p *Port) Next(timeout time.Duration) *packet.Frame {
	if f := p.take(); f != nil || timeout <= 0 {
		return f
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-p.written:
			if f := p.take(); f != nil {
				return f
			}
		case <-timer.C:
			return p.take()
		}
	}
}

// Sent takes out all frames that the switch wrote so far, oldest first.
func (p *Port) Sent() (frames []*packet.Frame) {
	for f := p.take(); f != nil; f = p.take() {
		frames = append(frames, f)
	}
	return frames
}

// Discard takes out all frames that the switch wrote so far, without a copy, and returns their number.
func (p *Port) Discard() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.out.n
	p.out.head, p.out.n = 0, 0
	return n
}

func (p *Port) take() *packet.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.n == 0 {
		return nil
	}
	s := p.out.pop()
	f := packet.NewFrame(make([]byte, s.end))
	f.SetRead(copy(f.Space(), s.withVnet()))
	if p.out.n > 0 {
		p.wake() // for another one who waits
	}
	return f
}

// SetOffload says what work the device takes over; it refuses frames that leave it more.
func (p *Port) SetOffload(o port.Offload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offload = o
}

// SetDown takes the device down or up. What it sent before can still be read.
func (p *Port) SetDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Kill lets the device die: Read and Write say ErrGone from now on, and the descriptor is readable so that the worker sees
// it. The descriptor lives until Close.
func (p *Port) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.event.set(true)
}
