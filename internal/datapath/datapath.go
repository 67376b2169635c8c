package datapath

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// Classifier decides the fate of a frame: the slow path. It is called by several workers at once, must not keep f or v, and
// must read the generations on which its verdict depends before anything else they guard. now is in nanoseconds.
type Classifier interface {
	Classify(f *packet.Frame, now int64, v *flow.Verdict)
}

// Config is how a Datapath works. The zero value of a field asks for its default.
type Config struct {
	Workers    int           // default min(4, max(1, cores-1))
	MaxFlows   int           // limit of a worker's flow table; default flow.MaxFlows
	NoCache    bool          // decide each frame anew: for debugging, and as a baseline
	NoCoalesce bool          // write each frame as it came
	KeepAwake  bool          // ask the kernel to let no idle core halt while polling pays
	MaxSpin    time.Duration // longest time to poll before sleeping; negative: never poll; default 50 us

	// Clock returns a time in nanoseconds that never goes back; default the time since New. For tests of what ages.
	Clock func() int64

	// OnGone is called when a port's device died. It runs on the worker: it must return at once and call nothing of Datapath.
	OnGone func(packet.PortID)
}

const maxSlots = 1 << 16

// ErrNoSlot means that all 65535 slots of the port table are taken.
var ErrNoSlot = errors.New("no free slot for another port")

// Datapath owns the port table and the workers. All methods are safe for concurrent use.
//
// A port's life: Add publishes it, so that frames can be written to it; Start lets its worker read it; Remove unpublishes
// it and waits until no worker can still hold it; then its owner closes it.
type Datapath struct {
	cfg        Config
	classifier Classifier
	workers    []*Worker
	slots      [maxSlots]atomic.Pointer[slot] // read by workers; written under mu

	mu          sync.Mutex
	generations [maxSlots]uint16 // guarded by mu; of the slot's latest use
	free        []uint16         // guarded by mu; slots given back
	used        int              // guarded by mu; slots ever used, slot 0 never is
}

// slot is a published port. Its counters belong each to one worker.
type slot struct {
	id       packet.PortID
	port     port.Port
	offload  port.Offload
	flusher  port.Flusher
	mtu      atomic.Int32
	worker   *Worker
	counters []Counters // by worker
}

// Counters of a port, of one worker or summed. Rx is what came in from the device. Packets and bytes count a super-frame as
// its segments, frames count reads and writes.
type Counters struct {
	RxFrames, RxPackets, RxBytes uint64
	TxFrames, TxPackets, TxBytes uint64
	Drops                        [packet.DropReasons]uint64
	_                            [64]byte // keeps workers off each other's cache lines
}

// Add adds the counts of another.
func (c *Counters) Add(o *Counters) {
	c.RxFrames += o.RxFrames
	c.RxPackets += o.RxPackets
	c.RxBytes += o.RxBytes
	c.TxFrames += o.TxFrames
	c.TxPackets += o.TxPackets
	c.TxBytes += o.TxBytes
	for i := range c.Drops {
		c.Drops[i] += o.Drops[i]
	}
}

// unread counts a frame that could not be read and is lost all the same.
func (c *Counters) unread(err error) {
	c.RxFrames++
	c.RxPackets++
	if err == port.ErrOversize {
		c.Drops[packet.DropOversize]++
	} else {
		c.Drops[packet.DropBadVnet]++
	}
}

// New makes a Datapath with its workers; Run starts them.
func New(cfg Config, c Classifier) (*Datapath, error) {
	if cfg.Workers == 0 {
		cfg.Workers = min(4, max(1, runtime.NumCPU()-1))
	}
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = flow.MaxFlows
	}
	if cfg.MaxSpin == 0 {
		cfg.MaxSpin = 50 * time.Microsecond
	}
	if cfg.Clock == nil {
		start := time.Now()
		cfg.Clock = func() int64 { return int64(time.Since(start)) }
	}
	d := &Datapath{cfg: cfg, classifier: c, used: 1}
	for i := range cfg.Workers {
		w, err := newWorker(d, i)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("make worker %d: %w", i, err)
		}
		d.workers = append(d.workers, w)
	}
	return d, nil
}

// Run serves until ctx ends or a worker fails, and all workers have returned. The ports stay open.
func (d *Datapath) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range d.workers {
		g.Go(w.run)
	}
	g.Go(func() error {
		<-ctx.Done()
		for _, w := range d.workers {
			w.post(func() { w.stopping = true })
		}
		return nil
	})
	return g.Wait()
}

// Turn lets each worker serve what is there, on the caller's thread: for tests and benchmarks, in place of Run.
func (d *Datapath) Turn() error {
	for _, w := range d.workers {
		n, err := w.epollWait(0)
		if err != nil {
			return fmt.Errorf("worker %d: look for frames: %w", w.id, err)
		}
		w.now = d.Now()
		w.turn(n)
	}
	return nil
}

// Close releases the workers' memory and descriptors. Only after Run has returned, or when it never ran; nothing may be
// called after it. The ports stay open. It is idempotent.
func (d *Datapath) Close() {
	for _, w := range d.workers {
		w.close()
	}
	d.workers = nil
}

// Now returns the datapath's monotonic clock in nanoseconds.
func (d *Datapath) Now() int64 { return d.cfg.Clock() }

// Workers returns their number.
func (d *Datapath) Workers() int { return len(d.workers) }

