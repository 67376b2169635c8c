package vswitch

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/nat"
	"vswitch/router"
)

// Automatic ports are below those that Linux gives to connections of the host (net.ipv4.ip_local_port_range begins at 32768), and so below
// those that uplinks take for connections of the switch, too.
const (
	autoFirst = 20000
	autoLast  = 32767
)

// view is what publications depend on beyond the state.
type view struct {
	zone                uint16
	router              *router.Snapshot
	held                map[uint8]bpf.PortSet // of the host's own sockets, by protocol; nil: nothing is taken from them
	bound               map[uint8]bpf.PortSet // likewise, for automatic ports
	localLow, localHigh uint16                // ports that the host's kernel gives to connections: an automatic port is none of them, if that can be
}

// viewFrom looks for a port on network n that may publish something.
func (s *Switch) viewFrom(n *network, p *api.Port) (v view) {
	if n == nil || len(p.Publish) == 0 {
		return v
	}
	v.zone, v.router = s.zone(n.Router), s.router(n.Router).Snapshot()
	v.held = s.heldByHost(v.zone)
	if s.hostPort.Port != nil && slices.ContainsFunc(p.Publish, func(x api.Publish) bool { return x.HostPort == 0 }) {
		v.bound = make(map[uint8]bpf.PortSet)
		for proto := range steered {
			if ports, err := link.HeldPorts(s.host, proto); err == nil { // else the listener will tell
				v.bound[proto] = ports
			}
		}
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(b), &v.localLow, &v.localHigh)
	}
	if err != nil {
		s.log.Warn("read the range of the host's local ports", "err", err)
	}
	return v
}

// post returns what a port publishes as p has it, on network n, and gives automatic ports of p their numbers. What is published so already
// is the same object. It changes nothing of st: see enforce.
func (st *state) post(v view, n *network, p *api.Port) (list []*nat.Publication, err error) {
	if len(p.Publish) == 0 {
		return nil, nil
	}
	had := make(map[publicationKey]*nat.Publication)
	for _, q := range st.published[p.Name] {
		had[keyOf(q)] = q
	}
	p.Publish = slices.Clone(p.Publish)
	news := make(map[int]*nat.Publication) // by place in p.Publish
	for i := range p.Publish {
		x := &p.Publish[i]
		if err := mayPublish(n, p, x); err != nil {
			if !st.publishes(p.Name, x) {
				return nil, err
			}
			continue // it rests
		}
		q := publicationOf(v.zone, n, p, x)
		if old := had[keyOf(q)]; old != nil && old.Same(q) {
			delete(had, keyOf(q))
			list = append(list, old)
			continue
		}
		list, news[i] = append(list, q), q
	}
	trial := st.heard.Edit()
	for _, q := range had { // what goes is in nobody's way
		trial.Remove(q)
	}
	for _, i := range slices.Sorted(maps.Keys(news)) {
		q := news[i]
		if q.Low == 0 && !v.choose(trial, q) {
			return nil, api.Errorf(api.CodeExhausted, "no %d ports side by side from %d to %d are free: give port %s some, as HOSTPORT:PORT",
				int(q.High)+1, autoFirst, autoLast, p.Name)
		}
		if err := v.checkHeld(q); err != nil {
			return nil, err
		}
		if err := trial.Add(q); err != nil {
			return nil, st.conflict(err)
		}
		p.Publish[i].HostPort = q.Low
	}
	return list, nil
}

// publishes tells whether the port has x among what it publishes.
func (st *state) publishes(port string, x *api.Publish) bool {
	e := st.ports[port]
	return e != nil && slices.ContainsFunc(e.port.Publish, x.Equal)
}

// choose gives an automatic publication its ports, if there are any.
func (v view) choose(t *nat.Edit, q *nat.Publication) bool {
	n := int(q.High) + 1
	held, steered := v.held[q.Proto]
	if !steered {
		held = v.bound[q.Proto]
	}
	local := func(port uint16) bool { return port >= v.localLow && port <= v.localHigh || held.Has(port) }
	low, ok := t.Choose(*q, n, autoFirst, autoLast, local)
	if !ok {
		low, ok = t.Choose(*q, n, autoFirst, autoLast, held.Has)
	}
	q.Low, q.High = low, low+q.High
	return ok
}

// conflict tells users that a port is taken, and by whom.
func (st *state) conflict(err error) error {
	var c *nat.Conflict
	if !errors.As(err, &c) {
		return invalid("%v", err)
	}
	e := api.Errorf(api.CodeConflict, "%v", err)
	for name, list := range st.published {
		if slices.Contains(list, c.Other) {
			e.Object = name
		}
	}
	return e
}

