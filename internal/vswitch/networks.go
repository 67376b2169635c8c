package vswitch

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/hostport"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
	"vswitch/internal/pipeline"
	"vswitch/internal/store"
	"vswitch/nat"
)

// network is a network at work. Once entered it changes only with verb held and under mu, but for its line, which also has its
// name for those who hold neither.
// flapsTold is Switch.tend's.
type network struct {
	api.Network
	pools ipam.Pools
	line  *pipeline.Network

	filter *acl.Filter // of the live one
	zone   uint16      // of its own connections, see nat.Tuple; 0 until it has rules
	count  int         // ports

	number   uint32                   // in tables of connections; 0: it has none yet
	external map[netip.Addr]*nat.Pool // its gateway's addresses, for masquerading; changed with verb held

	flapsTold int64 // when addresses that flap were last told of, nanoseconds
}

func isIPv6(p netip.Prefix) bool { return p.IsValid() && p.Addr().Is6() }

func (n *network) hasIPv6() bool {
	return slices.ContainsFunc(n.Subnets, func(s api.Subnet) bool { return isIPv6(s.Prefix) })
}

// release gives the port's addresses back. A port on no network has none.
func (n *network) release(p *api.Port) {
	if n != nil {
		n.pools.Release(p.Name, p.IPs, time.Now())
	}
}

// reserve gives the port those of the addresses asked for that it does not have yet.
func (n *network) reserve(port string, has []netip.Prefix, asked []netip.Addr) ([]netip.Prefix, error) {
	asked = slices.DeleteFunc(slices.Clone(asked), func(a netip.Addr) bool {
		return slices.ContainsFunc(has, func(p netip.Prefix) bool { return p.Addr() == a })
	})
	switch {
	case len(asked) == 0:
		return nil, nil
	case n == nil:
		return nil, api.Errorf(api.CodeRefused, "port %s is on no network that has addresses: connect it first", port)
	}
	return n.pools.Reserve(port, asked)
}

// giveBack is reserve's undo: nobody has seen the addresses.
func (n *network) giveBack(given []netip.Prefix) {
	if n != nil {
		n.pools.Return(given)
	}
}

// AddNetwork makes a network; it is on disk before the answer.
func (s *Switch) AddNetwork(_ context.Context, r api.NetworkRequest) (api.Network, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	if n, err := s.network(r.Name); err == nil {
		if r.MayExist {
			has := s.describeNetwork(n)
			return has, sameNetwork(&has, &r)
		}
		return api.Network{}, networkExists(r.Name)
	}
	if err := checkNetworkRequest(&r); err != nil {
		return api.Network{}, err
	}
	conf, err := s.configure(&s.state, &r)
	if err != nil {
		return api.Network{}, err
	}
	n, err := newNetwork(conf)
	if err != nil {
		return api.Network{}, err
	}
	if err := s.store.PutNetwork(*conf); err != nil {
		return api.Network{}, err
	}
	s.mu.Lock()
	s.networks[n.Name] = n
	s.mu.Unlock()
	s.wire(n)
	s.reachHost()
	s.events.Publish("network.added", n.Name, subnetsText(n.Subnets))
	return s.describeNetwork(n), nil
}

// configure turns a request into a network beside those of st, defaults filled in. Callers hold verb.
func (s *Switch) configure(st *state, r *api.NetworkRequest) (*api.Network, error) {
	n := s.networkOf(r)
	if r.NoSubnet {
		return n, nil
	}
	others, host, err := s.takenPrefixes(st, n)
	if err == nil {
		n.Subnets, err = ipam.Subnets(r, others, host, rand.Reader)
	}
	return n, err
}

// takenPrefixes returns the subnets of the other networks of st on n's router, and the prefixes that the host uses.
func (s *Switch) takenPrefixes(st *state, n *api.Network) (others []ipam.Owned, host []netip.Prefix, err error) {
	for _, o := range st.networks {
		for _, sub := range o.Subnets {
			if o.Router == n.Router && o.ID != n.ID {
				others = append(others, ipam.Owned{Network: o.Name, Prefix: sub.Prefix})
			}
		}
	}
	for _, u := range st.uplinks {
		for _, p := range u.IPs {
			if u.Router == n.Router {
				others = append(others, ipam.Owned{Network: legName(u.Name), Prefix: p.Masked()})
			}
		}
	}
	if s.hostPort.Port != nil && n.Router == api.MainRouter {
		for _, a := range s.cfg.HostIPs {
			others = append(others, ipam.Owned{Network: hostLeg + s.cfg.HostPort, Prefix: hostport.Pair(a).Masked()})
		}
	}
	if host, err = link.HostPrefixes(); err != nil {
		err = fmt.Errorf("list the host's routes: %w", err)
	}
	return others, host, err
}

