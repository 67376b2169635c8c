package link_test

import (
	"context"
	"sync"
	"testing"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

// heard collects a watcher's events.
type heard struct {
	mu   sync.Mutex
	list []link.Event
}

// until waits for an event for which ok holds.
func (h *heard) until(t *testing.T, what string, ok func(link.Event) bool) {
	t.Helper()
	linktest.Eventually(t, what, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.list {
			if ok(e) {
				return true
			}
		}
		return false
	})
}

func watch(t *testing.T, private *link.Namespace) (*link.Watcher, *heard) {
	t.Helper()
	w, err := link.NewWatcher(private)
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- w.Run(ctx, func(e link.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.list = append(h.list, e)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, h
}

func TestWatcher(t *testing.T) {
	private, ns, other := linktest.Private(t), linktest.Namespace(t), linktest.Namespace(t)
	w, events := watch(t, private)
	for _, n := range []*link.Namespace{ns, other} {
		if _, err := w.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	pair, _ := createVeth(t, private, ns)
	if err := link.SetVethCarrier(private, pair.Index, true); err != nil {
		t.Fatal(err)
	}
	at := func(n *link.Namespace, kind link.EventKind, is func(link.State) bool) func(link.Event) bool {
		id := n.ID()
		return func(e link.Event) bool { return e.Kind == kind && e.Namespace == id && is(e.Link) }
	}
	events.until(t, "our end up", at(private, link.LinkChanged, func(s link.State) bool { return s.Name == pair.Name && s.Up && !s.Carrier }))
	events.until(t, "the other end new", at(ns, link.LinkChanged, func(s link.State) bool { return s.Name == "eth0" && !s.Up }))
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "up")
	events.until(t, "up", at(ns, link.LinkChanged, func(s link.State) bool { return s.Name == "eth0" && s.Up }))
	events.until(t, "carrier", at(private, link.LinkChanged, func(s link.State) bool { return s.Name == pair.Name && s.Carrier }))
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "down")
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "name", "eth5")
	events.until(t, "renamed", at(ns, link.LinkChanged, func(s link.State) bool { return s.Name == "eth5" && s.Index == pair.PeerIndex() }))
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth5", "netns", other.String())
	events.until(t, "moved away", at(ns, link.LinkRemoved, func(s link.State) bool { return s.Index == pair.PeerIndex() }))
	events.until(t, "moved there", at(other, link.LinkChanged, func(s link.State) bool { return s.Name == "eth5" }))

	// Nothing of the watcher keeps a namespace alive.
	id := other.ID()
	linktest.Kill(t, other)
	events.until(t, "death", func(e link.Event) bool { return e.Kind == link.NamespaceDied && e.Namespace == id })
	events.until(t, "our end removed", at(private, link.LinkRemoved, func(s link.State) bool { return s.Name == pair.Name }))
}

// TestWatcherReuse lets namespaces follow each other so fast that each gets the nsid of the one before.
func TestWatcherReuse(t *testing.T) {
	private := linktest.Private(t)
	w, events := watch(t, private)
	for range 10 {
		ns := linktest.Namespace(t)
		remove, err := w.Add(ns)
		if err != nil {
			t.Fatal(err)
		}
		linktest.IP(t, "-n", ns.String(), "link", "set", "lo", "up")
		id := ns.ID()
		events.until(t, "lo up", func(e link.Event) bool { return e.Namespace == id && e.Link.Name == "lo" && e.Link.Up })
		events.mu.Lock()
		events.list = nil // the next may have the same inode
		events.mu.Unlock()
		linktest.Kill(t, ns)
		events.until(t, "death", func(e link.Event) bool { return e.Kind == link.NamespaceDied && e.Namespace == id })
		remove()
		remove()
	}
}

func TestWatcherRemove(t *testing.T) {
	private, ns, last := linktest.Private(t), linktest.Namespace(t), linktest.Namespace(t)
	w, events := watch(t, private)
	var removes []func()
	for _, n := range []*link.Namespace{ns, ns, last} {
		remove, err := w.Add(n)
		if err != nil {
			t.Fatal(err)
		}
		removes = append(removes, remove)
	}
	removes[0]()
	removes[0]()
	up := func(n *link.Namespace) func(link.Event) bool {
		return func(e link.Event) bool { return e.Namespace == n.ID() && e.Link.Up }
	}
	linktest.IP(t, "-n", ns.String(), "link", "set", "lo", "up")
	events.until(t, "an event while one Add is left", up(ns))
	removes[1]()
	linktest.IP(t, "-n", last.String(), "link", "set", "lo", "up")
	events.until(t, "an event of the other", up(last)) // what was heard before has been reported, too
	events.mu.Lock()
	events.list = nil
	events.mu.Unlock()
	linktest.IP(t, "-n", ns.String(), "link", "set", "lo", "down")
	linktest.IP(t, "-n", last.String(), "link", "set", "lo", "down")
	events.until(t, "another event of the other", func(e link.Event) bool { return e.Namespace == last.ID() && !e.Link.Up })
	events.mu.Lock()
	defer events.mu.Unlock()
	for _, e := range events.list {
		if e.Namespace == ns.ID() {
			t.Errorf("event after remove: %+v", e)
		}
	}
}
