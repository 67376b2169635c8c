package vswitch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/store"
	"vswitch/nat"
)

// AddPort attaches a new port: its record is on disk before its device is made, and again before the answer. After an error
// nothing is left of it.
func (s *Switch) AddPort(_ context.Context, r api.PortRequest) (api.Port, error) {
	s.verb.RLock()
	defer s.verb.RUnlock()
	defer s.claims.take(r.Name)()
	if e, err := s.endpoint(r.Name); err == nil {
		if r.MayExist {
			return s.describe(&e), s.samePort(&s.state, &e.port, &r)
		}
		return api.Port{}, portExists(&e.port)
	}
	n, err := s.network(r.Network)
	if err != nil {
		return api.Port{}, err
	}
	p, target, err := s.plan(&s.state, n, &r)
	if err != nil {
		return api.Port{}, err
	}
	defer target.Close()
	if err := s.fail.at("add.planned"); err != nil {
		return api.Port{}, err
	}
	published, err := s.reserve(n, p, &r)
	if err != nil {
		return api.Port{}, err
	}
	defer s.arrived(p)
	var e *endpoint
	if _, err = s.listen(published); err == nil {
		s.observe(nil, published)
		e, err = s.establish(n, p, target)
	}
	if err != nil {
		s.repost(p.Name, nil)
		n.release(p)
		return api.Port{}, err
	}
	s.publishAdded(e)
	return s.describe(e), nil
}

// reserve gives the port its addresses, MAC and published ports, before others that arrive beside it. It returns what it publishes.
func (s *Switch) reserve(n *network, p *api.Port, r *api.PortRequest) ([]*nat.Publication, error) {
	v := s.viewFrom(n, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.assign(n, p, r); err != nil {
		return nil, err
	}
	list, err := s.post(v, n, p)
	if err != nil {
		n.release(p)
		return nil, err
	}
	s.enforce(p.Name, list)
	s.arriving[p.Name] = p
	return list, nil
}

// arrived ends what reserve began, for better or worse.
func (s *Switch) arrived(p *api.Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.arriving, p.Name)
}

func (s *Switch) publishAdded(e *endpoint) {
	p := &e.port
	s.events.Publish("port.added", p.Name, fmt.Sprintf("on network %s as %s, %s", p.Network, p.IfName, p.MAC))
}

// establish makes the port durable and real.
func (s *Switch) establish(n *network, p *api.Port, target *link.Namespace) (*endpoint, error) {
	if err := s.store.PutPort(store.PortRecord{Port: *p, Phase: store.PhaseAdding}); err != nil {
		return nil, err
	}
	e, err := s.realize(n, p, target)
	if err != nil {
		if derr := s.store.DeletePort(p.ID); derr != nil {
			s.log.Warn("forget a port that could not be attached; the next start will", "port", p.Name, "err", derr)
		}
		return nil, err
	}
	s.enter(e)
	return e, nil
}

// realize makes the port real, and then says so in its record.
func (s *Switch) realize(n *network, p *api.Port, target *link.Namespace) (*endpoint, error) {
	if err := s.fail.at("add.recorded"); err != nil {
		return nil, err
	}
	e, err := s.attach(n, p, target)
	if err != nil {
		return nil, err
	}
	if err = s.fail.at("add.attached"); err == nil {
		err = s.store.PutPort(store.PortRecord{Port: *p, Phase: store.PhasePresent})
	}
	if err != nil {
		s.detach(e)
		return nil, err
	}
	s.passing("add.present")
	return e, nil
}

// enter makes the endpoint known to the verbs, and asks whether it has brought a loop.
func (s *Switch) enter(e *endpoint) {
	s.mu.Lock()
	s.ports[e.port.Name] = e
	if e.net != nil {
		e.net.count++
	}
	s.mu.Unlock()
	s.portUp(e)
}