// networkOf turns a request into a network without subnets, defaults filled in.
func (s *Switch) networkOf(r *api.NetworkRequest) *api.Network {
	n := &api.Network{
		ID: newID(), Name: r.Name, Driver: api.DriverBridge, NoGateway: r.NoGateway, MTU: r.MTU, Internal: r.Internal,
		NoICC: r.ICC != nil && !*r.ICC, Router: cmp.Or(r.Router, "main"), Masquerade: cmp.Or(r.Masquerade, "auto"),
		RA: r.RA, RADNS: r.RADNS,
		Age: cmp.Or(r.Age, int(l2switch.DefaultAge/time.Second)), MACLimit: cmp.Or(r.MACLimit, l2switch.DefaultMACs),
		Labels: r.Labels,
	}
	if n.MTU == 0 {
		n.MTU = s.hostMTU(slices.ContainsFunc(r.Subnets, isIPv6))
	}
	return n
}

// hostMTU is the default MTU of a network: that of the host's default route, so that what leaves the host fits.
func (s *Switch) hostMTU(ipv6 bool) int {
	mtu, err := link.HostMTU()
	if err != nil {
		s.log.Warn("read the MTU of the host's default route", "err", err)
	}
	if mtu < minMTU || mtu > defaultMTU || ipv6 && mtu < minMTUIPv6 {
		return defaultMTU
	}
	return mtu
}

// newNetwork puts a network to work.
func newNetwork(conf *api.Network) (*network, error) {
	pools, err := ipam.NewPools(conf.Subnets)
	if err != nil {
		return nil, err
	}
	bridge := l2switch.NewBridge(limitsOf(conf))
	line := &pipeline.Network{Name: conf.Name, Bridge: bridge}
	return &network{Network: *conf, pools: pools, line: line, filter: acl.NewFilter(bridge.Renew)}, nil
}

func limitsOf(conf *api.Network) l2switch.Limits {
	return l2switch.Limits{MACs: conf.MACLimit, Age: time.Duration(conf.Age) * time.Second}
}

// DeleteNetwork removes a network; one with ports only when force is set, and then its ports too.
func (s *Switch) DeleteNetwork(ctx context.Context, name string, force bool) error {
	n, err := s.network(name)
	if err != nil {
		return err
	}
	if force {
		err := abreast(s.endpoints(), func(e endpoint) error {
			if e.net != n {
				return nil
			}
			return s.DeletePort(ctx, e.port.Name)
		})
		if err != nil {
			return err
		}
	}
	s.verb.Lock()
	defer s.verb.Unlock()
	if s.networks[name] != n {
		return noNetwork(name)
	}
	if n.count > 0 {
		return networkInUse(name, n.count)
	}
	rules := s.rules[acl.Owner(api.KindNetwork, name)]
	err = s.store.Update(func(tx *store.Tx) error { return errors.Join(tx.DeleteNetwork(n.ID), deleteRules(tx, rules)) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.networks, name)
	delete(s.rules, acl.Owner(api.KindNetwork, name))
	s.mu.Unlock()
	s.unwire(n)
	s.forgetRouters()
	s.reachHost()
	s.publishRules("rule.deleted", rules)
	s.events.Publish("network.deleted", name, "")
	return nil
}

// Networks lists all networks by name.
func (s *Switch) Networks(context.Context) ([]api.Network, error) {
	s.mu.RLock()
	out := make([]api.Network, 0, len(s.networks))
	for _, n := range s.networks {
		c := n.Network
		c.Ports = n.count
		out = append(out, c)
	}
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b api.Network) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Network returns one network.
func (s *Switch) Network(_ context.Context, name string) (api.Network, error) {
	n, err := s.network(name)
	if err != nil {
		return api.Network{}, err
	}
	return s.describeNetwork(n), nil
}

func (s *Switch) network(name string) (*network, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.networks[name]; n != nil {
		return n, nil
	}
	return nil, noNetwork(name)
}

func (s *Switch) describeNetwork(n *network) api.Network {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := n.Network
	c.Ports = n.count
	return c
}

func networkExists(name string) error {
	err := api.Errorf(api.CodeConflict, "network %s already exists: choose another name, or take what there is with --may-exist", name)
	err.Object = name
	return err
}

func networkInUse(name string, ports int) error {
	return api.Errorf(api.CodeConflict, "network %s has ports (%d): delete them first, or use --force", name, ports)
}

func noNetwork(name string) error {
	return api.Errorf(api.CodeNotFound, "no network %.70q; 'vsctl list-networks' names those there are", name)
}

func subnetsText(subnets []api.Subnet) string {
	if len(subnets) == 0 {
		return "no subnet"
	}
	var s []string
	for _, sub := range subnets {
		s = append(s, sub.Prefix.String())
	}
	return strings.Join(s, " ")
}
