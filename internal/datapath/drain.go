package datapath

import (
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

// drainTime bounds how long a port's queue is emptied when the port is removed: its container may go on sending.
const drainTime = 50 * time.Millisecond

// drain reads and counts what waits in a port's queue and goes nowhere any more. Nobody else reads the port.
func (c *Counters) drain(p port.Port) {
	f := packet.NewFrame(make([]byte, packet.BufSize))
	for deadline := time.Now().Add(drainTime); time.Now().Before(deadline); {
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
			return
		}
	}
}
