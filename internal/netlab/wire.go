package netlab

import (
	"net/netip"
	"slices"

	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
)

// Wire gives the network an interface on router main and lets it translate, as the daemon does with networks and uplinks at work: what is
// masqueraded towards it gets the first address of each family, pools of addresses that it has no more end, and so do the connections by
// them. With an interface without addresses, but for a point-to-point one, the network has none.
func (l *Lab) Wire(network string, i router.Interface, masquerade pipeline.Masquerade) {
	l.t.Helper()
	n := l.Network(network)
	number := slices.Index(l.order, n) + 1
	i.MAC = [6]byte{0: 0x0a, 5: byte(number)}
	var addrs []netip.Addr
	for _, p := range i.Prefixes {
		addrs = append(addrs, p.Addr())
	}
	if i.Shared {
		addrs = i.External
	} else if i.Peer != [6]byte{} {
		addrs = nil // the host's link: nothing is masqueraded towards it
	}
	keep := map[netip.Addr]*nat.Pool{}
	c := &pipeline.NAT{Zone: 1, Network: uint32(number), Conns: l.Connections(), Published: l.Published(), Masquerade: masquerade}
	for _, a := range addrs {
		pool := &c.Pools[a.BitLen()/128]
		if *pool != nil {
			if old := l.wired[network][a]; old != nil {
				keep[a] = old
			}
			continue
		}
		if *pool = l.wired[network][a]; *pool == nil {
			var err error
			if *pool, err = l.conns.NewPool(a, 61000, 61009); err != nil {
				l.t.Fatalf("%v", err)
			}
			for _, p := range l.published.All() {
				l.conns.Keep(*pool, p.Proto, p.Low, p.High, true)
			}
		}
		keep[a] = *pool
	}
	gone := len(i.Prefixes) == 0 && i.Peer == [6]byte{}
	if gone {
		c = nil
	}
	n.SetNAT(c)
	for a, pool := range l.wired[network] {
		if keep[a] == nil {
			l.conns.RemovePool(pool)
		}
	}
	l.wired[network] = keep
	if gone {
		n.SetGateway(nil, nil)
	} else {
		n.SetGateway(l.Router("main"), &i)
	}
}

// Publish replaces what is published by what comes, as the daemon does: connections by what goes end.
func (l *Lab) Publish(goes, comes []*nat.Publication) error {
	if err := l.Published().Replace(goes, comes); err != nil {
		return err
	}
	l.Router("main").Renew()
	for _, pools := range l.wired {
		for _, pool := range pools {
			for _, p := range goes {
				l.conns.Keep(pool, p.Proto, p.Low, p.High, false)
			}
			for _, p := range l.published.All() {
				l.conns.Keep(pool, p.Proto, p.Low, p.High, true)
			}
		}
	}
	past := nat.NewPublished()
	if err := past.Replace(nil, goes); err != nil {
		return err
	}
	l.conns.RemovePublished(past)
	return nil
}
