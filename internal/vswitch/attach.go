package vswitch

import (
	"errors"
	"fmt"
	"net"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
	"vswitch/internal/packet"
)

// endpoint is a port that is attached, or was and could not be found again (then dev is nil). Once entered it changes only with
// verb or a claim held, and under mu; for looks copy it.
type endpoint struct {
	port    api.Port // intent; Status is made when asked for
	net     *network // nil while disconnected
	mac     [6]byte
	id      packet.PortID
	dev     *device
	held    map[string]int   // dev is nil: file descriptors of it that were kept nevertheless
	err     string           // why it does not work, or not as it should
	ns      link.NamespaceID // where its interface is
	index   int              // of the interface in ns
	down    bool             // its interface is down
	unwatch func()           // ends the watch of ns; nil when it is not watched
	pins    bool             // our file descriptor keeps its namespace alive: nobody tells us when it should be dead
}

// attach makes the port's device, places it in target and plugs it into the data plane, in this order:
//
//  1. device in the private namespace (a veth's other end in target)
//  2. file descriptors into the fd store
//  3. interface into target, named, addressed, up; what it sends from now on waits in its queue
//  4. slot of the data plane, bridge, pipeline, worker: from here on frames flow
//  5. its addresses announced
//
// After an error all of it is undone.
func (s *Switch) attach(n *network, p *api.Port, target *link.Namespace) (*endpoint, error) {
	dev, place, undo, err := s.createDevice(p, target)
	if err != nil {
		return nil, err
	}
	e, err := s.install(n, p, dev, place)
	if err != nil {
		s.forget(p.ID)
		return nil, errors.Join(err, undo())
	}
	s.placeAt(e, target.ID(), e.index)
	s.watch(e, target)
	s.look(e, target)
	s.announce(e)
	if p.Type == api.PortHost {
		s.reachHost() // this network by the new interface
	}
	return e, nil
}

// look notes what may have happened to the interface before it was watched. The look also lets that of a veth send, see
// link.SetVethCarrier.
func (s *Switch) look(e *endpoint, ns *link.Namespace) {
	if st, err := link.LookupIndex(ns, e.index); err == nil { // else it was moved on: nobody has been told of it yet
		s.mu.Lock()
		e.down, e.port.IfName = !st.Up, st.Name
		s.mu.Unlock()
	}
}

// install is steps 2 to 4 of attach.
func (s *Switch) install(n *network, p *api.Port, dev *device, place placer) (*endpoint, error) {
	if err := s.fail.at("attach.created"); err != nil {
		return nil, err
	}
	if err := s.keep(dev); err != nil {
		return nil, err
	}
	if err := s.fail.at("attach.kept"); err != nil {
		return nil, err
	}
	st, _, err := place(s.placing(n, p))
	if err != nil {
		return nil, err
	}
	if err := s.fail.at("attach.placed"); err != nil {
		return nil, err
	}
	e, err := s.plug(n, p, dev)
	if err != nil {
		return nil, err
	}
	if err = s.fail.at("attach.plugged"); err == nil {
		err = s.path.Start(e.id)
	}
	if err != nil {
		s.unplug(e)
		return nil, err
	}
	e.index = st.Index
	return e, nil
}

// plug gives the device to the data plane and tells bridge and pipeline of it: others reach it from here on, but it is not
// yet read. After an error the device is the caller's.
func (s *Switch) plug(n *network, p *api.Port, dev *device) (*endpoint, error) {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", p.Name, err)
	}
	if _, err := portConf(0, p); err != nil {
		return nil, err
	}
	e := &endpoint{port: *p, net: n, mac: [6]byte(mac), dev: dev}
	if e.id, err = s.path.Add(dev.port, p.MTU); err != nil {
		return nil, api.Errorf(api.CodeExhausted, "port %s: %v", p.Name, err)
	}
	s.mu.Lock()
	s.byID[e.id] = e
	s.mu.Unlock()
	s.placeHost(e)
	if on := n != nil; on != dev.plugged {
		err = s.setCarrier(dev, on)
	} else {
		s.lookCarrier(dev)
	}
	if err != nil {
		s.unplug(e)
		return nil, err
	}
	s.bind(e)
	return e, nil
}

