package vswitch

import (
	"sync"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/machine"
)

// maxAbreast is how many ports are worked on at once where many come or go: most of their time they wait for grace periods of the
// kernel, which then pass for all of them together. Each occupies a thread, and up to filesEach file descriptors that are not its
// port's: two namespaces, the one that the thread came from, sockets.
const (
	maxAbreast = 64
	filesEach  = 6
)

// width returns how many ports are worked on at once: as many as the file descriptors suffice for that ports leave to the rest.
func width() int {
	limit, err := machine.OpenFiles()
	if err != nil {
		return 1
	}
	return max(1, min(maxAbreast, reserve(limit)/filesEach))
}

// abreast calls f for every element, many at once.
func abreast[T any](list []T, f func(T) error) error {
	var g errgroup.Group
	g.SetLimit(width())
	for _, x := range list {
		g.Go(func() error { return f(x) })
	}
	return g.Wait()
}

// claims are the names of ports that verbs work on, for verbs that hold Switch.verb only shared. The zero value is ready.
type claims struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when given back; guarded by mu
}

// take waits until no other verb has the name, and takes it until release.
func (c *claims) take(name string) (release func()) {
	mine := make(chan struct{})
	for {
		c.mu.Lock()
		other := c.taken[name]
		if other == nil {
			break
		}
		c.mu.Unlock()
		<-other
	}
	defer c.mu.Unlock()
	if c.taken == nil {
		c.taken = make(map[string]chan struct{})
	}
	c.taken[name] = mine
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.taken, name)
		close(mine)
	}
}

// withPort calls f while nobody else works on the port, unless it is no more by then.
func (s *Switch) withPort(e *endpoint, f func()) {
	s.verb.RLock()
	defer s.verb.RUnlock()
	name := e.port.Name
	defer s.claims.take(name)()
	s.mu.RLock()
	there := s.ports[name] == e
	s.mu.RUnlock()
	if there {
		f()
	}
}
