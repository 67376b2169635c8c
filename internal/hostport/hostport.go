package hostport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/port/tap"
)

// Config says what the interface is to be.
type Config struct {
	Name       string
	MAC        net.HardwareAddr // tells it from other daemons'
	Addrs      []netip.Prefix   // the host's; the router's is the other one of each prefix: /31 and /127
	TxQueueLen int              // frames; 0: link.DefaultTxQueueLen
	Private    *link.Namespace  // where it is born
	Host       *link.Namespace  // where it stays. Both are the caller's, and open until Close or Remove
	Store      Store            // of the fd, under FDName
	Logger     *slog.Logger

	// Plug gives a device to the data plane, Unplug takes it away again: afterwards nobody reads or writes it. They are called one at
	// a time, with the Port locked.
	Plug   func(*tap.Tap) error
	Unplug func()
	// Step is called between the steps of making the device; tests fail there.
	Step func(name string) error
	// Report is told of each State that differs from the one before, and of the first after Plug, likewise.
	Report func(State)
}

// Store is the part of an fd store that a Port needs; see fdstore.Store.
type Store interface {
	PutAll(fds map[string]int) error
	Delete(names ...string) error
}

// FDName is the name of a Port's fd in the fd store.
const FDName = "host"

// Times between looks.
const (
	// secondLook is when to look again after news: the kernel announces that a route is deleted while it still is there
	// (fib_table_delete in net/ipv4/fib_trie.c), and may have more to say.
	secondLook = 500 * time.Millisecond
	// restTime is how long news wait after a look by Run, so that a busy routing daemon costs little, and a device that somebody deletes
	// over and over is not made over and over.
	restTime = 200 * time.Millisecond
	// restRoute is added for each other route of the host, some ten times what it costs to look at it: a router's kernel may have all
	// routes of the internet, and news of them all the time.
	restRoute = 50 * time.Microsecond
	// longestRetry is the longest time between looks after those that failed.
	longestRetry = 10 * time.Second
)

// State is what there is of a Port.
type State struct {
	link.State                // of the interface; Index 0: there is none now
	Addrs      []netip.Prefix // those of Config that it has
	Local      []netip.Addr   // the host's other addresses
	Inside     []netip.Addr   // those in subnets of networks, by which it may speak to other networks
	Routes     []netip.Prefix // to which networks the host has a route by it
	Unrouted   []Unrouted     // to which it has not
	Problems   []string       // what is to be done so that it works as wanted
}

// Unrouted is a subnet that the host doesn't reach by the Port.
type Unrouted struct {
	Prefix netip.Prefix
	Index  int // of the host's interface by which it goes there instead; 0: none
	Why    string
}

// A Port is a host port at work. Its methods are safe for concurrent use.
type Port struct {
	cfg    Config
	log    *slog.Logger
	follow *link.Follower

	mu      sync.Mutex
	held    int              // fd that an earlier process stored, until it is looked at; -1: none
	dev     *tap.Tap         // guarded by mu; nil: there is none
	index   int              // of dev in the host's namespace
	want    []link.HostRoute // guarded by mu
	others  int              // routes of the host's own; guarded by mu
	closed  bool             // guarded by mu
	state   State            // guarded by mu
	plugged bool             // dev was, and Report has not been told since; guarded by mu
}

// Open makes a Port that does nothing until its first SetRoutes. held is the fd that an earlier process stored, or -1; it is the
// Port's from then on.
func Open(cfg Config, held int) (*Port, error) {
	p := &Port{cfg: cfg, log: cfg.Logger, held: held}
	var err error
	if p.follow, err = link.FollowAll(cfg.Host); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// SetRoutes says what the host is to reach by the interface, with no Source: that of the family is taken. When it returns, the
// kernel has been told.
func (p *Port) SetRoutes(want []link.HostRoute) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = append([]link.HostRoute{}, want...)
	if p.lookLocked() {
		p.Wake()
	}
}

// Wake makes Run look again. It never blocks.
func (p *Port) Wake() { p.follow.Wake() }

// Run follows the kernel until ctx ends, and then returns nil. It runs once.
func (p *Port) Run(ctx context.Context) error {
	retry := secondLook
	for again := false; ; {
		wait, cancel := context.WithCancel(ctx)
		if again {
			wait, cancel = context.WithTimeout(ctx, retry)
		}
		err := p.follow.Wait(wait)
		fresh := wait.Err() == nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case fresh && err != nil:
			return fmt.Errorf("host port: %w", err)
		}
		p.mu.Lock()
		failed := p.want != nil && p.lookLocked()
		rest := restTime + time.Duration(p.others)*restRoute
		p.mu.Unlock()
		if again = fresh || failed; failed && !fresh {
			retry = min(2*retry, longestRetry)
		} else {
			retry = secondLook
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

// Close lets go and leaves the interface, with its routes, as long as the fd store keeps the fd. Run has returned before, and the data
// plane doesn't use the device any more.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeLocked()
}

func (p *Port) closeLocked() error {
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	if p.follow != nil {
		errs = append(errs, p.follow.Close())
	}
	if p.held >= 0 {
		errs = append(errs, unix.Close(p.held))
	}
	if p.dev != nil {
		errs = append(errs, p.dev.Close())
	}
	return errors.Join(errs...)
}

// Remove is Close that deletes the interface, and its routes and addresses with it.
func (p *Port) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.dev != nil && !p.closed {
		err = errors.Join(link.DeleteTAP(p.dev.FD()), p.cfg.Store.Delete(FDName))
	}
	return errors.Join(err, p.closeLocked())
}

// Remove deletes the interface that an earlier process left, by the fd that it stored or, without one (-1), as link.FindHostPort finds
// it; its routes and addresses go with it.
func Remove(host *link.Namespace, mac net.HardwareAddr, store Store, held int) error {
	if held >= 0 {
		err := link.DeleteTAP(held)
		return errors.Join(err, store.Delete(FDName), unix.Close(held))
	}
	name, err := link.FindHostPort(host, mac)
	if api.HasCode(err, api.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := link.Lookup(host, name)
	if err == nil {
		err = link.Delete(host, st.Index)
	}
	return err
}

// Peers returns the router's ends of a host port's addresses.
func Peers(addrs []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		list = append(list, netip.PrefixFrom(Peer(a.Addr()), a.Bits()))
	}
	return list
}

// Peer returns the other address of the pair that a belongs to.
func Peer(a netip.Addr) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] ^= 1
	peer, _ := netip.AddrFromSlice(b)
	return peer
}

// Pair returns the prefix of an address and its peer.
func Pair(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()-1) }
