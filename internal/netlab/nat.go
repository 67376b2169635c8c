package netlab

import (
	"net/netip"

	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// Connections returns the lab's table of connections; at first use it is made.
func (l *Lab) Connections() *nat.Table {
	if l.conns == nil {
		l.LimitConnections(nat.Limits{})
	}
	return l.conns
}

// LimitConnections makes the lab's table of connections, before its first use.
func (l *Lab) LimitConnections(limits nat.Limits) {
	l.conns, l.published = nat.NewTable(limits, nat.Timeouts{}), nat.NewPublished()
	l.conns.SetSecret(nat.Secret{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb}) // labs that do the same hand out the same ports
}

// Published returns the lab's table of published ports.
func (l *Lab) Published() *nat.Published {
	l.Connections()
	return l.published
}

// NAT lets the network's gateway translate: what leaves the network is masqueraded or not, and what comes from others that are masqueraded
// gets the gateway's own addresses, or a shared uplink's, with ports from 61000 to 61999. The networks' numbers are in the order in which
// they were made.
func (l *Lab) NAT(network string, masquerade pipeline.Masquerade) {
	l.t.Helper()
	n := l.Network(network)
	c := &pipeline.NAT{Zone: 1, Conns: l.Connections(), Published: l.Published(), Masquerade: masquerade}
	for i, o := range l.order {
		if o == n {
			c.Network = uint32(i + 1)
		}
	}
	gw := n.Gateway().If
	addrs := gw.External
	for _, p := range gw.Prefixes {
		addrs = append(addrs, p.Addr())
	}
	for _, a := range addrs {
		i := 0
		if a.Is6() {
			i = 1
		}
		c.Pools[i] = l.pool(a)
	}
	n.SetNAT(c)
}

// pool returns the pool of the address, the same each time.
func (l *Lab) pool(a netip.Addr) *nat.Pool {
	if p := l.pools[a]; p != nil {
		return p
	}
	p, err := l.conns.NewPool(a, 61000, 61999)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	if l.pools == nil {
		l.pools = map[netip.Addr]*nat.Pool{}
	}
	l.pools[a] = p
	return p
}
