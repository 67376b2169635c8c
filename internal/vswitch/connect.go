package vswitch

import (
	"context"
	"crypto/rand"
	"time"

	"vswitch/internal/acl"
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
		return s.describe(e), connected(e, &r)
	}
	next, err := s.connecting(e, n, &r)
	if err != nil {
		return api.Port{}, err
	}
	list, err := s.post(s.viewFrom(n, next), n, next)
	if err == nil {
		err = s.changePublished(e, n, next, list)
	}
	if err != nil {
		n.giveBack(next.IPs)
		return api.Port{}, err
	}
	s.repost(name, list)
	return s.describe(e), nil
}

// connecting returns the port as it will be on the network; its addresses are the port's from here on.
func (st *state) connecting(e *endpoint, n *network, r *api.ConnectRequest) (next *api.Port, err error) {
	p := e.port
	p.Network, p.MTU = n.Name, min(e.port.MTU, n.MTU)
	if err := checkPortRequest(n, requestOf(&p)); err != nil {
		return nil, err
	}
	if err := st.checkRules(n.Name, len(st.rules[acl.Owner(api.KindPort, p.Name)])); err != nil {
		return nil, err
	}
	switch {
	case r.NoIP && len(r.IPs) > 0:
		return nil, errBothIPs()
	case !r.NoIP:
		if p.IPs, err = n.pools.Assign(p.Name, r.IPs, time.Now()); err != nil {
			return nil, err
		}
	}
	if err := st.chooseMAC(n, &p); err != nil {
		n.giveBack(p.IPs)
		return nil, err
	}
	return &p, nil
}

// connected answers for a port that is on a network already.
func connected(e *endpoint, r *api.ConnectRequest) error {
	switch name := e.port.Name; {
	case e.port.Network != r.Network:
		return inUse(name, "port %s is on network %s: 'vsctl disconnect %s' first", name, e.port.Network, name)
	case !r.MayExist:
		return inUse(name, "port %s is on network %s already; --may-exist takes that for done", name, r.Network)
	}
	return firstDifference("port", e.port.Name, "set-port", []aspect{addressAspect(r.IPs, r.NoIP, &e.port)})
}

// chooseMAC keeps the port's MAC, unless another port of the network has it.
func (st *state) chooseMAC(n *network, p *api.Port) error {
	err := st.checkMAC(n, p)
	for _, way := range []string{"", ipam.MACRandom} {
		if err == nil {
			break
		}
		mac, e := ipam.ChooseMAC(way, p.IPs, rand.Reader)
		if e != nil {
			return e
		}
		p.MAC = macString(mac)
		err = st.checkMAC(n, p)
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
	next, err := disconnecting(e, &r)
	if err != nil {
		return api.Port{}, err
	}
	if err := s.change(e, nil, next); err != nil {
		s.restoreStatic(e)
		return api.Port{}, err
	}
	s.repost(name, nil)
	n.release(&was)
	return s.describe(e), nil
}

// disconnecting returns the port as it will be on no network.
func disconnecting(e *endpoint, r *api.DisconnectRequest) (*api.Port, error) {
	name := e.port.Name
	switch {
	case e.net == nil:
		return nil, api.Errorf(api.CodeNotFound, "port %s is on no network; 'vsctl connect %s NETWORK' puts it on one", name, name)
	case r.Network != "" && r.Network != e.net.Name:
		return nil, inUse(name, "port %s is on network %s, not on %.70q", name, e.net.Name, r.Network)
	}
	next := e.port
	next.Network, next.IPs, next.StaticFDB = "", nil, nil
	return &next, nil
}

func errBothIPs() error { return invalid("an address and no address are both asked for") }
