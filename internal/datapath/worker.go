package datapath

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// A worker's turn:
//
//	wait      poll; spin for a while; sleep (spin.go)
//	mailbox   what others want of this worker's state (mailbox.go)
//	serve     each readable port: read until drained or out of budget; for each frame:
//	          parse, look up or classify, execute (execute.go); then flush the coalescer (coalesce.go)
//	continue  floods that earlier turns began (flood.go), frames that other workers handed over (handover.go)
const (
	budgetFrames = 64
	budgetBytes  = 256 << 10
	maxEvents    = 64

	// poolBuffers is how many frame buffers a worker owns: the hot one, a scratch one, and those of open super-frames.
	poolBuffers = 16

	// insertOneOf is how many misses it takes for one insert once the flow table is full of flows in use: a flood of new ones costs no more
	// than deciding them.
	insertOneOf = 16
)

// Worker is one thread that reads its ports. Its fields are its own; others reach it by the mailbox.
type Worker struct {
	id       int
	dp       *Datapath
	epoll    int
	mail     mailbox
	ports    int // guarded by dp.mu
	stopping bool

	events  [maxEvents]unix.EpollEvent
	now     int64 // nanoseconds, read once a turn
	hot     *packet.Frame
	scratch *packet.Frame
	table   *flow.Table
	last    *flow.Flow // of the frame before
	verdict flow.Verdict
	co      coalescer
	spin    spinner
	awake   awake
	batch   int // most frames that one port gave in the turn before; bulk counts as fullBatch
	dirty   []*slot
	floods  backlog
	copies  int // members that floods were written to, ever: they count against budgets
	sampler sampler
	dead    int           // frames that were dropped on arrival, ever
	resting []rest        // ports that sent nothing else, in the order in which they are read again
	serial  []*slot       // ports that only this worker writes to
	wake    []*Worker     // to whom frames were handed over in this turn
	asleep  atomic.Bool   // to be woken by who hands a frame over
	ended   chan struct{} // guarded by dp.mu; of a worker for slow ports that runs
	stats   WorkerCounters
	memory  []byte
}

// WorkerCounters are a worker's counters.
type WorkerCounters struct {
	ID                                int
	Ports                             int
	Quarantine                        bool // it serves slow ports
	Turns, Sleeps, SpinWins           uint64
	FlowHits, FlowMisses, FlowInvalid uint64
	Coalesced                         uint64 // frames merged into one that was open
	Flows                             int
}

func newWorker(d *Datapath, id int) (*Worker, error) {
	w := &Worker{id: id, dp: d, table: flow.NewTable(d.cfg.MaxFlows), awake: awake{fd: -1}}
	w.spin.max = int64(d.cfg.MaxSpin)
	w.sampler.random = uint32(id) + 1
	w.sampler.next()
	var err error
	if w.floods.ring, err = newRing(); err != nil {
		return nil, err
	}
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if w.mail, err = newMailbox(); err != nil {
		unix.Close(w.epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// Off the Go heap: the collector has nothing to scan, and the pages are there before the first frame.
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	if w.quarantine() {
		flags &^= unix.MAP_POPULATE // it may never run
	}
	w.memory, err = unix.Mmap(-1, 0, poolBuffers*packet.BufSize, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err == nil {
		w.awake, err = newAwake(d.cfg.KeepAwake && !w.quarantine())
	}
	if err == nil {
		err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.mail.fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("set up worker: %w", err)
	}
	frame := func(i int) *packet.Frame {
		return packet.NewFrame(w.memory[i*packet.BufSize : (i+1)*packet.BufSize : (i+1)*packet.BufSize])
	}
	w.hot, w.scratch = frame(0), frame(1)
	w.co.init(w, !d.cfg.NoCoalesce)
	for i := 2; i < poolBuffers; i++ {
		w.co.free = append(w.co.free, frame(i))
	}
	return w, nil
}

func (w *Worker) close() {
	unix.Close(w.epoll)
	unix.Close(w.mail.fd)
	w.awake.close()
	if w.memory != nil {
		unix.Munmap(w.memory)
	}
	w.floods.close()
}

// quarantine tells whether the worker is one for slow ports.
func (w *Worker) quarantine() bool { return w.id >= w.dp.cfg.Workers }

// run is the worker's thread. It returns when it was told to stop.
func (w *Worker) run() error {
	runtime.LockOSThread() // for good: the thread keeps its priority, and ends with the worker
	if w.quarantine() {
		prioritize(quarantineNice)
	} else {
		prioritize(0)
	}
	w.openMail()
	defer w.closeMail()
	for !w.stopping || w.quarantine() && !w.floods.empty() { // its last port lives on elsewhere, and waits for its floods
		n, err := w.await()
		if err != nil {
			return fmt.Errorf("worker %d: wait for frames: %w", w.id, err)
		}
		w.turn(n)
	}
	return nil
}

// turn serves the first n events.
func (w *Worker) turn(n int) {
	w.stats.Turns++
	w.batch = 0
	if len(w.resting) > 0 {
		w.rouse()
	}
	mail := false
	for i := range n {
		e := &w.events[i]
		if id := packet.PortID(e.Fd); id != 0 {
			w.service(id, e.Events)
		} else {
			mail = true
		}
	}
	w.continueFloods()
	w.serveRings()
	w.flushPorts()
	if mail {
		w.serveMail()
	}
}

// epollWait is epoll_pwait(2). Without a timeout it may sleep, and Go's scheduler is told; with timeout 0 it is a raw call.
func (w *Worker) epollWait(timeout int) (int, error) {
	if timeout != 0 {
		n, err := unix.EpollWait(w.epoll, w.events[:], timeout)
		if err == unix.EINTR {
			return 0, nil
		}
		return n, err
	}
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events)), maxEvents, 0, 0, 0)
	if e != 0 {
		if e == unix.EINTR {
			return 0, nil
		}
		return 0, e
	}
	return int(n), nil
}

