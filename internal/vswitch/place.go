package vswitch

import (
	"vswitch/internal/api"
	"vswitch/internal/link"
)

// place is where an interface is.
type place struct {
	ns    link.NamespaceID
	index int
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
