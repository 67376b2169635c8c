package vswitch

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

// Connect puts a port that is on no network on one: with new addresses, its old name and what else it was given, and its old MAC
// unless that is another's there. An MTU larger than the network's is lowered.
func (s *Switch) Connect(_ context.Context, name string, r api.ConnectRequest) (api.Port, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	e, err := s.working(name)
	if err != nil {
		return api.Port{}, err
	}
	n, err := s.network(r.Network)
	if err != nil {
		return api.Port{}, err
	}
	if e.net != nil {
		return s.connected(e, &r)
	}
	next := e.port
	next.Network, next.MTU = n.Name, min(e.port.MTU, n.MTU)
	if err := checkPortRequest(n, requestOf(&next)); err != nil {
		return api.Port{}, err
	}
	switch {
	case r.NoIP && len(r.IPs) > 0:
		return api.Port{}, errBothIPs()
	case !r.NoIP:
		if next.IPs, err = n.pools.Assign(name, r.IPs, time.Now()); err != nil {
			return api.Port{}, err
		}
	}
	if err = s.chooseMAC(n, &next); err == nil {
		err = s.change(e, n, &next)
	}
	if err != nil {
		n.giveBack(next.IPs)
		return api.Port{}, err
	}
	s.events.Publish("port.connected", name, fmt.Sprintf("to network %s as %s, %s", n.Name, next.IfName, next.MAC))
	return s.describe(e), nil
}

// connected answers for a port that is on a network already.
func (s *Switch) connected(e *endpoint, r *api.ConnectRequest) (api.Port, error) {
	switch name := e.port.Name; {
	case e.port.Network != r.Network:
		return api.Port{}, inUse(name, "port %s is on network %s: 'vsctl disconnect %s' first", name, e.port.Network, name)
	case !r.MayExist:
		return api.Port{}, inUse(name, "port %s is on network %s already; --may-exist takes that for done", name, r.Network)
	}
	err := firstDifference("port", e.port.Name, "set-port", []aspect{addressAspect(r.IPs, r.NoIP, &e.port)})
	return s.describe(e), err
}

// chooseMAC keeps the port's MAC, unless another port of the network has it.
func (s *Switch) chooseMAC(n *network, p *api.Port) error {
	err := s.checkMAC(n, p)
	for _, way := range []string{"", ipam.MACRandom} {
		if err == nil {
			break
		}
		mac, e := ipam.ChooseMAC(way, p.IPs, rand.Reader)
		if e != nil {
			return e
		}
		p.MAC = macString(mac)
		err = s.checkMAC(n, p)
	}
	return err
}

// Disconnect takes a port off its network. Its interface stays in its namespace, with its name and MAC, but without addresses
// and carrier.
func (s *Switch) Disconnect(_ context.Context, name string, r api.DisconnectRequest) (api.Port, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	e, err := s.working(name)
	if err != nil {
		return api.Port{}, err
	}
	was, n := e.port, e.net
	switch {
	case n == nil:
		return api.Port{}, api.Errorf(api.CodeNotFound, "port %s is on no network; 'vsctl connect %s NETWORK' puts it on one", name, name)
	case r.Network != "" && r.Network != n.Name:
		return api.Port{}, inUse(name, "port %s is on network %s, not on %.70q", name, n.Name, r.Network)
	}
	next := was
	next.Network, next.IPs, next.StaticFDB = "", nil, nil
	if err := s.change(e, nil, &next); err != nil {
		s.restoreStatic(e)
		return api.Port{}, err
	}
	n.release(&was)
	s.events.Publish("port.disconnected", name, fmt.Sprintf("from network %s; its interface %s stays", n.Name, next.IfName))
	return s.describe(e), nil
}

func errBothIPs() error { return invalid("an address and no address are both asked for") }