// DeletePort detaches a port and removes its interface.
func (s *Switch) DeletePort(_ context.Context, name string) error {
	s.verb.RLock()
	defer s.verb.RUnlock()
	defer s.claims.take(name)()
	s.mu.RLock()
	e := s.ports[name]
	s.mu.RUnlock()
	if e == nil {
		return noPort(name)
	}
	if err := s.fail.at("delete.found"); err != nil {
		return err
	}
	if err := s.store.PutPort(store.PortRecord{Port: e.port, Phase: store.PhaseDeleting}); err != nil {
		return err
	}
	s.passing("delete.recorded")
	s.remove(e)
	s.passing("delete.done")
	s.events.Publish("port.deleted", name, "from network "+cmp.Or(e.port.Network, "none"))
	return nil
}

// leave makes the endpoint unknown to the verbs: enter's undo.
func (s *Switch) leave(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ports, e.port.Name)
	delete(s.byID, e.id)
	if e.net != nil {
		e.net.count--
	}
}

// remove detaches the port and forgets it. Callers hold verb, or a claim to the port.
func (s *Switch) remove(e *endpoint) {
	s.leave(e)
	s.repost(e.port.Name, nil)
	s.detach(e)
	s.dropRules(e.port.Name)
	e.net.release(&e.port)
	if err := s.store.DeletePort(e.port.ID); err != nil {
		s.log.Error("delete a port's record; the next start will finish it", "port", e.port.Name, "err", err)
	}
}

// save writes the port's record after its interface was moved or renamed.
func (s *Switch) save(e *endpoint) {
	if err := s.store.PutPort(store.PortRecord{Port: e.port, Phase: store.PhasePresent}); err != nil {
		s.log.Error("save a port's record", "port", e.port.Name, "err", err)
	}
}

// Ports lists all ports by network and name.
func (s *Switch) Ports(context.Context) ([]api.Port, error) {
	out := []api.Port{}
	for _, e := range s.endpoints() {
		out = append(out, s.describe(&e))
	}
	return out, nil
}

// Port returns one port.
func (s *Switch) Port(_ context.Context, name string) (api.Port, error) {
	e, err := s.endpoint(name)
	if err != nil {
		return api.Port{}, err
	}
	return s.describe(&e), nil
}

// endpoint returns a copy of what is known of a port.
func (s *Switch) endpoint(name string) (endpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.ports[name]; e != nil {
		return *e, nil
	}
	return endpoint{}, noPort(name)
}

// endpoints returns copies of all, by network and name.
func (s *Switch) endpoints() []endpoint {
	s.mu.RLock()
	all := make([]endpoint, 0, len(s.ports))
	for _, e := range s.ports {
		all = append(all, *e)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b endpoint) int {
		return cmp.Or(strings.Compare(a.port.Network, b.port.Network), strings.Compare(a.port.Name, b.port.Name))
	})
	return all
}

func portExists(p *api.Port) error {
	err := api.Errorf(api.CodeConflict, "port %s already exists on network %s: choose another name, or take what there is with --may-exist", p.Name, cmp.Or(p.Network, "none"))
	err.Object = p.Name
	return err
}

func noPort(name string) error {
	return api.Errorf(api.CodeNotFound, "no port %.70q; 'vsctl list-ports' names those there are", name)
}

// describe adds the status.
func (s *Switch) describe(e *endpoint) api.Port {
	p := e.port
	at := s.path.PortState(e.id)
	p.Status = api.PortStatus{State: api.StateUp, Error: e.err, Ifindex: e.index, Worker: at.Worker, Slow: at.Slow}
	switch {
	case at.Err != nil:
		p.Status.State, p.Status.Error = api.StateError, "it is not read for now: "+at.Err.Error()
	case e.dev == nil:
		p.Status.State = api.StateError
	case p.Network == "":
		p.Status.State = api.StateDisconnected
	case p.Stage:
		p.Status.State = api.StateStaged
	case e.down:
		p.Status.State = api.StateDown
	default:
		if why := s.blockedBy(e); why != "" {
			p.Status.State, p.Status.Error = api.StateBlocked, why
		}
	}
	if e.dev != nil {
		p.Status.Offloads = offloadText(e.dev.offload)
		p.Status.HostIf = e.dev.hostIf
	}
	return p
}
