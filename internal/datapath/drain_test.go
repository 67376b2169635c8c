package datapath

import (
	"testing"
	"time"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// interrupted is a port whose reader is pushed off the CPU in the middle of each read.
type interrupted struct{ *mem.Port }

func (i interrupted) Read(f *packet.Frame) error {
	time.Sleep(time.Millisecond)
	return i.Port.Read(f)
}

// What waits in the queue of a port that is removed is counted to the frame, also on a machine that is busy with something else.
func TestDrainOnBusyMachine(t *testing.T) {
	d := newTest(t, Config{}, dropAll)
	running(t, d)
	p := newPort(t, "p")
	id, err := d.Add(interrupted{p}, 1500) // not started: nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	const waiting = 2 * int(drainTime/time.Millisecond)
	for range waiting {
		p.Inject(nil, packettest.UDP().Bytes())
	}
	c, err := d.Remove(id)
	if err != nil || c.Drops[packet.DropPortDown] != uint64(waiting) || c.RxPackets != uint64(waiting) {
		t.Errorf("%d frames waited; %d are counted, %d of them as dropped; %v", waiting, c.RxPackets, c.Drops[packet.DropPortDown], err)
	}
}

// spate is a port whose queue never gets empty.
type spate struct{ *mem.Port }

func (s spate) Read(f *packet.Frame) error {
	s.Inject(nil, packettest.UDP().Bytes())
	return s.Port.Read(f)
}

// A container that sends on and on does not keep its port from being removed.
func TestDrainEnds(t *testing.T) {
	d := newTest(t, Config{}, dropAll)
	running(t, d)
	id, err := d.Add(spate{newPort(t, "p")}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Remove(id)
	if err != nil || c.RxPackets == 0 {
		t.Errorf("%d frames are counted, %v", c.RxPackets, err)
	}
}
