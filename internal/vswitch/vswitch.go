package vswitch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/fdstore"
	"vswitch/internal/flow"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/internal/store"
	"vswitch/nat"
	"vswitch/router"
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
	KeepAwake  bool          // let no idle core halt while polling pays
	TxQueueLen int           // of TAPs, frames
	HostPort   string        // the host's interface to router main; empty: none
	HostIPs    []netip.Addr  // its addresses, see CheckHostIPs
	Limits     nat.Limits    // of connections
	Timeouts   nat.Timeouts  // likewise
	NoCache    bool
	NoCoalesce bool
	NoMove     bool          // serve ports whose writes take long like all others
	LogLost    func() uint64 // lines of the log that were lost; nil: none
	OnWorkers  func(int)     // called with the number of worker threads whenever it changes; may be nil
}

// Publisher takes note of events. It never blocks.
type Publisher interface {
	Publish(typ, object, message string)
}

// Switch is the whole daemon but for its control socket. Its verbs are safe for concurrent use.
type Switch struct {
	cfg         Config
	log         *slog.Logger
	events      Publisher
	started     time.Time
	store       *store.Store
	fds         fdstore.Store
	private     *link.Namespace // where TAPs are born and the switch's ends of veths stay
	watcher     *link.Watcher
	line        *pipeline.Pipeline
	path        *datapath.Datapath
	held        map[string]map[string]int // until Restore: kept file descriptors by port and what they are
	heldUplinks map[string]map[string]int // likewise, by uplink
	gone        chan packet.PortID        // ports whose device died, told by workers
	fail        failpoints
	trouble     string // why changes can't be kept, as it was last told
	conns       *nat.Table
	listeners   listeners
	host        *link.Namespace // the daemon's own
	fresh       bool            // the private namespace is a new one: no device of an earlier daemon is in it

	// verb is held by verbs that change something: one at a time. Those that add or delete a single port share it, and hold a
	// claim to the port's name: ports come and go abreast.
	verb   sync.RWMutex
	claims claims

	hostPort    hostNeighbor
	heldHost    int // until openHostPort: the kept file descriptor of the host port; -1: none
	liveUplinks liveUplinks
	claimed     interfaceClaims

	routing sync.Mutex           // held while a router gets its routes
	byLeg   map[string]legRoutes // guarded by routing; by name of the leg

	mu         sync.RWMutex                // guards what follows; held for looks and short changes of it, never over a system call
	state                                  // changes only with verb held too
	byID       map[packet.PortID]*endpoint // also while a verb attaches them
	legs       map[packet.PortID]*leg
	lastNumber uint32                    // of networks, in tables of connections
	routers    map[string]*router.Router // by name
	zones      map[string]uint16         // of routers by name, from 1, in tables of connections
	places     map[place]*endpoint       // by where their interfaces are, those of veths at both ends; also while a verb attaches them
	past       datapath.Counters         // of ports that are no more
	facts      map[string]fact           // of ports that are on a network, by name

	judging  sync.Mutex // held while rules are set; before mu
	restored bool       // guarded by judging: ports are back
}

// state is a configuration: the one there is, or the one that a transaction will leave.
type state struct {
	networks map[string]*network  // by name
	ports    map[string]*endpoint // by name
	arriving map[string]*api.Port // by name, being added: their MACs are taken
	routes   map[api.RouteKey]api.StaticRoute
	uplinks  map[string]api.Uplink // by name, without their status

	rules    map[string][]*acl.Rule // by whose they are, see ownerOf, in the order in which they were added
	lastRule uint64                 // the highest number of an id

	published map[string][]*nat.Publication // by the port that publishes them, those that don't rest
	heard     *nat.Published                // the same, as workers look them up
}

