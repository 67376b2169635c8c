package vswitch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/datapath"
	"vswitch/internal/fdstore"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/internal/store"
)

// Version is the program's version, set by the build.
var Version = "devel"

// MaxWorkers is how many workers can be asked for.
const MaxWorkers = 64

// sweepInterval is how often the tables of MACs are swept of what is too old; until then cached flows use it. It is short for
// the shortest --age.
const sweepInterval = time.Second

// Config is how a Switch is set up; zero values are defaults.
type Config struct {
	StateDir   string // absolute
	Socket     string // of control; for people
	FDStore    string // auto, systemd, keeper, none
	Workers    int
	MaxFlows   int
	MaxSpin    time.Duration // negative: never
	TxQueueLen int           // of TAPs, frames
	NoCache    bool
	NoCoalesce bool
}

// Publisher takes note of events. It never blocks.
type Publisher interface {
	Publish(typ, object, message string)
}

// Switch is the whole daemon but for its control socket. Its verbs are safe for concurrent use.
type Switch struct {
	cfg     Config
	log     *slog.Logger
	events  Publisher
	started time.Time
	store   *store.Store
	fds     fdstore.Store
	private *link.Namespace // where TAPs are born and the switch's ends of veths stay
	watcher *link.Watcher
	line    *pipeline.Pipeline
	path    *datapath.Datapath
	held    map[string]map[string]int // until Restore: kept file descriptors by port and what they are
	gone    chan packet.PortID        // ports whose device died, told by workers

	verb sync.Mutex // held by verbs that change something: one at a time

	mu       sync.RWMutex        // guards what follows; held for looks and short changes of it, never over a system call
	networks map[string]*network // by name
	ports    map[string]*endpoint
	byID     map[packet.PortID]*endpoint
}

// New opens the state and takes over what an earlier daemon kept. Run starts the workers, Restore brings the ports back.
func New(cfg Config, events Publisher, log *slog.Logger) (*Switch, error) {
	s := &Switch{
		cfg: cfg, log: log, events: events, started: time.Now(),
		line: pipeline.New(), gone: make(chan packet.PortID, 1024),
		networks: make(map[string]*network), ports: make(map[string]*endpoint), byID: make(map[packet.PortID]*endpoint),
	}
	var err error
	if s.store, err = store.Open(cfg.StateDir, log); err != nil {
		return nil, err
	}
	s.fds, err = fdstore.Open(fdstore.Config{Mode: cfg.FDStore, Dir: cfg.StateDir, Logger: log})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open the store of file descriptors: %w", err)
	}
	s.path, err = datapath.New(datapath.Config{
		Workers: cfg.Workers, MaxFlows: cfg.MaxFlows, MaxSpin: cfg.MaxSpin,
		NoCache: cfg.NoCache, NoCoalesce: cfg.NoCoalesce, OnGone: s.tellGone,
	}, s.line)
	if err == nil {
		err = s.takeHeld()
	}
	if err == nil {
		if s.watcher, err = link.NewWatcher(s.private); err != nil {
			err = fmt.Errorf("watch interfaces: %w", err)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close releases what New acquired. Ports stay in place. Call it after Run has returned.
func (s *Switch) Close() error {
	var errs []error
	if s.watcher != nil {
		errs = append(errs, s.watcher.Close())
	}
	if s.path != nil {
		s.path.Close()
	}
	if s.private != nil {
		errs = append(errs, s.private.Close())
	}
	if s.fds != nil {
		errs = append(errs, s.fds.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// Workers returns the number of worker threads.
func (s *Switch) Workers() int { return s.path.Workers() }

// Run serves frames, ages tables and looks after dead devices until ctx ends.
func (s *Switch) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.path.Run(ctx) })
	g.Go(func() error { return s.sweep(ctx) })
	g.Go(func() error { return s.reap(ctx) })
	g.Go(func() error { return s.watcher.Run(ctx, s.linkEvent) })
	return g.Wait()
}

// sweep ages the tables.
func (s *Switch) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := s.path.Now()
		s.mu.RLock()
		for _, n := range s.networks {
			n.line.Bridge.FDB().Sweep(now)
		}
		s.mu.RUnlock()
	}
}

// newID makes the immutable id of an object: 12 hexadecimal digits.
func newID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
