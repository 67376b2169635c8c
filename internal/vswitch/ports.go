package vswitch

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
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
	err := api.Errorf(api.CodeConflict, "port %s already exists on network %s; delete it first or choose another name", p.Name, cmp.Or(p.Network, "none"))
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

// plan turns a request into a port beside those of st, defaults filled in but for its addresses, and opens the namespace it goes
// into. Callers hold verb, or share it when st is the state at work.
func (s *Switch) plan(st *state, n *network, r *api.PortRequest) (*api.Port, *link.Namespace, error) {
	if err := checkPortRequest(n, r); err != nil {
		return nil, nil, err
	}
	if err := checkIfName(r.IfName, nil); err != nil {
		return nil, nil, err
	}
	if err := s.checkFiles(); err != nil {
		return nil, nil, err
	}
	p := portOf(&n.Network, r)
	if r.Stage || r.Type == api.PortHost {
		if r.Stage && r.IfName == "" {
			p.IfName = link.DeviceName(p.ID)
		}
		ns, err := link.Host()
		return p, ns, err
	}
	path, err := s.netnsPath(st, r)
	if err != nil {
		return nil, nil, err
	}
	ns, err := link.OpenNetns(path)
	if err != nil {
		return nil, nil, err
	}
	id := ns.ID()
	if id == s.private.ID() {
		ns.Close()
		return nil, nil, api.Errorf(api.CodeInvalid, "that is the daemon's own namespace; name a container's")
	}
	spec := r.Netns
	if spec == "" {
		spec = fmt.Sprint(r.PID)
	}
	p.Netns = &api.NetnsRef{Spec: spec, Path: path, Dev: id.Dev, Inode: id.Inode}
	return p, ns, nil
}

// portOf turns a request into a port of the network, defaults filled in, that is nowhere yet and has no addresses.
func portOf(n *api.Network, r *api.PortRequest) *api.Port {
	p := &api.Port{
		ID: newID(), Name: r.Name, Network: r.Network, Type: cmp.Or(r.Type, api.PortTAP), Stage: r.Stage,
		IfName: cmp.Or(r.IfName, "eth0"), MTU: cmp.Or(r.MTU, n.MTU), VLAN: r.VLAN, Trunk: r.Trunk, Native: r.Native,
		Isolated: r.Isolated, MACLimit: r.MACLimit, SourceGuard: r.SourceGuard, Storm: meters(nil, r.Storm), NoConfig: r.NoConfig,
		DefaultRoute: cmp.Or(r.DefaultRoute, "auto"), Metric: r.Metric, Routes: r.Routes, Aliases: r.Aliases, Publish: r.Publish, Labels: r.Labels,
	}
	if p.Type == api.PortHost {
		p.IfName, p.DefaultRoute = cmp.Or(r.IfName, hostIfName(p)), cmp.Or(r.DefaultRoute, "no")
	}
	return p
}

// hostIfName is how the interface of a port of the host is called unless somebody says: as the port, where an interface may be.
func hostIfName(p *api.Port) string {
	if api.CheckIfName(p.Name) != nil {
		return link.DeviceName(p.ID)
	}
	return p.Name
}

// netnsPath resolves --netns and --pid.
func (s *Switch) netnsPath(st *state, r *api.PortRequest) (string, error) {
	other, ok := strings.CutPrefix(r.Netns, "container:")
	if !ok {
		return link.ResolveSpec(r.Netns, r.PID)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := st.ports[other]
	if e == nil {
		return "", noPort(other)
	}
	if e.port.Netns == nil && e.port.Type == api.PortHost {
		return "", api.Errorf(api.CodeInvalid, "port %s is the host's own: give others there type host", other)
	}
	if e.port.Netns == nil {
		return "", api.Errorf(api.CodeInvalid, "port %s is staged: its namespace is not known yet", other)
	}
	return e.port.Netns.Path, nil
}

// assign gives the port its addresses and MAC.
func (st *state) assign(n *network, p *api.Port, r *api.PortRequest) error {
	if !r.NoIP {
		var err error
		if p.IPs, err = n.pools.Assign(p.Name, r.IPs, time.Now()); err != nil {
			return err
		}
	}
	mac, err := ipam.ChooseMAC(r.MAC, p.IPs, rand.Reader)
	if err == nil {
		p.MAC = macString(mac)
		err = st.checkMAC(n, p)
	}
	if err != nil {
		n.release(p)
	}
	return err
}

// checkMAC refuses a MAC that another port of the network has.
func (st *state) checkMAC(n *network, p *api.Port) error {
	taken := func(by string) error {
		err := api.Errorf(api.CodeConflict, "MAC %s belongs to port %s of the same network; choose another with --mac", p.MAC, by)
		err.Object = by
		return err
	}
	for name, other := range st.arriving {
		if n != nil && other.Network == n.Name && other.MAC == p.MAC {
			return taken(name)
		}
	}
	for _, e := range st.ports {
		if e.net == n && n != nil && e.port.MAC == p.MAC && e.port.ID != p.ID {
			return taken(e.port.Name)
		}
	}
	return nil
}
