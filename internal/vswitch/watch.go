package vswitch

import (
	"fmt"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/port/veth"
)

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
	if wasDown == st.Up {
		s.forgetNeighbor(e)
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
