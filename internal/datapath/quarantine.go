package datapath

import (
	"context"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/packet"
)

// Slow ports are served by workers of their own, beside those of Config.Workers: reading them, and writing to them what the
// others hand over (handover.go). Such a worker runs while it has ports, with a low priority: what slow receivers cost comes
// out of their own share of the machine.
const (
	maxQuarantine  = 4
	quarantineNice = 10
	defaultHold    = 30 * time.Second // how long a port is fast before it moves back; twice as long with each move
	holdDoublings  = 6
	emptyWait      = 100 * time.Millisecond // for the queues to run empty at a move back; then it is tried later
	orderWait      = time.Second            // for what a port's old worker handed over to be written; then the order is given up
)

// Pin keeps a port with the usual workers, however long writes to it take: one by which everybody's traffic leaves is nobody's burden on others.
// An interface that can't segment takes 200 us for a super-frame.
func (d *Datapath) Pin(id packet.PortID) {
	if s := d.lookup(id); s != nil {
		s.pinned.Store(true)
	}
}

// NoticeKind is what a Notice says.
type NoticeKind uint8

// The kinds of notices.
const (
	PortSlow   NoticeKind = iota // writes to it take long: it moved to a worker for slow ports
	PortFast                     // they do not any more: it moved back
	PortFailed                   // reading it fails for no known reason: it is not read for now
	PortWell                     // it can be read again
	portLeft                     // a slow port was removed
)

// Notice tells what happened to a port.
type Notice struct {
	Kind   NoticeKind
	Port   packet.PortID
	Worker int           // that serves the port now
	Cost   time.Duration // PortSlow and PortFast: mean CPU time of a write
	Err    error         // PortFailed: what reading it says
	move   int           // PortFast: since which move
}

// maxNotices is how many may wait; one that is lost is given again when it is still true.
const maxNotices = 1024

// tell hands a worker's notice to tend, and never blocks; false when it was lost.
func (d *Datapath) tell(n Notice) bool {
	select {
	case d.notices <- n:
		return true
	default:
		return false
	}
}

func (d *Datapath) notify(n Notice) {
	if d.cfg.OnNotice != nil {
		d.cfg.OnNotice(n)
	}
}

// tend moves slow ports and retries failed ones until ctx ends, and then stops all workers.
func (d *Datapath) tend(ctx context.Context, g *errgroup.Group) error {
	timer := time.NewTimer(retryMax)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, w := range d.workers {
				w.post(func() { w.stopping = true })
			}
			return nil
		case n := <-d.notices:
			d.heed(n, g)
		case <-timer.C:
		}
		timer.Reset(d.retry())
	}
}

// heed does what a worker's notice asks for, and passes on what came of it.
func (d *Datapath) heed(n Notice, g *errgroup.Group) {
	switch {
	case n.Kind == PortFailed:
		d.failed(n)
	case n.Kind == portLeft:
		d.stopIdle()
	case n.Kind == PortSlow && d.moveAway(n.Port, g), n.Kind == PortFast && d.moveBack(n.Port, n.move):
		n.Worker = d.WorkerOf(n.Port)
		d.notify(n)
	}
}

// moveAway gives a slow port to a worker for such, and tells whether it did. Without memory for the queues the port stays.
func (d *Datapath) moveAway(id packet.PortID, g *errgroup.Group) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.lookup(id)
	if s == nil || s.serial || s.handover.Load() != nil {
		return false
	}
	to := fewest(d.workers[d.cfg.Workers:])
	h, err := d.newHandover(to)
	if err != nil {
		return false
	}
	if to.ended == nil {
		d.startWorker(to, g)
	}
	s.moves++
	to.call(func() {
		s.paces[to.id] = pace{} // of an earlier stay
		s.lastSlow, s.move = d.Now(), s.moves
		s.hold = int64(d.cfg.SlowHold) << min(s.moves-1, holdDoublings)
	})
	s.flags.Or(slotSlow)
	h.begin(s)
	d.move(s, to)
	return true
}

