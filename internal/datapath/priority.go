package datapath

import "golang.org/x/sys/unix"

// prioritize makes the calling thread preempt none when it is woken (SCHED_BATCH, sched(7)): a sender that keeps sending is not
// interrupted by the worker that its first frame woke, and the worker then finds a batch. Without the right to do so it works
// all the same.
//
// Its nice value is 0 but for slow ports. -10, so that those whom a worker wakes do not preempt it, brought a tenth more connections a
// second, but four TCP streams then fell from 18 to between 7 and 17 Gbit/s.
func prioritize(nice int32) {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: nice}, 0)
}
