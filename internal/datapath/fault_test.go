package datapath

import (
	"errors"
	"math/bits"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
	"vswitch/internal/port/mem"
)

// faulty is a port that can't be read while an error is set, though its descriptor says it can.
type faulty struct {
	*mem.Port
	err   atomic.Pointer[error]
	delay atomic.Int64 // nanoseconds that a failing read takes
	reads atomic.Int64
}

func (p *faulty) Read(f *packet.Frame) error {
	p.reads.Add(1)
	if err := p.err.Load(); err != nil {
		time.Sleep(time.Duration(p.delay.Load()))
		return *err
	}
	return p.Port.Read(f)
}

// A port that can't be read is given up after a few reads, tried again less and less often, still written to, and read again
// once that is possible. Nobody else notices.
func TestUnreadablePort(t *testing.T) {
	var badID packet.PortID
	notices := make(chan Notice, 100)
	d := newTest(t, Config{Workers: 1, MaxSpin: -1, OnNotice: func(n Notice) { notices <- n }}, outputTo(&badID))
	errEvil := errors.New("evil")
	bad := &faulty{Port: newPort(t, "bad")}
	bad.err.Store(&errEvil)
	badID = add(t, d, bad)
	in := newPort(t, "in")
	add(t, d, in)
	running(t, d)
	start := time.Now()
	bad.Inject(nil, packettest.UDP().Bytes())
	if n := <-notices; n.Kind != PortFailed || n.Port != badID || !errors.Is(n.Err, errEvil) || n.Worker != 0 {
		t.Errorf("notice %+v", n)
	}
	if s := d.PortState(badID); !errors.Is(s.Err, errEvil) {
		t.Errorf("state %+v", s)
	}
	bad.delay.Store(int64(2 * retryMin / maxStumbles)) // its worker is so busy that a trial doesn't come to an end in its time
	time.Sleep(5 * retryMin)                           // time to spin in, if it did
	n, spans := bad.reads.Load(), uint(time.Since(start)/retryMin)
	if most := int64(maxStumbles * (1 + bits.Len(spans+1))); n > most { // trials after 1, 3, 7, 15 times retryMin
		t.Errorf("read %d times in %d times %v, want at most %d", n, spans, retryMin, most)
	}
	bad.delay.Store(0)
	in.Inject(nil, packettest.UDP().Bytes())
	if bad.Next(30*time.Second) == nil {
		t.Error("it is not written to")
	}
	if len(notices) != 0 {
		t.Errorf("told again: %+v", <-notices)
	}
	bad.err.Store(nil)
	if n := <-notices; n.Kind != PortWell || n.Port != badID {
		t.Errorf("notice %+v", n)
	}
	if s := d.PortState(badID); s.Err != nil {
		t.Errorf("state %+v", s)
	}
	waitFor(t, "the frame that waited is read", func() bool { return d.PortCounters()[badID].RxFrames == 1 })
}

// A port that is removed while it is given up is forgotten.
func TestUnreadablePortRemoved(t *testing.T) {
	notices := make(chan Notice, 100)
	d := newTest(t, Config{Workers: 1, OnNotice: func(n Notice) { notices <- n }}, dropAll)
	bad := &faulty{Port: newPort(t, "bad")}
	down := port.ErrDown
	bad.err.Store(&down)
	id := add(t, d, bad)
	running(t, d)
	bad.Inject(nil, packettest.UDP().Bytes())
	if n := <-notices; n.Kind != PortFailed || n.Port != id {
		t.Fatalf("notice %+v", n)
	}
	if _, err := d.Remove(id); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * retryMin)
	if len(notices) != 0 {
		t.Errorf("notice %+v", <-notices)
	}
}