// moveBack gives a port that is fast since the given move to one of the usual workers, and tells whether it did: not while frames
// to it wait.
func (d *Datapath) moveBack(id packet.PortID, move int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.lookup(id)
	if s == nil || s.flags.Load()&slotSlow == 0 || s.moves != move {
		return false
	}
	h := s.handover.Load()
	h.draining.Store(true)
	d.Quiesce() // who has not seen it yet may still push
	for deadline := time.Now().Add(emptyWait); !h.empty(); {
		if time.Now().After(deadline) {
			h.draining.Store(false)
			return false
		}
		time.Sleep(emptyWait / 100)
	}
	// Who found its ring empty never pushes again, and all are: each worker writes by itself now.
	h.end(s)
	s.flags.And(^(slotHandover | slotSuspect | slotSlow))
	s.handover.Store(nil)
	d.move(s, fewest(d.workers[:d.cfg.Workers]))
	d.Quiesce()
	h.close()
	d.stopIdleLocked()
	return true
}

// move lets another worker read the port, once what the old one read of it is written. Callers hold mu.
func (d *Datapath) move(s *slot, to *Worker) {
	from := s.worker.Swap(to)
	from.ports--
	to.ports++
	if !s.watched {
		return
	}
	from.unwatch(s)
	from.call(func() {}) // until it has passed a turn it may be reading the port
	d.awaitWritten(s, from)
	if err := to.watch(s); err != nil {
		d.tell(Notice{Kind: PortFailed, Port: s.id, Err: err}) // tried again, like other faults
	}
}

// awaitWritten waits until all is written of a port that a worker has read so far, or it would be overtaken by what another worker
// reads next: floods that wait at the worker, then all that it has handed over. Callers hold mu.
func (d *Datapath) awaitWritten(s *slot, w *Worker) {
	deadline := time.Now().Add(orderWait)
	wait := func() bool {
		time.Sleep(emptyWait / 100)
		return time.Now().Before(deadline)
	}
	for s.floods.Load() > 0 && wait() {
	}
	ends := make(map[*ring]uint32)
	for i := range d.slots[:d.used] {
		if o := d.slots[i].Load(); o != nil {
			if h := o.handover.Load(); h != nil && h.owner != w {
				ends[h.rings[w.id]] = h.rings[w.id].tail.Load()
			}
		}
	}
	written := func(r *ring, end uint32) bool { return int32(r.head.Load()-end) >= 0 }
	for maps.DeleteFunc(ends, written); len(ends) > 0 && wait(); maps.DeleteFunc(ends, written) {
	}
}

// startWorker lets a worker for slow ports run. Callers hold mu.
func (d *Datapath) startWorker(w *Worker, g *errgroup.Group) {
	w.stopping = false
	ended := make(chan struct{})
	w.ended = ended
	d.running++
	d.tellWorkers()
	g.Go(func() error {
		defer close(ended)
		return w.run()
	})
}

// stopIdle ends the workers for slow ports that have none.
func (d *Datapath) stopIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopIdleLocked()
}

func (d *Datapath) stopIdleLocked() {
	for _, w := range d.workers[d.cfg.Workers:] {
		if w.ended == nil || w.ports > 0 {
			continue
		}
		w.post(func() { w.stopping = true })
		<-w.ended
		w.ended = nil
		d.running--
		d.tellWorkers()
	}
}

// tellWorkers says how many threads run.
func (d *Datapath) tellWorkers() {
	if d.cfg.OnWorkers != nil {
		d.cfg.OnWorkers(d.running)
	}
}

// fewest returns the worker that has fewest ports. Callers hold Datapath.mu.
func fewest(workers []*Worker) *Worker {
	least := workers[0]
	for _, w := range workers {
		if w.ports < least.ports {
			least = w
		}
	}
	return least
}