// lookup returns the port with that id, or nil when the slot is empty or used by another port by now.
func (d *Datapath) lookup(id packet.PortID) *slot {
	s := d.slots[id.Slot()].Load()
	if s == nil || s.id != id {
		return nil
	}
	return s
}

// Add publishes a port whose frames may be mtu bytes long at L3, and gives it to the worker that has fewest. It stays
// the caller's, who closes it after Remove.
func (d *Datapath) Add(p port.Port, mtu int) (packet.PortID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n uint16
	switch {
	case len(d.free) > 0:
		n = d.free[0] // the one longest unused
		d.free = d.free[1:]
	case d.used < maxSlots:
		n = uint16(d.used)
		d.used++
	default:
		return 0, ErrNoSlot
	}
	d.generations[n]++
	s := &slot{id: packet.MakePortID(n, d.generations[n]), port: p, counters: make([]Counters, len(d.workers))}
	s.mtu.Store(int32(mtu))
	if o, ok := p.(port.Offloader); ok {
		s.offload = o.Offload()
	}
	s.flusher, _ = p.(port.Flusher)
	s.worker = d.workers[0]
	for _, w := range d.workers {
		if w.ports < s.worker.ports {
			s.worker = w
		}
	}
	s.worker.ports++
	d.slots[n].Store(s)
	return s.id, nil
}

// Start lets the port's worker read it.
func (d *Datapath) Start(id packet.PortID) error {
	d.mu.Lock() // or Remove might close the descriptor, and the kernel give its number to another file, before it is watched
	defer d.mu.Unlock()
	s := d.lookup(id)
	if s == nil {
		return fmt.Errorf("start port %#x: no such port", uint32(id))
	}
	return s.worker.watch(s)
}

// SetMTU changes what may leave by the port.
func (d *Datapath) SetMTU(id packet.PortID, mtu int) {
	if s := d.lookup(id); s != nil {
		s.mtu.Store(int32(mtu))
	}
}

// Remove unpublishes the port and waits until every worker has passed the end of a turn, so that none can read or write it any
// more: its owner may close it now, and not before. What waits in the port's queue is counted as dropped. It returns the
// port's counters. The caller has taken the port out of the configuration before.
func (d *Datapath) Remove(id packet.PortID) (Counters, error) {
	d.mu.Lock()
	s := d.lookup(id)
	if s == nil {
		d.mu.Unlock()
		return Counters{}, fmt.Errorf("remove port %#x: no such port", uint32(id))
	}
	d.slots[id.Slot()].Store(nil)
	s.worker.ports--
	s.worker.unwatch(s)
	d.mu.Unlock()

	d.Quiesce()

	d.mu.Lock()
	d.free = append(d.free, uint16(id.Slot()))
	d.mu.Unlock()
	c := s.sum()
	c.drain(s.port)
	return c, nil
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

// Quiesce returns when every worker has passed the end of a turn: nothing that was unpublished before is in use any more.
func (d *Datapath) Quiesce() {
	for _, w := range d.workers {
		w.call(func() {})
	}
}

// Inject makes the port's worker handle a finished frame as if the port had delivered it. It returns at once; the frame is
// copied.
func (d *Datapath) Inject(id packet.PortID, frame []byte) {
	s := d.lookup(id)
	if s == nil {
		return
	}
	frame = append([]byte(nil), frame...)
	s.worker.post(func() { s.worker.inject(id, frame) })
}

func (s *slot) sum() Counters {
	var t Counters
	for i := range s.counters {
		t.Add(&s.counters[i])
	}
	return t
}

// PortCounters returns the counters of each port, as they were at the end of some turn.
func (d *Datapath) PortCounters() map[packet.PortID]Counters {
	var slots []*slot
	for n := range d.Slots() {
		if s := d.slots[n].Load(); s != nil {
			slots = append(slots, s)
		}
	}
	sums := make([]Counters, len(slots))
	for i, w := range d.workers {
		w.call(func() { // no more than the sums: frames wait meanwhile
			for j, s := range slots {
				sums[j].Add(&s.counters[i])
			}
		})
	}
	all := make(map[packet.PortID]Counters, len(slots))
	for j, s := range slots {
		all[s.id] = sums[j]
	}
	return all
}

// Slots returns how many slots of the table were ever used.
func (d *Datapath) Slots() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// WorkerOf returns the number of the worker that reads the port; -1 when there is no such port.
func (d *Datapath) WorkerOf(id packet.PortID) int {
	if s := d.lookup(id); s != nil {
		return s.worker.id
	}
	return -1
}

// WorkerCounters returns each worker's counters, as they were at the end of some turn.
func (d *Datapath) WorkerCounters() []WorkerCounters {
	var all []WorkerCounters
	for _, w := range d.workers {
		w.call(func() {
			w.stats.Flows = w.table.Len()
			all = append(all, w.stats)
		})
	}
	return all
}

// Flows returns copies of the cached flows for which keep is true, by worker.
func (d *Datapath) Flows(keep func(*flow.Flow) bool) [][]flow.Flow {
	all := make([][]flow.Flow, len(d.workers))
	for i, w := range d.workers {
		w.call(func() {
			for f := range w.table.All {
				if keep(f) {
					all[i] = append(all[i], *f)
				}
			}
		})
	}
	return all
}

// FlushFlows empties the flow tables and returns how many flows they held.
func (d *Datapath) FlushFlows() int {
	n := 0
	for _, w := range d.workers {
		w.call(func() {
			n += w.table.Len()
			w.table.Flush()
			w.last = nil
		})
	}
	return n
}
