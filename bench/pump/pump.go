// Package pump is the switch that everybody writes first: a goroutine per TAP that reads a frame, learns, looks up, and
// writes, all through the ordinary calls of songgao/water and with one mutex around a map.
//
// It is the baseline for what is won by everything beyond that, and nothing in it is meant to be clever.
package pump

import (
	"fmt"
	"sync"

	"github.com/songgao/water"
)

// Pump switches frames between TAPs.
type Pump struct {
	taps []*water.Interface

	mu  sync.Mutex
	fdb map[[6]byte]int // MAC address to index in taps; guarded by mu
}

// maxFrame is the longest frame that a TAP without offloads hands out at the usual MTU, with room to spare.
const maxFrame = 2048

// Open creates TAPs of the given names in the namespace of the calling thread. They may be moved elsewhere afterwards.
func Open(names ...string) (*Pump, error) {
	p := &Pump{fdb: map[[6]byte]int{}}
	for _, name := range names {
		config := water.Config{DeviceType: water.TAP}
		config.Name = name
		tap, err := water.New(config)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("create tap %s: %w", name, err)
		}
		p.taps = append(p.taps, tap)
	}
	return p, nil
}

// Run switches until Close. It returns what ended the first TAP's loop.
func (p *Pump) Run() error {
	ended := make(chan error, len(p.taps))
	for i := range p.taps {
		go func() { ended <- p.serve(i) }()
	}
	err := <-ended
	p.Close()
	for range len(p.taps) - 1 {
		<-ended
	}
	return err
}

// Close removes the TAPs and ends Run.
func (p *Pump) Close() {
	for _, tap := range p.taps {
		tap.Close()
	}
}

func (p *Pump) serve(in int) error {
	buffer := make([]byte, maxFrame)
	for {
		n, err := p.taps[in].Read(buffer)
		if err != nil {
			return fmt.Errorf("read from tap %s: %w", p.taps[in].Name(), err)
		}
		if n < 14 {
			continue
		}
		frame := buffer[:n]
		if out, known := p.learn(in, frame); known {
			if out != in {
				p.taps[out].Write(frame) // what a receiver refuses is dropped, as a wire would
			}
			continue
		}
		for out := range p.taps {
			if out != in {
				p.taps[out].Write(frame)
			}
		}
	}
}

// learn notes where the frame came from and finds where it goes. Nobody learns or knows a group address.
func (p *Pump) learn(in int, frame []byte) (out int, known bool) {
	destination, source := [6]byte(frame[:6]), [6]byte(frame[6:12])
	p.mu.Lock()
	defer p.mu.Unlock()
	if source[0]&1 == 0 {
		p.fdb[source] = in
	}
	out, known = p.fdb[destination]
	return out, known
}
