package vswitch

import (
	"fmt"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/internal/port"
	"vswitch/internal/port/tap"
	"vswitch/router"
)

// leg is a port of the switch's own, such as an uplink's, and the network of which it is the only one. Users see its name in counters,
// routes and traces only.
type leg struct {
	name   string // as "uplink:wan", which no network or port of a user can have
	number uint32 // in tables of connections
	line   *pipeline.Network
	id     packet.PortID
	end    endpoint // what is asked for its kernel's counters
}

// plugLeg gives the port to the data plane and a network of its own, which is on no router yet. Frames wait in its queue until it is
// started.
func (s *Switch) plugLeg(name string, p port.Port, mtu int) (*leg, error) {
	l := &leg{name: name, number: s.nextNumber(), line: &pipeline.Network{Name: name, Bridge: l2switch.NewBridge(l2switch.Limits{})}}
	l.end.dev = &device{id: name, fd: p.FD(), dropFD: -1, port: p}
	if _, ok := p.(*tap.Tap); ok {
		l.end.dev.kind = api.PortTAP
		_, l.end.dev.before = s.deviceDrops(l.end.dev)
	}
	var err error
	if l.id, err = s.path.Add(p, mtu); err != nil {
		return nil, fmt.Errorf("plug %s in: %w", name, err)
	}
	s.path.Pin(l.id)
	l.line.Bridge.SetPort(l2switch.PortConf{ID: l.id, Name: name, MTU: mtu})
	s.line.Bind(l.id, l.line)
	s.mu.Lock()
	s.legs[l.id] = l
	s.mu.Unlock()
	return l, nil
}

// unplugLeg is plugLeg's undo. Nobody reads or writes the port afterwards.
func (s *Switch) unplugLeg(l *leg) {
	l.line.SetGateway(nil, nil)
	l.line.SetNAT(nil)
	s.mu.Lock()
	delete(s.legs, l.id)
	s.mu.Unlock()
	s.line.Unbind(l.id)
	l.line.Bridge.RemovePort(l.id)
	c, err := s.path.Remove(l.id)
	if err != nil {
		s.log.Warn("remove a port from the data plane", "port", l.name, "err", err)
	}
	for _, f := range s.abandoned(l.id) {
		c.Drops[packet.DropPortDown] += uint64(f.Segs)
	}
	s.conns.RemoveNetwork(l.number)
	s.addKernelDrops(&l.end, &c)
	l.end.dev.mu.Lock()
	l.end.dev.closed = true // its owner is about to
	l.end.dev.mu.Unlock()
	s.bequeath(&c)
}

// legNamed returns the leg of that name, or nil.
func (s *Switch) legNamed(name string) *leg {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.legs {
		if l.name == name {
			return l
		}
	}
	return nil
}

// translation is what all networks of a router translate with.
func (s *Switch) translation(routerName string, number uint32) *pipeline.NAT {
	return &pipeline.NAT{Zone: s.zone(routerName), Network: number, Conns: s.conns, Published: s.heard}
}

// nextNumber gives a network its number in tables of connections.
func (s *Switch) nextNumber() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastNumber++
	return s.lastNumber
}

// legRoutes are routes that lead to a leg.
type legRoutes struct {
	router string
	routes []router.StaticRoute
}

// routeBy gives the leg these routes on a router, in place of those that it has; without any, none.
func (s *Switch) routeBy(legName, routerName string, routes []router.StaticRoute) {
	s.routing.Lock()
	defer s.routing.Unlock()
	was, had := s.byLeg[legName]
	if len(routes) > 0 {
		s.byLeg[legName] = legRoutes{routerName, routes}
	} else {
		delete(s.byLeg, legName)
	}
	if had && was.router != routerName {
		s.publishRoutes(was.router)
	}
	s.publishRoutes(routerName)
}
