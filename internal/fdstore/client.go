package fdstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxAttempts is how often a call is tried while keepers go away under it.
	maxAttempts = 3
	// restoreEvery is the least time between two attempts to bring a lost keeper back without being called. It doubles, up to
	// restoreMax, with each keeper that is lost before it has lived for steady.
	restoreEvery = time.Second
	restoreMax   = 32 * time.Second
	steady       = time.Minute
	// maxSocketPath is what fits a sockaddr_un, less the ".new" that the keeper appends for a moment.
	maxSocketPath = 107 - len(".new")
)

// client is the Store whose fds a keeper process holds. It has one goroutine a link, which reads answers and, when the
// keeper is killed, starts a new one and stores everything again.
type client struct {
	socket string
	exe    string
	log    *slog.Logger
	tell   func(error)    // of a keeper that was replaced, or can't be
	done   chan struct{}  // closed by Close
	end    func()         // closes done, once
	wg     sync.WaitGroup // the links' goroutines

	mu   sync.Mutex
	link *link           // guarded by mu; nil before the first, may be broken
	held map[string]loan // guarded by mu; put or taken: what a new keeper must be given
	wait time.Duration   // guarded by mu; before the next keeper is started without being called
}

var _ Store = (*client)(nil)

func openKeeper(cfg Config) (*client, error) {
	if cfg.Dir == "" {
		return nil, errors.New("open keeper: no run directory given: set Dir")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open keeper: %w", err)
	}
	if cfg.Exe == "" {
		cfg.Exe = "/proc/self/exe"
	}
	socket := filepath.Join(dir, "keeper.sock")
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("open keeper: socket path %s is longer than %d bytes: choose a shorter run directory",
			socket, maxSocketPath)
	}
	done := make(chan struct{})
	tell := cfg.Replaced
	if tell == nil {
		tell = func(error) {}
	}
	return &client{socket: socket, exe: cfg.Exe, log: cfg.Logger.With("socket", socket), tell: tell, done: done, wait: restoreEvery,
		end: sync.OnceFunc(func() { close(done) }), held: map[string]loan{}}, nil
}

func (c *client) Kind() string { return "keeper" }

// Check lets go of a keeper that no other process could reach. The goroutine of its link starts another one; the old one ends,
// for nobody needs it.
func (c *client) Check() {
	if _, err := os.Stat(c.socket); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		c.link.drop()
	}
}

func (c *client) Put(name string, fd int) error {
	return c.PutAll(map[string]int{name: fd})
}

func (c *client) PutAll(fds map[string]int) error {
	loans := make(map[string]loan, len(fds))
	for name, fd := range fds {
		if err := checkName(name); err != nil {
			return err
		}
		l, err := borrow(fd)
		if err != nil {
			return fmt.Errorf("put %q in keeper: %w", name, err)
		}
		loans[name] = l
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.callLocked(len(fds) > 0, func(l *link) error { return l.put(loans) })
	if err != nil {
		return fmt.Errorf("put %d fds in keeper: %w", len(fds), err)
	}
	maps.Copy(c.held, loans)
	return nil
}

func (c *client) Delete(names ...string) error {
	if err := checkNames(names); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.held, name) // first: a new keeper must not be given it again
	}
	for some := range slices.Chunk(names, maxFDs) {
		err := c.callLocked(false, func(l *link) error {
			return l.request(message{op: opDelete, names: some})
		})
		if err != nil {
			return fmt.Errorf("delete %q from keeper: %w", some, err)
		}
	}
	return nil
}

func (c *client) Take() (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := map[string]int{}
	err := c.callLocked(false, func(l *link) (err error) {
		taken, err = l.take()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take fds from keeper: %w", err)
	}
	for name, fd := range taken {
		if _, ok := c.held[name]; ok {
			continue // the caller has an older fd of that name, which is the one that must stay open
		}
		if c.held[name], err = borrow(fd); err != nil {
			return nil, fmt.Errorf("take %q from keeper: %w", name, err)
		}
	}
	return taken, nil
}

func (c *client) Close() error {
	c.end() // before the lock: a call that waits for a new keeper gives up
	c.mu.Lock()
	if c.link != nil {
		c.link.drop()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

func (c *client) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// callLocked runs call over the link, and again over a new one when the link breaks meanwhile. When no keeper runs it
// starts one if start is set or if there are fds to keep; otherwise it does nothing.
func (c *client) callLocked(start bool, call func(*link) error) error {
	for attempt := 1; ; attempt++ {
		l, err := c.linkLocked(start)
		if err == nil && l != nil {
			err = call(l)
		}
		switch {
		case !errors.Is(err, errLost):
			return err
		case c.closed():
			return ErrClosed
		case attempt == maxAttempts:
			return err
		}
	}
}

// linkLocked returns a working link to a keeper that has been given everything in held. It returns nil when no keeper
// runs and none is needed.
func (c *client) linkLocked(start bool) (*link, error) {
	if c.closed() {
		return nil, ErrClosed
	}
	if c.link != nil && !c.link.broken() {
		return c.link, nil
	}
	conn, err := c.dial()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		if !start && len(c.held) == 0 {
			return nil, nil
		}
		conn, err = c.launch()
	}
	if err != nil {
		return nil, err
	}
	l := newLink(conn)
	c.link = l
	c.wg.Go(func() {
		l.read()
		c.lost(l)
	})
	if err := c.restoreLocked(l); err != nil {
		l.drop()
		return nil, fmt.Errorf("restore fds: %w", err)
	}
	return l, nil
}

// restoreLocked gives the keeper everything held.
func (c *client) restoreLocked(l *link) error {
	for name, loan := range c.held {
		if err := loan.check(); err != nil {
			c.log.Error("an fd cannot be stored again", "name", name, "err", err)
			delete(c.held, name)
		}
	}
	return l.put(c.held)
}

// lost brings back what was held over l, which broke, unless a call does so first. It does not wait for one, since a
// crash of the daemon may come next; but a keeper that dies as soon as it is started is started ever more seldom.
func (c *client) lost(l *link) {
	lived := time.Since(l.born)
	for wait := c.backOff(lived) - lived; ; wait = c.backOff(0) {
		select {
		case <-c.done:
			return
		case <-time.After(wait):
		}
		if c.relink(l) {
			return
		}
	}
}

// backOff returns the time from the start of a keeper, which lived that long, to that of the next one.
func (c *client) backOff(lived time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lived >= steady {
		c.wait = restoreEvery
	}
	wait := c.wait
	c.wait = min(2*wait, restoreMax)
	return wait
}

// relink replaces l, if it is still the link and if there are fds to keep. It returns false when it should be tried
// again: when there is a new link, even one that broke at once, that link's goroutine sees to it.
func (c *client) relink(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed() || c.link != l || len(c.held) == 0 {
		return true
	}
	if _, err := c.linkLocked(true); err != nil && !c.closed() {
		c.log.Error("the keeper went away and cannot be replaced: fds would not survive a crash now", "err", err)
		c.tell(err)
	} else if err == nil {
		c.log.Warn("the keeper went away: a new one has been given all fds", "fds", len(c.held))
		c.tell(nil)
	}
	return c.link != l
}

// dial connects to a live keeper. It fails with ENOENT or ECONNREFUSED when there is none.
func (c *client) dial() (*net.UnixConn, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: c.socket, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	if err := trusted(conn); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to keeper at %s: %w", c.socket, err)
	}
	return conn, nil
}
