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

// maxGone is how many ports may die at once without one being forgotten: all that there can be.
const maxGone = 1 << 16

// tellGone takes a worker's word that a port's device died. It must not block.
func (s *Switch) tellGone(id packet.PortID) {
	select {
	case s.gone <- id:
	default:
		s.log.Error("more ports died at once than there can be")
	}
}

// watch follows the port's interface; that of a veth is followed also by our end.
func (s *Switch) watch(e *endpoint, ns *link.Namespace) {
	s.unwatch(e)
	remove, err := s.watcher.Add(ns)
	if err != nil {
		s.log.Warn("watch a namespace; a port's state may be shown wrong", "port", e.port.Name, "err", err)
		return
	}
	s.mu.Lock()
	e.unwatch = remove
	s.mu.Unlock()
}

func (s *Switch) unwatch(e *endpoint) {
	s.mu.Lock()
	remove := e.unwatch
	e.unwatch = nil
	s.mu.Unlock()
	if remove != nil {
		remove()
	}
}

// reap removes ports whose device or namespace died.
func (s *Switch) reap(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-s.gone:
			s.buryGone(id)
		case <-tick.C:
			s.pollPinned()
			s.checkKept()
		}
	}
}

// checkKept looks whether what the next start needs is still there, and tells when it can't be put back. Only reap calls it.
func (s *Switch) checkKept() {
	s.fds.Check()
	trouble := ""
	if err := s.store.Check(); err != nil {
		trouble = err.Error()
	}
	if trouble == s.trouble {
		return
	}
	s.trouble = trouble
	if trouble == "" {
		s.log.Info("the state is in its place again")
		return
	}
	s.log.Error("nothing can be changed, for it could not be kept; traffic goes on", "err", trouble)
	s.events.Publish("state.error", "", trouble)
}

// buryGone removes the port whose device is gone. A verb under way may just be about to enter it: it is waited for.
func (s *Switch) buryGone(id packet.PortID) {
	s.verb.Lock()
	defer s.verb.Unlock()
	s.mu.RLock()
	e := s.byID[id]
	s.mu.RUnlock()
	if e != nil {
		s.bury(e, "its interface or namespace is no more")
	}
}

// pollPinned looks after namespaces that nobody will report dead, because our file descriptor is the last that holds them.
func (s *Switch) pollPinned() {
	s.verb.Lock()
	defer s.verb.Unlock()
	s.mu.RLock()
	var pinned []*endpoint
	for _, e := range s.ports {
		if e.pins {
			pinned = append(pinned, e)
		}
	}
	s.mu.RUnlock()
	for _, e := range pinned {
		if at, err := link.Identify(e.port.Netns.Path); err == nil && at == e.ns {
			continue
		}
		path, ok := link.FindNetns(e.ns)
		if !ok {
			s.bury(e, "its namespace was deleted")
			continue
		}
		ref := *e.port.Netns
		ref.Path = path
		s.mu.Lock()
		e.port.Netns = &ref
		s.mu.Unlock()
		s.save(e)
	}
}

// bury removes a port that died: its names and addresses are free again. Callers hold verb.
func (s *Switch) bury(e *endpoint, why string) {
	s.remove(e)
	s.log.Info("port is gone", "port", e.port.Name, "why", why)
	s.events.Publish("port.gone", e.port.Name, why+"; its names and addresses are free again")
}

// linkEvent takes the kernel's news of an interface. It runs on the watcher's goroutine, and not while a verb changes
// something: that would not yet know, or no more, what the news is about.
func (s *Switch) linkEvent(ev link.Event) {
	s.verb.Lock()
	defer s.verb.Unlock()
	switch ev.Kind {
	case link.LinkChanged:
		if e := s.endpointByHostIf(ev); e != nil {
			s.lookCarrier(e.dev)
		} else if e := s.endpointAt(ev); e != nil {
			s.linkChanged(e, ev.Link)
		}
	case link.LinkRemoved:
		if e := s.endpointByHostIf(ev); e != nil {
			if s.isGone(e) { // else the news is of the pair before, which had the same number
				s.bury(e, "its veth pair was deleted or its namespace died")
			}
		} else if e := s.endpointAt(ev); e != nil {
			s.follow(e)
		}
	case link.NamespaceDied: // TAPs report EPOLLERR, veths LinkRemoved in the private namespace
	case link.EventsLost:
		s.log.Warn("the kernel dropped news of interfaces; all are looked at again")
		s.lookAgain()
	}
}

func (s *Switch) linkChanged(e *endpoint, st link.State) {
	s.mu.Lock()
	wasDown, oldName := e.down, e.port.IfName
	e.down = !st.Up
	e.port.IfName = st.Name
	s.mu.Unlock()
	if wasDown != e.down && !e.port.NoConfig && !e.port.Stage {
		state := map[bool]string{true: "down", false: "up"}[e.down]
		s.events.Publish("port."+state, e.port.Name, fmt.Sprintf("interface %s was set %s", st.Name, state))
	}
	if oldName != st.Name {
		s.events.Publish("port.renamed", e.port.Name, fmt.Sprintf("interface %s is now called %s", oldName, st.Name))
		s.save(e)
	}
}

// follow finds an interface that left its namespace: its new owner may have taken a staged port, somebody moved it, or it was
// deleted.
func (s *Switch) follow(e *endpoint) {
	if s.isGone(e) {
		return // a worker tells of a TAP, the private namespace of a veth
	}
	was := e.ns
	s.locate(e)
	if e.ns != was {
		s.events.Publish("port.moved", e.port.Name, fmt.Sprintf("interface %s is now in another namespace", e.port.IfName))
	}
}

func (s *Switch) isGone(e *endpoint) bool {
	if e.dev.kind == api.PortVeth {
		_, err := link.LookupIndex(s.private, e.dev.index)
		return err != nil
	}
	ns, _, err := link.WhereIs(e.dev.fd)
	if err == nil {
		ns.Close()
	}
	return err != nil
}

// lookAgain makes up for news that were lost.
func (s *Switch) lookAgain() {
	s.mu.RLock()
	all := make([]*endpoint, 0, len(s.ports))
	for _, e := range s.ports {
		if e.dev != nil {
			all = append(all, e)
		}
	}
	s.mu.RUnlock()
	for _, e := range all {
		if s.isGone(e) {
			s.bury(e, "its interface or namespace is no more")
		} else {
			s.lookCarrier(e.dev)
			s.locate(e)
		}
	}
}

// endpointAt finds the port whose interface an event is about.
func (s *Switch) endpointAt(ev link.Event) *endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.index == ev.Link.Index && e.ns == ev.Namespace && e.dev != nil {
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
