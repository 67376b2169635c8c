package datapath

import (
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// A port whose descriptor is always ready but gives nothing would make its worker spin. After maxStumbles such reads in a row
// it is not waited for any more; frames are still written to it. It is tried again after retryMin, then after twice as long
// each time, up to retryMax.
const (
	maxStumbles = 1024
	retryMin    = 100 * time.Millisecond
	retryMax    = 30 * time.Second
)

// settle ends a service that read n frames and then got err.
func (w *Worker) settle(s *slot, c *Counters, n int, events uint32, err error) {
	if n > 0 {
		s.stumbles = 0
	}
	switch err {
	case nil: // the budget ended
	case port.ErrAgain:
		if n == 0 && events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			w.stumble(s, err)
		}
	case port.ErrGone:
		w.unwatch(s) // or it would wake us for ever
		if w.dp.cfg.OnGone != nil {
			w.dp.cfg.OnGone(s.id)
		}
	case port.ErrRefused, port.ErrOversize:
		c.unread(err)
		w.stumble(s, err)
	default:
		w.stumble(s, err)
	}
}

func (w *Worker) stumble(s *slot, err error) {
	if s.stumbles++; s.stumbles < maxStumbles {
		return
	}
	s.stumbles = 0
	if w.dp.tell(Notice{Kind: PortFailed, Port: s.id, Err: err}) {
		w.unwatch(s)
	}
}

// failure is a port that is not waited for since it failed, or is on trial.
type failure struct {
	wait time.Duration // until the next trial
	at   time.Time     // of the next trial, or of the end of this one
	on   bool          // on trial
}

// failed takes note that a worker gave a port up, and tells it when that is news.
func (d *Datapath) failed(n Notice) {
	d.mu.Lock()
	s := d.lookup(n.Port)
	if s != nil {
		s.worker.Load().unwatch(s) // the port may have moved to another worker meanwhile
		s.watched, s.fault = false, n.Err
	}
	d.mu.Unlock()
	if s == nil {
		return
	}
	f := d.failures[n.Port]
	if f == nil {
		f = &failure{wait: retryMin}
		d.failures[n.Port] = f
		n.Worker = d.WorkerOf(n.Port)
		d.notify(n)
	} else {
		f.wait = min(2*f.wait, retryMax)
	}
	f.on = false
	f.at = time.Now().Add(f.wait)
}

// retry waits again for ports whose time has come, and calls those well that stood their trial. It returns how long the next
// has to wait.
func (d *Datapath) retry() time.Duration {
	now, next := time.Now(), retryMax
	for id, f := range d.failures {
		switch {
		case f.at.After(now):
		case d.lookup(id) == nil:
			delete(d.failures, id)
			continue
		case f.on && d.onTrial(id):
			f.at = now.Add(retryMin)
		case f.on:
			delete(d.failures, id)
			d.well(id)
			continue
		default:
			f.on, f.at = true, now.Add(retryMin)
			if err := d.Start(id); err != nil {
				f.on, f.wait = false, min(2*f.wait, retryMax)
				f.at = now.Add(f.wait)
			}
		}
		next = min(next, f.at.Sub(now))
	}
	return max(next, time.Millisecond)
}

// onTrial tells whether a port's worker, which may be late, is not done with its trial, or whether what came of it waits to be heeded.
func (d *Datapath) onTrial(id packet.PortID) (is bool) {
	s := d.lookup(id)
	if s == nil {
		return false
	}
	s.worker.Load().call(func() { is = s.stumbles > 0 }) // at the end of a turn in which the port was read, if there is anything to read
	return is || len(d.notices) > 0
}

// well takes note that a port stood its trial.
func (d *Datapath) well(id packet.PortID) {
	d.mu.Lock()
	s := d.lookup(id)
	if s != nil {
		s.fault = nil
	}
	d.mu.Unlock()
	if s != nil {
		d.notify(Notice{Kind: PortWell, Port: id, Worker: s.worker.Load().id})
	}
}
