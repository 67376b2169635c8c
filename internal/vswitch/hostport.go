package vswitch

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/hostport"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port/tap"
	"vswitch/internal/prefix"
	"vswitch/router"
)

// hostLeg is what the name of the leg to the host begins with.
const hostLeg = "host:"

// The addresses of the host on the link, unless --host-ip says otherwise; the router has the other one of each pair. They are the same on
// every host, as they are used on none but their own: IPv4's are of the space for services within a host (RFC 7335), which may be
// forwarded, unlike 169.254.0.0/16 (RFC 6890), and which no router and no address plan has; IPv6's have a global ID that was drawn
// for this once (RFC 4193 3.2.2).
var defaultHostIPs = []netip.Addr{netip.MustParseAddr("192.0.0.6"), netip.MustParseAddr("fd83:585c:c419::6")}

// hostNeighbor is the host as a neighbor of router main.
type hostNeighbor struct {
	*hostport.Port // nil: it is switched off
	mac, gateway   [6]byte
	leg            *leg // nil: there is no device. Changes with the Port locked
	read           bool // the leg's port is; likewise

	state hostport.State // guarded by Switch.mu
}

// CheckHostIPs refuses addresses that can't be the host's on its link to the router, and fills in those that are missing.
func CheckHostIPs(asked []netip.Addr) ([]netip.Addr, error) {
	list := slices.Clone(defaultHostIPs)
	for i, a := range asked {
		at := slices.IndexFunc(list, func(d netip.Addr) bool { return d.Is4() == a.Is4() })
		switch {
		case !a.IsValid() || !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "":
			return nil, api.Errorf(api.CodeInvalid, "host address %v: use one that can be routed, as %v or %v", a, defaultHostIPs[0], defaultHostIPs[1])
		case slices.ContainsFunc(asked[:i], func(d netip.Addr) bool { return d.Is4() == a.Is4() }):
			return nil, api.Errorf(api.CodeInvalid, "host address %v: there is one of its family already, %v", a, list[at])
		}
		list[at] = a
	}
	return list, nil
}

// hostMACs makes the MACs of both ends of the link. They stay the same while the state stays where it is.
func hostMACs(stateDir string) (host, gateway [6]byte) {
	sum := sha256.Sum256([]byte("vswitch host port " + stateDir))
	copy(host[:], sum[:])
	copy(gateway[:], sum[len(host):])
	for _, mac := range []*[6]byte{&host, &gateway} {
		mac[0] = mac[0]&^1 | 2 // locally administered, one station's
	}
	return host, gateway
}

// openHostPort makes the link to the host, which does nothing until reachHost.
func (s *Switch) openHostPort() (err error) {
	if s.cfg.HostPort == "" {
		return s.removeHostPort()
	}
	h := &s.hostPort
	h.mac, h.gateway = hostMACs(s.cfg.StateDir)
	var addrs []netip.Prefix
	for _, a := range s.cfg.HostIPs {
		addrs = append(addrs, hostport.Pair(a))
	}
	held := s.heldHost
	s.heldHost = -1
	h.Port, err = hostport.Open(hostport.Config{
		Name: s.cfg.HostPort, MAC: h.mac[:], Addrs: addrs, TxQueueLen: s.cfg.TxQueueLen, Private: s.private, Host: s.host,
		Store: s.fds, Logger: s.log, Plug: s.plugHost, Unplug: s.unplugHost, Report: s.hostChanged, Step: s.fail.at,
	}, held)
	return err
}

// closeHostPort lets go of the link. Where there is nothing that the host could reach by it, it goes.
func (s *Switch) closeHostPort() error {
	if held := s.heldHost; held >= 0 {
		s.heldHost = -1
		return unix.Close(held)
	}
	switch {
	case s.hostPort.Port == nil:
		return nil
	case len(s.networks) == 0 && len(s.held) == 0:
		return s.hostPort.Remove()
	}
	return s.hostPort.Close()
}

// removeHostPort removes what an earlier daemon left of the link.
func (s *Switch) removeHostPort() error {
	mac, _ := hostMACs(s.cfg.StateDir)
	held := s.heldHost
	s.heldHost = -1
	return hostport.Remove(s.host, mac[:], s.fds, held)
}

// followHostPort looks after the link until ctx ends.
func (s *Switch) followHostPort(ctx context.Context) error {
	if s.hostPort.Port == nil {
		return nil
	}
	return s.hostPort.Run(ctx)
}

