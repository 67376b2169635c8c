package vswitch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// soakCallers are the clients that add and delete at the same time, each ports of its own.
const soakCallers = 16

// soak is ports that come and go beside two that carry traffic.
//
//	a eth0 ===TCP=== net1 ===TCP=== eth0 b
//	                  |||
//	                 crowd: each namespace has its port, or not
type soak struct {
	*manyLab
	a, b    *netnstest.Container
	has     []bool // whether namespace i has its port; only its caller's
	adds    atomic.Int64
	deletes atomic.Int64
	deaths  atomic.Int64
	streams atomic.Int64
}

// soakRate is how many changes a second the soak asks for, and soakParts into how many it is cut, between which the kernel's rate is measured.
const soakRate, soakParts = 100, 5

// TestSoak lets ports come and go at a hundred changes a second under traffic, and then looks for what is left of them. For
// hours: make soak. SOAK_SECONDS and SOAK_PORTS say how long and how many.
func TestSoak(t *testing.T) {
	n := number(t, "SOAK_PORTS", inTest)
	seconds := time.Duration(number(t, "SOAK_SECONDS", 30)) * time.Second
	s := &soak{manyLab: &manyLab{Lab: netnstest.New(t), t: t}, has: make([]bool, n)}
	s.d = s.Daemon()
	s.crowd = s.Crowd(n)
	s.a, s.b = s.d.Pair("net1", "--subnet", "10.9.0.0/16")
	// What grows to its usual size the first time, does before the count.
	s.churn(2*time.Duration(n)*20*time.Millisecond, 0)
	s.empty()
	before := s.count()
	t.Logf("before: %s", before)
	few := s.Crowd(20)
	var shares []float64 // of what is wanted
	for kernel := s.kernelRate(few); len(shares) < soakParts; {
		rate, later := s.churn(seconds/soakParts, time.Second/soakRate), s.kernelRate(few)
		t.Logf("the kernel alone, one after the other: %.0f changes a second before, %.0f after", kernel, later)
		shares = append(shares, rate/min(0.95*soakRate, (kernel+later)/2/3))
		kernel = later
	}
	slices.Sort(shares)
	if shares[soakParts/2] < 1 {
		t.Errorf("of %d changes a second, or a third of the kernel's, in each part this share was made: %.2f", soakRate, shares)
	}
	s.empty()
	s.wantNothing(before)
	s.wantAllFree()
}

// kernelRate returns how many changes a second the kernel makes for a bare loop beside the same traffic, which tells how busy the machine is.
func (s *soak) kernelRate(few *netnstest.Crowd) float64 {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	streams := make(chan error, 1)
	go func() { streams <- s.traffic(ctx) }()
	var took time.Duration
	for _, typ := range portTypes {
		making, removing := bare(s.t, typ, few)
		took += making + removing
	}
	cancel()
	if err := <-streams; err != nil {
		s.t.Fatal(err)
	}
	return float64(2*len(portTypes)*few.Len()) / took.Seconds()
}

