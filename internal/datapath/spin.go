package datapath

import "golang.org/x/sys/unix"

// spinner decides how long a worker polls before it sleeps, as KVM's halt polling does (virt/kvm/kvm_main.c,
// kvm_vcpu_halt): waking a sleeping thread costs tens of microseconds, which a peer that answers at once would wait for.
//
//	frames again within max    the window starts at startSpin, then doubles: a poll would have caught them
//	later                      it halves; after three in a row it is zero
//	a full batch in the turn   no poll: sleeping lets frames gather, and many at once are cheaper
//	bulk in the turn           the same: who sends super-frames does not wait for each
//	frames faster than minGap  no poll either, for the same reason, although each turn found but one or two
type spinner struct {
	max    int64 // nanoseconds; <= 0 never polls
	window int64
	misses int
	fast   int // polls in a row that ended sooner than minGap
}

const (
	startSpin  = 10e3 // nanoseconds
	minGap     = 4e3
	fullBatch  = 3 // frames of one port in a turn, from which on it counts as full
	bulkBytes  = 8 << 10
	fastStreak = 8
)

// wait returns how many events there are, having slept if need be, and reads the clock.
func (w *Worker) wait() (int, error) {
	n, err := w.epollWait(0)
	if n != 0 || err != nil {
		w.now = w.dp.Now()
		w.awake.rest(w.now)
		return n, err
	}
	s := &w.spin
	start := w.dp.Now()
	if s.window > 0 && w.batch < fullBatch {
		if n, err := w.poll(start); n != 0 || err != nil {
			return n, err
		}
	}
	w.stats.Sleeps++
	n, err = w.sleep()
	w.now = w.dp.Now()
	if s.max > 0 && s.woke(w.now-start) {
		w.awake.lost()
	}
	return n, err
}

// sleep waits for events. Cores are not kept awake for longer than a moment of it.
func (w *Worker) sleep() (int, error) {
	rest := w.longest()
	if w.awake.held {
		if rest < 0 {
			n, err := w.epollWait(wakefulTime / 1e6)
			if n != 0 || err != nil {
				return n, err
			}
		}
		w.awake.set(false)
	}
	return w.epollWait(rest)
}

// poll looks for events until the window has passed since start.
func (w *Worker) poll(start int64) (int, error) {
	s := &w.spin
	for {
		n, err := w.epollWait(0)
		w.now = w.dp.Now()
		if n != 0 || err != nil {
			w.stats.SpinWins++
			w.awake.won(w.now)
			s.won(w.now - start)
			return n, err
		}
		if w.now-start > s.window {
			return 0, nil
		}
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// won adjusts the window after a poll that took so long found something.
func (s *spinner) won(took int64) {
	s.misses = 0
	if took >= minGap {
		s.fast = 0
		s.window = min(2*s.window, s.max)
		return
	}
	if s.fast++; s.fast >= fastStreak {
		s.fast, s.window = 0, 0
	}
}

// woke adjusts the window after a sleep that ended so long after the last turn, and tells whether that was too long for
// polling to pay. A quarter more than max is granted: waking up takes its time.
func (s *spinner) woke(gap int64) (long bool) {
	if gap <= s.max+s.max/4 {
		s.misses = 0
		s.window = min(max(2*s.window, startSpin), s.max)
		return false
	}
	if s.misses++; s.misses >= 3 {
		s.window = 0
	} else {
		s.window /= 2
	}
	return true
}