// bind tells bridge and pipeline of the port, or of what is new of it, if it is on a network.
func (s *Switch) bind(e *endpoint) {
	conf, err := portConf(e.id, &e.port)
	if err != nil || e.net == nil { // what is entered was checked
		return
	}
	old := e.net.line.Bridge.Snapshot().Port(e.id)
	protect(&conf, old, &e.port)
	if old == nil || *old != conf {
		e.net.line.Bridge.SetPort(conf)
	}
	s.tellRules(e.port.Name, factOf(e))
	s.line.Bind(e.id, e.net.line)
}

// unbind is bind's undo: nobody on the network reaches the port any more, nor it them.
func (s *Switch) unbind(e *endpoint) {
	s.line.Unbind(e.id)
	s.tellRules(e.port.Name, fact{})
	if e.net != nil {
		e.net.line.Bridge.RemovePort(e.id)
		s.forgetNeighbor(e)
		s.line.Wake() // a port may have been blocked because of this one
	}
}

// portConf is what the bridge knows of the port.
func portConf(id packet.PortID, p *api.Port) (l2switch.PortConf, error) {
	member, err := l2switch.NewMembership(p.VLAN, p.Trunk, p.Native)
	return l2switch.PortConf{
		ID: id, Name: p.Name, Member: member, Isolated: p.Isolated, MTU: p.MTU, MACLimit: p.MACLimit,
	}, err
}

// unplug is plug's undo. Nobody reads or writes the device afterwards.
func (s *Switch) unplug(e *endpoint) {
	s.mu.Lock()
	delete(s.byID, e.id)
	s.mu.Unlock()
	s.unplaceHost(e)
	s.unbind(e)
	c, err := s.path.Remove(e.id)
	if err != nil {
		s.log.Warn("remove a port from the data plane", "port", e.port.Name, "err", err)
	}
	for _, f := range s.abandoned(e.id) {
		c.Drops[packet.DropPortDown] += uint64(f.Segs)
	}
	s.addKernelDrops(e, &c)
	s.bequeath(&c)
}

// detach removes the port's device:
//
//  1. a TAP is made temporary: from here on it vanishes with the last file descriptor
//  2. file descriptors out of the fd store
//  3. out of the data plane; nobody reads or writes it any more
//  4. file descriptors closed; a veth pair deleted
//
// It can't fail: what could not be removed is logged, and is nobody's any more.
func (s *Switch) detach(e *endpoint) {
	if e.dev == nil {
		s.discardDevice(&e.port, e.held)
		return
	}
	s.unwatch(e)
	s.placeAt(e, link.NamespaceID{}, 0)
	s.condemn(e.dev)
	s.passing("detach.condemned")
	s.forget(e.port.ID)
	s.passing("detach.forgotten")
	s.unplug(e)
	s.passing("detach.unplugged")
	s.destroy(e.dev)
	s.passing("detach.destroyed")
	if e.port.Type == api.PortHost {
		s.reachHost()
	}
}

// passing is a failpoint where nothing can fail any more: an error is only told.
func (s *Switch) passing(name string) {
	if err := s.fail.at(name); err != nil {
		s.log.Warn("a step that must not fail", "err", err)
	}
}

// placing says how the port's interface is to be found in its namespace.
func (s *Switch) placing(n *network, p *api.Port) link.PlaceConfig {
	c := link.PlaceConfig{
		IfName: p.IfName, MAC: hardwareAddr(p.MAC), MTU: p.MTU, NoConfig: p.NoConfig || p.Stage, Host: p.Type == api.PortHost,
		Addrs: p.IPs, Routes: p.Routes, Metric: p.Metric,
	}
	if n != nil {
		c.Gateways = ipam.Gateways(&n.Network, p)
	}
	return c
}

// announce lets the network know where the port's addresses are, as far as it may think otherwise.
func (s *Switch) announce(e *endpoint) {
	if e.net == nil {
		return
	}
	if e.port.NoConfig || e.port.Stage || e.port.Trunk != nil || len(e.port.IPs) == 0 {
		e.net.line.Stranger()
		return
	}
	frames, waited := e.net.line.Announce(e.id, e.mac, addrsOf(e.port.IPs), s.path.Now())
	for _, f := range frames {
		s.path.Inject(e.id, f)
	}
	s.path.Do(waited)
}