// publicationKey names a publication among those of its port.
type publicationKey struct {
	addr   netip.Addr
	proto  uint8
	low    uint16
	toPort uint16

	ip4, ip6 bool // the families that it is published in: one port may be, of all addresses, in either by itself
}

func keyOf(q *nat.Publication) publicationKey {
	k := publicationKey{addr: q.Addr, proto: q.Proto, low: q.Low, toPort: q.ToPort}
	for _, a := range q.To {
		k.ip4, k.ip6 = k.ip4 || a.Is4(), k.ip6 || a.Is6()
	}
	return k
}

var protocols = map[string]uint8{api.ProtoTCP: packet.ProtoTCP, api.ProtoUDP: packet.ProtoUDP, api.ProtoSCTP: packet.ProtoSCTP}

// publicationOf is what the router does for x. Of an automatic one Low is 0.
func publicationOf(zone uint16, n *network, p *api.Port, x *api.Publish) *nat.Publication {
	q := &nat.Publication{
		Owner: fmt.Sprintf("port %s of network %s", p.Name, n.Name), Zone: zone, Proto: protocols[x.Proto],
		Low: x.HostPort, High: x.HostEnd(), To: targets(p, x), ToPort: x.Port, From: x.From,
	}
	if !x.HostIP.IsUnspecified() {
		q.Addr = x.HostIP
	}
	return q
}

// enforce makes the port publish what post returned, and returns what goes and comes by that. For the state at work callers hold mu.
func (st *state) enforce(name string, list []*nat.Publication) (gone, come []*nat.Publication) {
	gone, come = changesOf(st.published[name], list)
	_ = st.heard.Replace(gone, come) // post has found no conflict
	if len(list) > 0 {
		st.published[name] = list
	} else {
		delete(st.published, name)
	}
	return gone, come
}

func changesOf(was, is []*nat.Publication) (gone, come []*nat.Publication) {
	old := make(map[*nat.Publication]bool, len(was))
	for _, q := range was {
		old[q] = true
	}
	for _, q := range is {
		if !old[q] {
			come = append(come, q)
		}
		delete(old, q)
	}
	return slices.Collect(maps.Keys(old)), come
}

// republished returns what the ports of network n, whose object at work is live, publish when it is changed to be n.
func (s *Switch) republished(live, n *network) (map[string][]*nat.Publication, error) {
	all := make(map[string][]*nat.Publication)
	for name, e := range s.ports {
		if e.net != live || len(e.port.Publish) == 0 {
			continue
		}
		p := e.port
		list, err := s.post(s.viewFrom(n, &p), n, &p)
		if err != nil {
			return nil, err
		}
		all[name] = list
	}
	return all, nil
}

// changePublished is change for a port that publishes list then.
func (s *Switch) changePublished(e *endpoint, n *network, next *api.Port, list []*nat.Publication) error {
	_, come := changesOf(s.published[next.Name], list)
	undo, err := s.listen(come)
	if err != nil {
		return err
	}
	if err := s.change(e, n, next); err != nil {
		undo()
		return err
	}
	return nil
}

// repost makes a port at work publish what post returned. Callers hold verb, or a claim to the port.
func (s *Switch) repost(name string, list []*nat.Publication) {
	s.mu.Lock()
	gone, come := s.enforce(name, list)
	s.mu.Unlock()
	s.observe(gone, come)
}

// repostAll makes all ports publish what the draft says. Callers hold verb.
func (s *Switch) repostAll(d *draft) {
	var gone, come []*nat.Publication
	for name, was := range s.published {
		g, c := changesOf(was, d.published[name])
		gone, come = append(gone, g...), append(come, c...)
	}
	for name, is := range d.published {
		if s.published[name] == nil {
			come = append(come, is...)
		}
	}
	s.mu.Lock()
	s.published = d.published
	s.heard.Become(d.heard)
	s.mu.Unlock()
	s.observe(gone, come)
}

// observe lets masquerading and connections know of changes: published ports are not handed out, and connections by those that go end.
func (s *Switch) observe(gone, come []*nat.Publication) {
	for _, r := range s.allRouters() {
		r.Renew()
	}
	for _, n := range s.networks {
		for _, pool := range n.external {
			zone := s.zone(n.Router)
			for _, q := range gone {
				s.keepOff(pool, zone, q, false)
			}
			for _, q := range come {
				s.keepOff(pool, zone, q, true)
			}
		}
	}
	s.steerPublished(gone, come)
	s.relisten(gone, come)
	if len(gone) == 0 {
		return
	}
	s.path.Quiesce() // no worker is about to open one more
	past := nat.NewPublished()
	_ = past.Replace(nil, gone) // they were published side by side
	s.conns.RemovePublished(past)
}
