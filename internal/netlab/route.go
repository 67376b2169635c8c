package netlab

import (
	"net"
	"net/netip"

	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/router"
)

// Router returns the router of that name; at first use it is made.
func (l *Lab) Router(name string) *router.Router {
	r := l.routers[name]
	if r == nil {
		r = router.New(name)
		l.routers[name] = r
	}
	return r
}

// Gateway gives the network an interface on router main, with addresses such as 10.1.0.1/24. Its MAC is 0a:00:00:00:00:xx by the
// order in which the lab's networks were made.
func (l *Lab) Gateway(network string, mtu int, prefixes ...string) *router.Interface {
	l.t.Helper()
	i := router.Interface{MTU: mtu}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	return l.Interface(network, i)
}

// Interface gives the network an interface on router main with a MAC as Gateway does. A point-to-point one is made by a Peer.
func (l *Lab) Interface(network string, i router.Interface) *router.Interface {
	l.t.Helper()
	n := l.Network(network)
	for k, o := range l.order {
		if o == n {
			i.MAC = [6]byte{0: 0x0a, 5: byte(k + 1)}
		}
	}
	n.SetGateway(l.Router("main"), &i)
	return n.Gateway().If
}

// TendRouters lets the routers do what is due, as the daemon does every second.
func (l *Lab) TendRouters() {
	l.Settle()
	for _, r := range l.routers {
		l.path.Do(l.line.Tend(r, l.Now()))
	}
	l.path.Do(l.line.TendFragments(l.Now()))
	l.path.Quiesce()
}

// Address gives the container other addresses.
func (p *Port) Address(ip4, ip6 string) *Port {
	p.IP4, p.IP6 = netip.MustParseAddr(ip4), netip.MustParseAddr(ip6)
	return p
}

// Via is the receiver's address at the MAC of the port's own gateway, as the container's routing has it.
func (p *Port) Via(to netip.Addr, dstPort uint16) packettest.Option {
	gw := p.net.Gateway().If.MAC
	return packettest.To(net.HardwareAddr(gw[:]).String(), to.String(), dstPort)
}

// Net returns the port's network.
func (p *Port) Net() *pipeline.Network { return p.net }

// Lab returns the port's lab.
func (p *Port) Lab() *Lab { return p.lab }
