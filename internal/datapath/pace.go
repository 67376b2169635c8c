package datapath

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
)

// A write to a port runs the receiver's network stack in the worker's thread, with all its firewall rules and traffic control
// programs. A port whose writes take long takes that time from all other ports of the worker. It is found so:
//
//   - One of about sampleEvery writes of a worker is timed by the clock on the wall. When it took longer than slowWrite, the
//     port is suspect.
//   - The next writes to a suspect are timed by the thread's CPU clock, which does not count who pushed us off the CPU meanwhile.
//     As soon as the mean of judgeWrites or more of them is not above slowWrite, the port is cleared; when it still is after
//     slowFor, the port is slow. A moment of slow writes is no verdict: a virtual machine's CPU time includes what its host takes to
//     provide a page that was not touched before, 8 us in the mean and up to 5 ms here, and a super-frame needs sixteen.
//   - A slow port is served by a worker for such ports (quarantine.go), which times each write. When no judgeWrites in a row
//     had a mean above half of slowWrite for a while, the port is fast again.
//
// A frame is granted a nanosecond for each byte, beyond slowWrite. On a machine with seven times as many threads as cores to run
// them, a fast receiver's writes take up to 55 us: one that acknowledges makes its sender's stack send.
const (
	sampleEvery = 32 // on average; not at equal distances, or floods of as many members would always show the same
	slowWrite   = int64(100 * time.Microsecond)
	judgeWrites = 32
	slowFor     = int64(100 * time.Millisecond)
	worstWrite  = 4 * slowWrite // counts as no more: one hiccup is no verdict
	budgetTime  = int64(time.Millisecond)
)

// sampler times a worker's writes.
type sampler struct {
	left   int    // writes until one is timed
	random uint32 // xorshift
	spent  int64  // CPU time of what was timed by it in this turn, for one port
	ts     unix.Timespec
}

// pace is what one worker knows of the writes to one port.
type pace struct {
	sum int64
	n   int
}

// next chooses the distance to the next sample: sampleEvery, more or less a half.
func (m *sampler) next() {
	m.random ^= m.random << 13
	m.random ^= m.random >> 17
	m.random ^= m.random << 5
	m.left = sampleEvery/2 + int(m.random%sampleEvery)
}

// cpuTime returns the thread's CPU time in nanoseconds.
func (m *sampler) cpuTime() int64 {
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&m.ts)), 0)
	return m.ts.Nano()
}

// timedWrite writes and notes how long it took.
func (w *Worker) timedWrite(s *slot, f *packet.Frame) error {
	m := &w.sampler
	m.next()
	if s.flags.Load()&(slotSuspect|slotSlow) == 0 {
		start := time.Now()
		err := s.port.Write(f)
		if int64(time.Since(start))-int64(f.Len()) > slowWrite && !s.serial && !s.pinned.Load() {
			s.suspect.Store(w.now)
			s.flags.Or(slotSuspect)
		}
		return err
	}
	start := m.cpuTime()
	err := s.port.Write(f)
	took := m.cpuTime() - start
	m.spent += took
	w.judge(s, took-int64(f.Len()))
	return err
}

// judge takes note of a write's CPU time and tells when that changes how the port is to be served.
func (w *Worker) judge(s *slot, took int64) {
	p := &s.paces[w.id]
	p.sum += min(took, worstWrite)
	if p.n++; p.n < judgeWrites {
		return
	}
	mean := p.sum / int64(p.n)
	slow := s.flags.Load()&slotSlow != 0
	if !slow && mean > slowWrite && w.now-s.suspect.Load() < slowFor {
		return
	}
	*p = pace{}
	if slow && !w.quarantine() {
		return // it is about to move
	}
	if !slow {
		s.flags.And(^slotSuspect)
		if mean > slowWrite {
			w.dp.tell(Notice{Kind: PortSlow, Port: s.id, Cost: time.Duration(mean)})
		}
		return
	}
	if mean > slowWrite/2 {
		s.lastSlow = w.now
	} else if w.now-s.lastSlow > s.hold {
		s.lastSlow = w.now
		w.dp.tell(Notice{Kind: PortFast, Port: s.id, Cost: time.Duration(mean), move: s.move})
	}
}
