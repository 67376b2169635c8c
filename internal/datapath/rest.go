package datapath

import (
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
)

// A port that sends nothing but what is dropped on arrival costs its worker a read and a look for each frame, and nobody gains by
// it. After restAfter such frames in a row it is not read for restTime, so that a flood of them takes a few hundredths of the
// worker's time however fast it comes. What the container sends meanwhile waits in the kernel's queue, and is dropped and
// counted there, at the container's cost, when that is full.
const (
	restAfter = budgetFrames
	restTime  = 2 * time.Millisecond
)

// rest is a port that is not read for a while.
type rest struct {
	id    packet.PortID
	until int64 // by the worker's clock
}

// weigh takes note that n frames of the port were read and how many of them were dropped on arrival.
func (w *Worker) weigh(s *slot, n, dead int) {
	switch {
	case n == 0:
	case dead < n:
		if s.dead != 0 {
			s.dead = 0
		}
	case w.dp.cfg.NoRest:
	default:
		if s.dead += n; s.dead >= restAfter {
			s.dead = 0
			w.layDown(s)
		}
	}
}

// layDown lets the port rest. That it dies is told all the same.
func (w *Worker) layDown(s *slot) {
	e := unix.EpollEvent{Fd: int32(s.id)}
	if unix.EpollCtl(w.epoll, unix.EPOLL_CTL_MOD, s.port.FD(), &e) == nil {
		w.resting = append(w.resting, rest{s.id, w.now + int64(restTime)})
	}
}

// rouse ends the rest of the ports whose time has come. Those that were removed or moved to another worker meanwhile are none of
// this one's: the kernel knows nothing of them here.
func (w *Worker) rouse() {
	for len(w.resting) > 0 && w.resting[0].until <= w.now {
		if s := w.dp.lookup(w.resting[0].id); s != nil {
			e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.id)}
			unix.EpollCtl(w.epoll, unix.EPOLL_CTL_MOD, s.port.FD(), &e)
		}
		w.resting = append(w.resting[:0], w.resting[1:]...)
	}
}

// longest returns how many milliseconds the worker may sleep; -1: until something comes.
func (w *Worker) longest() int {
	if len(w.resting) == 0 {
		return -1
	}
	return int(restTime / time.Millisecond)
}
