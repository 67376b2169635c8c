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
	NoMove     bool          // leave ports with the usual workers, however long writes to them take
	NoRest     bool          // read on from ports that send nothing but what is dropped: for tests whose clock stands
	KeepAwake  bool          // ask the kernel to let no idle core halt while polling pays
	MaxSpin    time.Duration // longest time to poll before sleeping; negative: never poll; default 50 us

	// Clock returns a time in nanoseconds that never goes back; default the time since New. For tests of what ages.
	Clock func() int64

	// SlowHold is how long a slow port has to be fast before it goes back to the other ports' workers; default 30 s.
	SlowHold time.Duration

	// OnGone is called when a port's device died. It runs on the worker: it must return at once and call nothing of Datapath.
	OnGone func(packet.PortID)
	// OnNotice is called when a port was moved or given up, on a goroutine of Run; the next notice waits for it.
	OnNotice func(Notice)
	// OnWorkers is called with the number of workers that run whenever it changes. It must call nothing of Datapath.
	OnWorkers func(int)
}

const maxSlots = 1 << 16

// errNoSlot means that all 65535 slots of the port table are taken.
var errNoSlot = errors.New("no free slot for another port")

// Datapath owns the port table and the workers. All methods are safe for concurrent use.
//
// A port's life: Add publishes it, so that frames can be written to it; Start lets its worker read it; Remove unpublishes
// it and waits until no worker can still hold it; then its owner closes it.
type Datapath struct {
	cfg        Config
	classifier Classifier
	workers    []*Worker // those of Config.Workers, then those for slow ports
	notices    chan Notice
	failures   map[packet.PortID]*failure     // tend's own
	slots      [maxSlots]atomic.Pointer[slot] // read by workers; written under mu

	mu          sync.Mutex
	generations [maxSlots]uint16 // guarded by mu; of the slot's latest use
	free        []uint16         // guarded by mu; slots given back
	used        int              // guarded by mu; slots ever used, slot 0 never is
	running     int              // guarded by mu; workers that run
}

// slot is a published port. Its counters belong each to one worker.
type slot struct {
	id       packet.PortID
	port     port.Port
	offload  port.Offload
	flusher  port.Flusher
	throttle port.Throttle
	mtu      atomic.Int32
	flags    atomic.Uint32            // zero for most: see handover.go
	pinned   atomic.Bool              // see Pin
	handover atomic.Pointer[handover] // nil when any worker may write
	floods   atomic.Int32             // from it that are under way
	suspect  atomic.Int64             // since when it is, by Datapath's clock: see slotSuspect
	worker   atomic.Pointer[Worker]   // that reads it; written under mu
	serial   bool                     // a port.Serial
	watched  bool                     // guarded by mu; its worker waits for its frames
	moves    int                      // guarded by mu; to workers for slow ports
	fault    error                    // guarded by mu; why it is not read for now
	dead     int                      // frames in a row that were dropped on arrival; the worker's own
	stumbles int                      // reads in a row that failed; the worker's own
	move     int                      // its last move; of the worker for slow ports
	lastSlow int64                    // when it last was; of the worker for slow ports
	hold     int64                    // nanoseconds it has to be fast; of the same
	counters []Counters               // by worker
	paces    []pace                   // by worker
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
	if cfg.SlowHold == 0 {
		cfg.SlowHold = defaultHold
	}
	d := &Datapath{
		cfg: cfg, classifier: c, used: 1,
		notices: make(chan Notice, maxNotices), failures: make(map[packet.PortID]*failure),
	}
	for i := range cfg.Workers + maxQuarantine {
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
	d.mu.Lock()
	d.running = d.cfg.Workers
	d.tellWorkers()
	d.mu.Unlock()
	for _, w := range d.workers[:d.cfg.Workers] {
		g.Go(w.run)
	}
	g.Go(func() error { return d.tend(ctx, g) })
	return g.Wait()
}

// Turn lets each worker serve what is there, on the caller's thread: for tests and benchmarks, in place of Run.
func (d *Datapath) Turn() error {
	for _, w := range d.workers[:d.cfg.Workers] {
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
	for n := range d.used {
		if s := d.slots[n].Load(); s != nil && s.handover.Load() != nil {
			s.handover.Load().close()
		}
	}
}

// Now returns the datapath's monotonic clock in nanoseconds.
func (d *Datapath) Now() int64 { return d.cfg.Clock() }

// Workers returns their number, without those for slow ports.
func (d *Datapath) Workers() int { return d.cfg.Workers }

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
		return 0, errNoSlot
	}
	d.generations[n]++
	s := &slot{
		id: packet.MakePortID(n, d.generations[n]), port: p,
		counters: make([]Counters, len(d.workers)), paces: make([]pace, len(d.workers)),
	}
	s.mtu.Store(int32(mtu))
	s.pinned.Store(d.cfg.NoMove)
	if o, ok := p.(port.Offloader); ok {
		s.offload = o.Offload()
	}
	s.flusher, _ = p.(port.Flusher)
	s.throttle, _ = p.(port.Throttle)
	w := fewest(d.workers[:d.cfg.Workers])
	s.worker.Store(w)
	if _, s.serial = p.(port.Serial); s.serial {
		h, err := d.newHandover(w)
		if err != nil {
			d.free = append(d.free, n)
			return 0, fmt.Errorf("add port %s: %w", p.Name(), err)
		}
		h.begin(s)
	}
	w.ports++
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
	if err := s.worker.Load().watch(s); err != nil {
		return err
	}
	s.watched = true
	return nil
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
	w := s.worker.Load()
	w.ports--
	w.unwatch(s)
	d.mu.Unlock()

	h := s.handover.Load() // it stays: nobody finds the port any more to move it
	if h != nil {
		h.end(s)
	}
	d.Quiesce()
	if h != nil {
		h.abandon(s)
		h.close()
	}
	if w.quarantine() {
		d.tell(Notice{Kind: portLeft})
	}

	d.mu.Lock()
	d.free = append(d.free, uint16(id.Slot()))
	d.mu.Unlock()
	c := s.sum()
	c.drain(s.port)
	return c, nil
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
	w := s.worker.Load()
	w.post(func() { w.inject(id, frame) })
}

// Send writes a finished frame to the port, on its worker. It returns at once; the frame is copied.
func (d *Datapath) Send(id packet.PortID, frame []byte) {
	s := d.lookup(id)
	if s == nil {
		return
	}
	frame = append([]byte(nil), frame...)
	w := s.worker.Load()
	w.post(func() { w.send(id, frame) })
}
