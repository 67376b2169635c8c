package datapath

import (
	"errors"
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
	reads atomic.Int64
}

func (p *faulty) Read(f *packet.Frame) error {
	p.reads.Add(1)
	if err := p.err.Load(); err != nil {
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
	bad.Inject(nil, packettest.UDP().Bytes())
	if n := <-notices; n.Kind != PortFailed || n.Port != badID || !errors.Is(n.Err, errEvil) || n.Worker != 0 {
		t.Errorf("notice %+v", n)
	}
	if s := d.PortState(badID); !errors.Is(s.Err, errEvil) {
		t.Errorf("state %+v", s)
	}
	time.Sleep(3 * retryMin) // time to spin in, if it did
	if n := bad.reads.Load(); n > 4*maxStumbles {
		t.Errorf("read %d times", n)
	}
	in.Inject(nil, packettest.UDP().Bytes())
	if bad.Next(10*time.Second) == nil {
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