// churn changes ports for so long, one every pace, or as fast as it goes when pace is 0. It returns how many a second.
func (s *soak) churn(long, pace time.Duration) (rate float64) {
	s.t.Helper()
	s.adds.Store(0)
	s.deletes.Store(0)
	s.deaths.Store(0)
	s.streams.Store(0)
	ctx, cancel := context.WithTimeout(s.t.Context(), long)
	defer cancel()
	start := time.Now()
	turns := make(chan struct{}, soakCallers)
	var g errgroup.Group
	g.Go(func() error { return s.beat(ctx, turns, pace) })
	g.Go(func() error { return s.traffic(ctx) })
	for caller := range soakCallers {
		g.Go(func() error {
			for range turns {
				if err := s.change(caller + soakCallers*rand.IntN(max(1, len(s.has)/soakCallers))); err != nil {
					cancel()
					for range turns { // let beat end
					}
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
	took := time.Since(start).Seconds()
	changes := s.adds.Load() + s.deletes.Load() + s.deaths.Load()
	rate = float64(changes) / took
	s.t.Logf("%.0f changes a second for %.0f s: %d ports added, %d deleted, %d died with their namespaces; %d streams beside them",
		rate, took, s.adds.Load(), s.deletes.Load(), s.deaths.Load(), s.streams.Load())
	if s.streams.Load() == 0 {
		s.t.Error("no stream got through")
	}
	return rate
}

// beat gives turns until ctx ends, none earlier than a pace after the one before would have been due: what is late is made up for.
func (s *soak) beat(ctx context.Context, turns chan<- struct{}, pace time.Duration) error {
	defer close(turns)
	for due := time.Now(); ; due = due.Add(pace) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		select {
		case <-ctx.Done():
			return nil
		case turns <- struct{}{}:
		}
	}
}

// traffic sends streams both ways, whose content is checked, until ctx ends.
func (s *soak) traffic(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := netnstest.Stream(s.a, s.b, b4, 4<<20); err != nil {
			return fmt.Errorf("stream beside the churn: %w", err)
		}
		s.streams.Add(1)
	}
	return nil
}

// change adds the port of namespace i, or deletes it, or lets it die with its namespace.
func (s *soak) change(i int) error {
	if i >= len(s.has) {
		return nil
	}
	name := fmt.Sprint("p", i)
	switch {
	case !s.has[i]:
		err := s.addOne(name, i)
		s.has[i] = err == nil
		return err
	case rand.IntN(10) == 0:
		if err := s.crowd.Replace(i); err != nil {
			return err
		}
		s.has[i] = false
		s.deaths.Add(1)
		return s.gone(name)
	}
	s.has[i] = false
	s.deletes.Add(1)
	return s.d.Client.DeletePort(context.Background(), name)
}

func (s *soak) addOne(name string, i int, ips ...netip.Addr) error {
	_, err := s.d.Client.AddPort(context.Background(), api.PortRequest{
		Name: name, Network: "net1", Netns: s.crowd.Path(i), Type: portTypes[i%2], IPs: ips,
	})
	if err == nil {
		s.adds.Add(1)
	}
	return err
}

// gone waits until a port is no more.
func (s *soak) gone(name string) error { // the kernel ends namespaces one after the other, when others leave it time
	for deadline := time.Now().Add(3 * netnstest.Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var e *api.Error
		if _, err := s.d.Client.Port(context.Background(), name); errors.As(err, &e) && e.Code == api.CodeNotFound {
			return nil
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("port %s outlives its namespace", name)
}

// empty deletes all ports but a and b.
func (s *soak) empty() {
	s.t.Helper()
	err := atOnce(len(s.has), soakCallers, func(i int) error {
		if !s.has[i] {
			return nil
		}
		s.has[i] = false
		return s.d.Client.DeletePort(context.Background(), fmt.Sprint("p", i))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.d.Client.Close()
}

// belongings are what the daemon has, and its keeper.
type belongings struct {
	fds, routines, memory         int // memory in KiB
	taps, kept, links, sockets    int
	ports, interfaces, namespaces int // namespaces as far as the daemon holds them
}

func (b belongings) String() string {
	return fmt.Sprintf("%d file descriptors, %d goroutines, %d KiB; %d TAPs, %d kept; %d interfaces and %d sockets in the private namespace; %d ports; %d interfaces in the crowd; %d namespaces held",
		b.fds, b.routines, b.memory, b.taps, b.kept, b.links, b.sockets, b.ports, b.interfaces, b.namespaces)
}

func (s *soak) count() (b belongings) {
	s.t.Helper()
	ports, err := s.d.Client.Ports(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.d.Client.Close()
	b.ports, b.interfaces = len(ports), s.crowd.Interfaces()
	b.taps, b.kept, b.links, b.sockets = devices(s.d)
	b.namespaces, _ = openFiles(s.d.PID(), "net:[")
	b.fds, b.routines, b.memory = s.d.FDs(), goroutines(s.t, s.d), resident(s.t, s.d)
	return b
}

// wantNothing waits until the daemon has no more than before.
func (s *soak) wantNothing(before belongings) {
	s.t.Helper()
	var now belongings
	less := func() bool {
		now = s.count()
		return now.fds <= before.fds && now.routines <= before.routines && now.memory <= before.memory+16<<10 &&
			now.taps == before.taps && now.kept == before.kept && now.links == before.links && now.sockets == before.sockets &&
			now.ports == before.ports && now.interfaces == before.interfaces && now.namespaces <= before.namespaces
	}
	gone := less()
	for deadline := time.Now().Add(netnstest.Patience); !gone && time.Now().Before(deadline); gone = less() {
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Logf("after:  %s", now)
	if !gone {
		s.t.Errorf("something is left; before: %s", before)
	}
}

// wantAllFree takes every name once more, and the first addresses.
func (s *soak) wantAllFree() {
	s.t.Helper()
	first := min(len(s.has), 200)
	err := atOnce(first, soakCallers, func(i int) error {
		s.has[i] = true
		return s.addOne(fmt.Sprint("p", i), i, netip.AddrFrom4([4]byte{10, 9, 0, byte(4 + i)}))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	err = atOnce(len(s.has)-first, soakCallers, func(i int) error { // after those that ask for addresses, or they would get them
		i += first
		s.has[i] = true
		return s.addOne(fmt.Sprint("p", i), i)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.empty()
}