// watch adds the port to what the worker waits for. A worker's epoll instance may be changed by any thread.
func (w *Worker) watch(s *slot) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.id)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, s.port.FD(), &e); err != nil {
		return fmt.Errorf("wait for frames of port %s: %w", s.port.Name(), err)
	}
	return nil
}

// unwatch is watch's undo. A port that died has been taken out already: no error.
func (w *Worker) unwatch(s *slot) {
	unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, s.port.FD(), nil)
}

// service reads a port until it is drained or its budget ends; what others sent meanwhile waits in its queue. A flood counts as
// its copies.
func (w *Worker) service(id packet.PortID, events uint32) {
	s := w.dp.lookup(id)
	if s == nil {
		return // removed since the wait; its DEL is under way
	}
	if s.floods.Load() > 0 {
		return // its next frames come after what waits of it
	}
	c := &s.counters[w.id]
	n, bytes := 0, 0
	end, dead := w.copies+budgetFrames, w.dead
	var err error
	for w.copies+n < end && bytes < budgetBytes {
		f := w.hot
		f.Reset()
		f.Key.InPort, f.Key.VNI, f.Key.Remote = id, 0, 0 // a tunnel's port sets its own
		if err = s.port.Read(f); err != nil {
			break
		}
		n++
		bytes += f.Len()
		w.receive(s, c, f)
	}
	if s.throttle != nil {
		s.throttle.Served(err != nil) // nearly always that there are no more
	}
	w.co.flushAll()
	w.weigh(s, n, w.dead-dead)
	if bytes >= bulkBytes {
		n = max(n, fullBatch)
	}
	w.batch = max(w.batch, n)
	w.settle(s, c, n, events, err)
}

// receive decides a frame and executes the decision.
func (w *Worker) receive(in *slot, c *Counters, f *packet.Frame) {
	c.RxFrames++
	if r := f.Parse(); r != packet.DropNone {
		c.RxPackets++
		c.RxBytes += uint64(f.Len())
		c.Drops[r]++
		w.dead++
		return
	}
	bytes := f.WireBytes()
	c.RxPackets += uint64(f.Segs)
	c.RxBytes += uint64(bytes)
	if w.dp.cfg.NoCache {
		w.decide(f)
		w.carryOut(in, f)
		return
	}
	fl, stale := w.last, false
	if fl == nil || !fl.Covers(&f.Key) || !fl.Valid() {
		fl, stale = w.table.Lookup(&f.Key)
	}
	if fl != nil && f.Flags&fl.Slow == 0 && f.L3Size <= int(fl.MaxL3) {
		w.last = fl
		w.stats.FlowHits++
		fl.Hit(w.now, f.Segs, bytes)
		w.execute(fl.Decision, &fl.Conn, in, f)
		return
	}
	if stale {
		w.stats.FlowInvalid++
	}
	w.stats.FlowMisses++
	w.decide(f)
	if w.verdict.Cacheable && (stale || w.table.MakeRoom(w.now) || w.stats.FlowMisses%insertOneOf == 0) {
		w.last = w.table.Insert(&f.Key, &w.verdict, w.now)
		w.last.First(f.Segs, bytes)
	}
	w.carryOut(in, f)
}

func (w *Worker) decide(f *packet.Frame) {
	w.verdict.Reset()
	w.dp.classifier.Classify(f, w.now, &w.verdict)
}

// inject handles a frame that came by the mailbox. It looks the port up again: one that was removed since is not counted on.
func (w *Worker) inject(id packet.PortID, frame []byte) {
	s := w.dp.lookup(id)
	if s == nil {
		return
	}
	w.now = w.dp.Now()
	w.hot.Reset()
	w.hot.Load(nil, frame)
	w.hot.Key = packet.Key{InPort: id}
	w.receive(s, &s.counters[w.id], w.hot)
	w.co.flushAll()
	w.flushPorts() // or it would wait for the next turn, when the port may be closed
}

// send writes a frame that came by the mailbox. Its port is looked up again, as in inject.
func (w *Worker) send(id packet.PortID, frame []byte) {
	s := w.dp.lookup(id)
	if s == nil {
		return
	}
	w.hot.Reset()
	w.hot.Load(nil, frame)
	if w.hot.Parse() == packet.DropNone {
		w.write(s, w.hot)
		w.flushPorts()
	}
}
