package vswitch

import (
	"context"
	"slices"
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