// New opens the state and takes over what an earlier daemon kept. Run starts the workers, Restore brings the ports back.
func New(cfg Config, events Publisher, log *slog.Logger) (*Switch, error) {
	s := newSwitch(cfg, events, log)
	for _, step := range []func() error{s.openState, s.takeHeld, s.makePrivate, s.openHost, s.makePath, s.openHostPort} {
		if err := step(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func newSwitch(cfg Config, events Publisher, log *slog.Logger) *Switch {
	s := &Switch{
		cfg: cfg, log: log, events: events, started: time.Now(),
		line: pipeline.New(), conns: nat.NewTable(cfg.Limits, cfg.Timeouts), gone: make(chan packet.PortID, maxGone),
		state: state{
			networks: make(map[string]*network), ports: make(map[string]*endpoint), arriving: make(map[string]*api.Port),
			routes: make(map[api.RouteKey]api.StaticRoute), rules: make(map[string][]*acl.Rule), published: make(map[string][]*nat.Publication), heard: nat.NewPublished(),
			uplinks: make(map[string]api.Uplink),
		},
		heldHost: -1, liveUplinks: liveUplinks{by: make(map[string]*liveUplink)}, byLeg: make(map[string]legRoutes), legs: make(map[packet.PortID]*leg),
		facts: make(map[string]fact), byID: make(map[packet.PortID]*endpoint), routers: make(map[string]*router.Router), zones: make(map[string]uint16), places: make(map[place]*endpoint),
	}
	s.listeners.init(s)
	return s
}

// openState opens what outlives the daemon.
func (s *Switch) openState() (err error) {
	if s.fail, err = parseFailpoints(os.Getenv(failpointEnv)); err != nil {
		return err
	}
	if s.store, err = store.Open(s.cfg.StateDir, s.log); err != nil {
		return err
	}
	s.keepSecret()
	s.fds, err = fdstore.Open(fdstore.Config{Mode: s.cfg.FDStore, Dir: s.cfg.StateDir, Logger: s.log, Replaced: s.keeperReplaced})
	if err != nil {
		return fmt.Errorf("open the store of file descriptors: %w", err)
	}
	return nil
}

// keepSecret gives the table of connections the secret that earlier daemons had, so that endpoints get the ports that they had.
func (s *Switch) keepSecret() {
	secret, err := s.store.Secret("nat", func() []byte { return nat.RandomBytes(nat.SecretSize) })
	if err != nil {
		s.log.Warn("external ports will be others after the next start", "err", err)
	}
	if len(secret) == nat.SecretSize {
		s.conns.SetSecret(nat.NewSecret(secret))
	}
}

// makePath makes the data plane and what follows the interfaces.
func (s *Switch) makePath() (err error) {
	s.path, err = datapath.New(datapath.Config{
		Workers: s.cfg.Workers, MaxFlows: s.cfg.MaxFlows, MaxSpin: s.cfg.MaxSpin,
		NoCache: s.cfg.NoCache, NoCoalesce: s.cfg.NoCoalesce, NoMove: s.cfg.NoMove, KeepAwake: s.cfg.KeepAwake,
		OnGone: s.tellGone, OnNotice: s.notice, OnWorkers: s.cfg.OnWorkers,
	}, s.line)
	if err != nil {
		return err
	}
	if s.watcher, err = link.NewWatcher(s.private); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// openHost opens the namespace that the daemon runs in.
func (s *Switch) openHost() (err error) {
	s.host, err = link.Host()
	return err
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
	s.listeners.closeAll()
	s.restUplinks()
	errs = append(errs, s.closeHostPort())
	if s.private != nil && len(s.held)+len(s.ports) == 0 { // there is nothing to come back for: a keeper may end
		errs = append(errs, s.fds.Delete(fdPrivate))
	}
	if s.fds != nil { // before what it stores is closed: it may be about to give it to a new keeper
		errs = append(errs, s.fds.Close())
	}
	errs = append(errs, s.closeUplinks()...)
	for _, ns := range []*link.Namespace{s.private, s.host} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	if s.verb.TryLock() { // a verb that was cut off may still use them; they end with the process then
		defer s.verb.Unlock()
		for _, e := range s.ports {
			if e.dev != nil {
				errs = append(errs, e.dev.close())
			}
		}
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// Run serves frames, ages tables and looks after dead devices until ctx ends.
func (s *Switch) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.path.Run(ctx) })
	g.Go(func() error { return s.sweep(ctx) })
	g.Go(func() error { return s.reap(ctx) })
	g.Go(func() error { return s.tend(ctx) })
	g.Go(func() error { return s.tellJudged(ctx) })
	g.Go(func() error { return s.followHostPort(ctx) })
	g.Go(func() error { return s.watcher.Run(ctx, s.linkEvent) })
	return g.Wait()
}

// sweep ages the tables and looks at the storm meters.
func (s *Switch) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var known map[*flow.Meter]*storm
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
			s.path.Do(n.line.TendAdvertiser(now))
		}
		s.mu.RUnlock()
		s.conns.Sweep(s.cfg.Limits.WithDefaults().Connections/sweeps, now)
		s.tendRouters(now)
		s.sweepUplinks(time.Now())
		s.listenAgain()
		known = s.tellStorms(known)
	}
}

// newID makes the immutable id of an object: 12 hexadecimal digits.
func newID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
