package vswitch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port/veth"
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
			if s.isHost(id) {
				s.hostPort.Wake()
			}
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

// buryGone removes the port whose device is gone, and all others of which that is known by now.
func (s *Switch) buryGone(id packet.PortID) {
	ids := []packet.PortID{id}
	for more := true; more; {
		select {
		case id = <-s.gone:
			ids = append(ids, id)
		default:
			more = false
		}
	}
	slices.Sort(ids)
	_ = abreast(slices.Compact(ids), func(id packet.PortID) error {
		s.mu.RLock()
		e := s.byID[id]
		s.mu.RUnlock()
		if e == nil {
			s.verb.Lock()
			defer s.verb.Unlock()
			s.remakeUplink(id)
			return nil
		}
		s.withPort(e, func() {
			// The news of a veth may be of an earlier pair, which had the same number.
			if e.dev.kind == api.PortTAP || s.isGone(e) {
				s.bury(e, "its interface or namespace is no more")
			}
		})
		return nil
	})
}

// pollPinned looks after namespaces that nobody will report dead, because our file descriptor is the last that holds them.
func (s *Switch) pollPinned() {
	if len(s.pinned()) == 0 {
		return
	}
	s.verb.Lock()
	defer s.verb.Unlock()
	for _, e := range s.pinned() {
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

func (s *Switch) pinned() (list []*endpoint) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		if e.pins {
			list = append(list, e)
		}
	}
	return list
}

// bury removes a port that died: its names and addresses are free again. Callers hold verb, or a claim to the port.
func (s *Switch) bury(e *endpoint, why string) {
	s.remove(e)
	s.log.Info("port is gone", "port", e.port.Name, "why", why)
	s.events.Publish("port.gone", e.port.Name, why+"; its names and addresses are free again")
}

// linkEvent takes the kernel's news of an interface. It runs on the watcher's goroutine. Most news is of what verbs do, and
// known by now. What is not waits for those who work on the port: they would not yet know, or no more, what it is about.
func (s *Switch) linkEvent(ev link.Event) {
	switch ev.Kind {
	case link.LinkChanged:
		if !s.isNews(ev) {
			return
		}
		s.withPortAt(ev, func(e *endpoint, host bool) {
			if host {
				s.lookCarrier(e.dev)
			} else {
				s.lookLink(e, ev)
			}
		})
	case link.LinkRemoved:
		if e, host := s.endpointAt(ev); host {
			s.tellGone(e.id)
			return
		}
		s.withPortAt(ev, func(e *endpoint, _ bool) { s.follow(e) })
	case link.NamespaceDied: // TAPs report EPOLLERR, veths LinkRemoved in the private namespace
	case link.EventsLost:
		s.verb.Lock()
		defer s.verb.Unlock()
		s.log.Warn("the kernel dropped news of interfaces; all are looked at again")
		s.lookAgain()
	}
}

// withPortAt is withPort for the port whose interface an event is about. host says that it is the switch's end of a veth.
func (s *Switch) withPortAt(ev link.Event, f func(e *endpoint, host bool)) {
	e, _ := s.endpointAt(ev)
	if e == nil {
		return
	}
	s.withPort(e, func() {
		if at, host := s.endpointAt(ev); at == e {
			f(e, host)
		}
	})
}

// isNews tells whether an interface of a port is not as we know it.
func (s *Switch) isNews(ev link.Event) bool {
	e, host := s.endpointAt(ev)
	if e == nil {
		return false
	}
	if host {
		v, ok := e.dev.port.(*veth.Veth)
		return ok && v.Carrier() != ev.Link.Carrier
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return e.down == ev.Link.Up || e.port.IfName != ev.Link.Name
}

// lookLink notes how an interface is now: what the event tells may be of before we looked last.
func (s *Switch) lookLink(e *endpoint, ev link.Event) {
	st, err := s.watcher.Lookup(ev.Namespace, ev.Link.Index)
	if err == nil { // else it is gone from there, and that is the next event
		s.linkChanged(e, st)
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
	if wasDown && st.Up {
		s.portUp(e)
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

// endpointAt finds the port whose interface an event is about. host says that it is the switch's end of a veth.
func (s *Switch) endpointAt(ev link.Event) (e *endpoint, host bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e = s.places[place{ev.Namespace, ev.Link.Index}]
	return e, e != nil && ev.Namespace == s.private.ID()
}

// placeAt notes where the port's interface is; at zero it is nowhere.
func (s *Switch) placeAt(e *endpoint, ns link.NamespaceID, index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unplaceLocked(e, place{e.ns, e.index})
	e.ns, e.index = ns, index
	if index != 0 {
		s.places[place{ns, index}] = e
	}
}

// placeHost notes where the switch's end of a veth is.
func (s *Switch) placeHost(e *endpoint) {
	if e.dev.kind != api.PortVeth {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[place{s.private.ID(), e.dev.index}] = e
}

func (s *Switch) unplaceHost(e *endpoint) {
	if e.dev.kind != api.PortVeth {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unplaceLocked(e, place{s.private.ID(), e.dev.index})
}

func (s *Switch) unplaceLocked(e *endpoint, at place) {
	if s.places[at] == e {
		delete(s.places, at)
	}
}
