package datapath

import (
	"runtime"
	"time"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// unread counts a frame that could not be read and is lost all the same.
func (c *Counters) unread(err error) {
	c.RxFrames++
	c.RxPackets++
	switch err {
	case port.ErrOversize:
		c.Drops[packet.DropOversize]++
	default:
		c.Drops[packet.DropBadVnet]++
	}
}

// drainTime bounds how long a port's queue is emptied when the port is removed: its container may go on sending. It is CPU time of the
// thread: on a busy machine as much is counted as on an idle one.
const drainTime = 50 * time.Millisecond

// drain reads and counts what waits in a port's queue and goes nowhere any more. Nobody else reads the port.
func (c *Counters) drain(p port.Port) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f, clock := packet.NewFrame(make([]byte, packet.BufSize)), new(sampler)
	for start := clock.cpuTime(); clock.cpuTime()-start < int64(drainTime); {
		for range budgetFrames {
			if !c.drainFrame(p, f) {
				return
			}
		}
	}
}

// drainFrame reads and counts one frame, and returns whether there may be more.
func (c *Counters) drainFrame(p port.Port, f *packet.Frame) bool {
	f.Reset()
	switch err := p.Read(f); err {
	case nil:
		r := f.Parse()
		if r == packet.DropNone {
			r = packet.DropPortDown
		} else {
			f.Segs = 1
		}
		c.RxFrames++
		c.RxPackets += uint64(f.Segs)
		c.RxBytes += uint64(f.WireBytes())
		c.Drops[r] += uint64(f.Segs)
	case port.ErrRefused, port.ErrOversize:
		c.unread(err)
	case port.ErrDown: // said once; what came before is still there
	default:
		return false
	}
	return true
}
