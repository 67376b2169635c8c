package datapath

import "golang.org/x/sys/unix"

// workerNice is the nice value of a worker's thread.
const workerNice = -10

// prioritize makes the calling thread one that is not preempted by those it wakes, and preempts none when it is woken.
//
// A worker wakes a receiver with almost each frame it writes. At the usual priority these take the processor from it at once,
// again and again in the middle of a batch. A negative nice value keeps it running; SCHED_BATCH keeps it from doing the same
// to senders when it is woken, which would make batches of one frame (sched(7)). Without the right to do so, e.g. in a
// container, it works all the same.
func prioritize() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: workerNice,
	}, 0)
}
