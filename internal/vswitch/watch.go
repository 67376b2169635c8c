package vswitch

import (
	"context"
	"fmt"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/packet"
)

// pollInterval is how often namespaces are looked at that our own file descriptor keeps alive.
const pollInterval = time.Second

// tellGone takes a worker's word that a port's device died. It must not block; when the queue is full the port is found
// later, by the poll.
func (s *Switch) tellGone(id packet.PortID) {
	select {
	case s.gone <- id:
	default:
		s.log.Warn("more ports died at once than the queue holds")
	}
}

// watch follows the port's interface; that of a veth is followed also by our end.
func (s *Switch) watch(e *endpoint, ns *link.Namespace) {
	remove, err := s.watcher.Add(ns)
	if err != nil {
		s.log.Warn("watch a namespace; a port's state may be shown wrong", "port", e.port.Name, "err", err)
		return
	}
	e.unwatch = remove
}

func (s *Switch) unwatch(e *endpoint) {
	if e.unwatch != nil {
		e.unwatch()
		e.unwatch = nil
	}
}

// reap removes ports whose device or namespace died, and keeps track of interfaces that are set down or renamed.
func (s *Switch) reap(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-s.gone:
			if e := s.endpointByID(id); e != nil {
				s.bury(e.port.ID, "its interface or namespace is no more")
			}
		case <-tick.C:
			s.pollPinned()
		}
	}
}

// pollPinned looks after namespaces that nobody will report dead, because our file descriptor is the last that holds them.
func (s *Switch) pollPinned() {
	s.mu.RLock()
	var dead []string
	for _, e := range s.ports {
		if !e.pins || e.port.Netns == nil {
			continue
		}
		r := e.port.Netns
		if id, err := link.Identify(r.Path); err != nil || id != (link.NamespaceID{Dev: r.Dev, Inode: r.Inode}) {
			dead = append(dead, e.port.ID)
		}
	}
	s.mu.RUnlock()
	for _, id := range dead {
		s.bury(id, "its namespace was deleted")
	}
}

// bury removes a port that died: its names and addresses are free again.
func (s *Switch) bury(portID, why string) {
	s.verb.Lock()
	defer s.verb.Unlock()
	e := s.endpointByPortID(portID)
	if e == nil {
		return
	}
	s.remove(e)
	s.log.Info("port is gone", "port", e.port.Name, "why", why)
	s.events.Publish("port.gone", e.port.Name, why+"; its names and addresses are free again")
}

// linkEvent takes the kernel's news of an interface. It runs on the watcher's goroutine.
func (s *Switch) linkEvent(ev link.Event) {
	switch ev.Kind {
	case link.LinkChanged:
		s.linkChanged(ev)
	case link.LinkRemoved:
		if e := s.endpointByHostIf(ev); e != nil {
			s.bury(e.port.ID, "its veth pair was deleted or its namespace died")
			return
		}
		if e := s.endpointAt(ev); e != nil && e.dev != nil && e.port.Type == api.PortTAP {
			s.follow(e)
		}
	case link.NamespaceDied: // TAPs report EPOLLERR, veths LinkRemoved in the private namespace
	case link.EventsLost:
		s.log.Warn("the kernel dropped news of interfaces; states may be stale")
	}
}

func (s *Switch) linkChanged(ev link.Event) {
	e := s.endpointAt(ev)
	if e == nil {
		return
	}
	s.mu.Lock()
	wasDown, oldName := e.down, e.port.IfName
	e.down = !ev.Link.Up
	e.port.IfName = ev.Link.Name
	s.mu.Unlock()
	if wasDown != e.down && !e.port.NoConfig && !e.port.Stage {
		state := map[bool]string{true: "down", false: "up"}[e.down]
		s.events.Publish("port."+state, e.port.Name, fmt.Sprintf("interface %s was set %s", ev.Link.Name, state))
	}
	if oldName != ev.Link.Name {
		s.events.Publish("port.renamed", e.port.Name, fmt.Sprintf("interface %s is now called %s", oldName, ev.Link.Name))
		s.save(e)
	}
}

// follow finds a TAP that left its namespace: its new owner may have taken a staged port, or it was deleted.
func (s *Switch) follow(e *endpoint) {
	s.verb.Lock()
	defer s.verb.Unlock()
	if s.endpointByPortID(e.port.ID) == nil {
		return
	}
	ns, st, err := link.WhereIs(e.dev.fd)
	if err != nil {
		return // deleted: the worker tells
	}
	defer ns.Close()
	s.unwatch(e)
	s.settle(e, ns, st)
	s.watch(e, ns)
	s.save(e)
	s.events.Publish("port.moved", e.port.Name, fmt.Sprintf("interface %s is now in another namespace", st.Name))
}

// endpointAt finds the port whose interface an event is about.
func (s *Switch) endpointAt(ev link.Event) *endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.index == ev.Link.Index && e.ns == ev.Namespace {
			return e
		}
	}
	return nil
}

// endpointByHostIf finds the veth port whose end in the private namespace an event is about.
func (s *Switch) endpointByHostIf(ev link.Event) *endpoint {
	if ev.Namespace != s.private.ID() {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.dev != nil && e.dev.kind == api.PortVeth && e.dev.index == ev.Link.Index {
			return e
		}
	}
	return nil
}

func (s *Switch) endpointByID(id packet.PortID) *endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

func (s *Switch) endpointByPortID(id string) *endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.port.ID == id {
			return e
		}
	}
	return nil
}