// reachHost gives the host routes to the subnets on router main. Callers hold verb; the first of them brings the link up.
func (s *Switch) reachHost() {
	if s.hostPort.Port == nil {
		return
	}
	var want []link.HostRoute
	s.mu.RLock()
	for _, n := range s.networks {
		if n.Router != api.MainRouter {
			continue
		}
		for _, p := range gatewayPrefixes(&n.Network) {
			want = append(want, link.HostRoute{Prefix: p.Masked(), MTU: n.MTU})
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(want, func(a, b link.HostRoute) int { return a.Prefix.Compare(b.Prefix) })
	s.hostPort.SetRoutes(want)
}

// plugHost gives the device to the data plane. Its frames wait until the router knows the way back.
func (s *Switch) plugHost(t *tap.Tap) error {
	l, err := s.plugLeg(hostLeg+t.Name(), t, link.HostPortMTU)
	if err != nil {
		return err
	}
	l.line.SetNAT(s.translation(api.MainRouter, l.number)) // connections are known for what they are; nothing is masqueraded
	s.hostPort.leg, s.hostPort.read = l, false
	return nil
}

// unplugHost is its undo.
func (s *Switch) unplugHost() {
	l := s.hostPort.leg
	s.hostPort.leg = nil
	s.routeBy(l.name, api.MainRouter, nil)
	s.unplugLeg(l)
}

// hostChanged tells the router what there is of the link, and people of what is wrong with it.
func (s *Switch) hostChanged(st hostport.State) {
	s.mu.Lock()
	was := s.hostPort.state
	s.hostPort.state = st
	s.mu.Unlock()
	s.lead(st)
	s.tellHostPort(was, st)
}

// lead gives the router its way to the host, or takes it away.
func (s *Switch) lead(st hostport.State) {
	l := s.hostPort.leg
	if l == nil {
		return
	}
	if !st.Up || len(st.MAC) != len(s.hostPort.mac) {
		s.routeBy(l.name, api.MainRouter, nil)
		l.line.SetGateway(nil, nil)
		return
	}
	external := slices.Clone(st.Local)
	for _, a := range st.Addrs {
		external = append(external, a.Addr())
	}
	l.line.SetGateway(s.router(api.MainRouter), &router.Interface{
		MAC: s.hostPort.gateway, MTU: link.HostPortMTU, Prefixes: hostport.Peers(st.Addrs), Peer: [6]byte(st.MAC), External: external, Sources: st.Inside,
	})
	var routes []router.StaticRoute
	for _, a := range st.Local {
		routes = append(routes, router.StaticRoute{Prefix: prefix.Host(a), Interface: l.name})
	}
	s.routeBy(l.name, api.MainRouter, routes)
	if s.hostPort.read {
		return
	}
	if err := s.path.Start(l.id); err != nil {
		s.log.Error("read the host port", "err", err)
		return
	}
	s.hostPort.read = true
}

// tellHostPort tells people of what has changed.
func (s *Switch) tellHostPort(was, st hostport.State) {
	if problem := strings.Join(st.Problems, "; "); problem != strings.Join(was.Problems, "; ") {
		if problem == "" {
			s.events.Publish("host-port.up", st.Name, "it works as wanted")
		} else {
			s.log.Warn("host port", "problem", problem)
			s.events.Publish("host-port.error", s.cfg.HostPort, problem)
		}
	}
	for _, u := range st.Unrouted {
		if !slices.Contains(was.Unrouted, u) && !s.ownInterface(u.Index) {
			s.log.Info("the host doesn't reach a network by the host port", "subnet", u.Prefix, "why", u.Why)
			s.events.Publish("host-port.unrouted", s.cfg.HostPort, u.Prefix.String()+": "+u.Why)
		}
	}
}

// isHost tells whether the port is the link's.
func (s *Switch) isHost(id packet.PortID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := s.legs[id]
	return l != nil && strings.HasPrefix(l.name, hostLeg)
}

// ownInterface tells whether the interface of the host of that index is a port's of type host: its network is reached by that.
func (s *Switch) ownInterface(index int) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.places[place{s.host.ID(), index}]
	return e != nil && e.port.Type == api.PortHost
}

// describeHost tells of the link for people; nil when it is switched off.
func (s *Switch) describeHost() *api.HostPort {
	if s.hostPort.Port == nil {
		return nil
	}
	s.mu.RLock()
	st := s.hostPort.state
	s.mu.RUnlock()
	out := &api.HostPort{Interface: s.cfg.HostPort, State: api.StateUp, Routes: st.Routes, HostAddresses: st.Local, Problems: st.Problems}
	switch {
	case st.Index == 0:
		out.State = api.StateError
	case !st.Up:
		out.State = api.StateDown
	}
	if st.Name != "" {
		out.Interface = st.Name
	}
	for _, a := range st.Addrs {
		out.Addresses = append(out.Addresses, a.Addr())
	}
	for _, u := range st.Unrouted {
		if s.ownInterface(u.Index) {
			continue
		}
		out.Unrouted = append(out.Unrouted, api.Unrouted{Subnet: u.Prefix, Reason: u.Why})
	}
	return out
}
