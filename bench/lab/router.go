package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// The ports that servers of the cases use. Peers that publish ports publish these.
const FirstPort, LastPort = 20001, 20256

// leg is one side of a peer that routes: a container or an outside, and how the router is connected to it.
type leg struct {
	namespace string
	device    string     // the router's
	v4, v6    netip.Addr // the router's; host(…, 1)
}

func (p *Peer) legs() (a, b leg) {
	return leg{p.A, "p0", host(p.Net4, 1), host(p.Net6, 1)}, leg{p.B, "p1", host(p.Far4, 1), host(p.Far6, 1)}
}

// Gateway is the router's address in A's network.
func (p *Peer) Gateway() netip.Addr { return host(p.Net4, 1) }

// outside returns the side that is not a container of the peer's, and the side that is.
func (p *Peer) outside() (outside, inside leg) {
	a, b := p.legs()
	if p.Publish {
		return a, b
	}
	return b, a
}

// cable connects the router to a side:  router p0 .1 ======== eth0
func (l *Lab) cable(ctx context.Context, p *Peer, to leg) error {
	in := "-n " + p.switchSpace
	for _, command := range []string{
		fmt.Sprintf("%s link add %s type veth peer name eth0 netns %s", in, to.device, to.namespace),
		fmt.Sprintf("%s address add %v/24 dev %s", in, to.v4, to.device),
		fmt.Sprintf("%s address add %v/64 dev %s nodad", in, to.v6, to.device),
		fmt.Sprintf("%s link set %s mtu %d up", in, to.device, mtu),
	} {
		if err := ip(ctx, command); err != nil {
			return err
		}
	}
	return nil
}

// underlay makes the cable to the outside carry what a network card without segmentation offloads of its own would: frames of 1500
// bytes, which the receiver's GRO puts together.
func (l *Lab) underlay(ctx context.Context, p *Peer, to leg) error {
	if !l.NIC {
		return nil
	}
	for _, end := range []struct{ namespace, device string }{{p.switchSpace, to.device}, {to.namespace, "eth0"}} {
		if _, err := l.Output(ctx, end.namespace, "ethtool", "-K", end.device, "tso", "off", "tx-udp-segmentation", "off", "gro", "on"); err != nil {
			return err
		}
	}
	return nil
}

// addresses configures both sides' interfaces, and routes of containers by their gateway.
func (l *Lab) addresses(ctx context.Context, p *Peer, sides ...leg) error {
	for _, side := range sides {
		v4, v6 := p.A4, p.A6
		if side.namespace == p.B {
			v4, v6 = p.B4, p.B6
		}
		if err := l.configure(ctx, side.namespace, v4, v6); err != nil {
			return err
		}
		for _, gateway := range []netip.Addr{side.v4, side.v6} {
			if err := ip(ctx, fmt.Sprintf("-n %s route add default via %v", side.namespace, gateway)); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildKernelRouter:  A eth0 ======== p0 .1 (forwarding, rules) .1 p1 ======== eth0 B
func (l *Lab) buildKernelRouter(ctx context.Context, p *Peer) error {
	a, b := p.legs()
	if err := l.buildHost(ctx, p, a, b); err != nil {
		return err
	}
	if err := ip(ctx, "netns exec "+p.switchSpace+" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"); err != nil {
		return err
	}
	rules := ""
	switch {
	case p.Masq:
		rules = `table inet bench { chain post { type nat hook postrouting priority srcnat; oifname "p1" masquerade; }; }`
	case p.Publish:
		rules = fmt.Sprintf(`table inet bench { chain pre { type nat hook prerouting priority dstnat; iifname "p0" meta l4proto { tcp, udp } th dport %d-%d `+
			`dnat ip to %v; iifname "p0" meta l4proto { tcp, udp } th dport %[1]d-%[2]d dnat ip6 to %[4]v; }; }`, FirstPort, LastPort, p.B4, p.B6)
	default:
		return nil
	}
	_, err := l.Output(ctx, p.switchSpace, "nft", rules)
	return err
}

// buildHost makes a host with cables to some sides.
func (l *Lab) buildHost(ctx context.Context, p *Peer, sides ...leg) error {
	var err error
	if p.switchSpace, err = l.namespace(ctx, p.Name+"-sw"); err != nil {
		return err
	}
	for _, side := range sides {
		if err := l.cable(ctx, p, side); err != nil {
			return err
		}
	}
	if err := l.addresses(ctx, p, sides...); err != nil {
		return err
	}
	if !p.Masq && !p.Publish {
		return nil
	}
	outside, _ := p.outside()
	return l.underlay(ctx, p, outside)
}

// buildRelay:  A eth0 ======== p0 .1 relay .1 p1 ======== eth0 B
func (l *Lab) buildRelay(ctx context.Context, p *Peer) error {
	a, b := p.legs()
	if err := l.buildHost(ctx, p, a, b); err != nil {
		return err
	}
	var err error
	p.Switch, err = l.Start(context.Background(), p.switchSpace, nil, l.Bench, "naive-relay", fmt.Sprintf("%v=%v", p.To4, p.B4), fmt.Sprintf("%v=%v", p.To6, p.B6))
	if err != nil {
		return err
	}
	l.onClose("stop the relay", func(context.Context) error { p.Switch.Kill(); return nil })
	if line, err := p.Switch.Line(); err != nil || line != "ready" {
		return fmt.Errorf("the relay is not ready: %q: %w", line, err)
	}
	return nil
}

// buildUplink:  outside eth0 ======== up0 .1 vswitchd -------- (TAP) eth0 container
func (l *Lab) buildUplink(ctx context.Context, p *Peer) error {
	outside, inside := p.outside()
	if err := l.buildHost(ctx, p, outside); err != nil {
		return err
	}
	if err := l.startDaemon(ctx, p); err != nil {
		return err
	}
	in4, in6, own4, own6 := p.Net4, p.Net6, p.A4, p.A6
	if p.Publish {
		in4, in6, own4, own6 = p.Far4, p.Far6, p.B4, p.B6
	}
	port := []string{"add-port", network, "c1", "--netns", inside.namespace, "--ip", own4.String(), "--ip", own6.String()}
	if p.Publish {
		for _, proto := range []string{"tcp", "udp"} {
			port = append(port, "--publish", fmt.Sprintf("%d-%d:%[1]d-%[2]d/%s", FirstPort, LastPort, proto))
		}
	}
	return l.configureDaemon(ctx, p,
		[]string{"add-network", network, "--mtu", "1500", "--subnet", in4.String(), "--subnet", in6.String()},
		[]string{"add-uplink", outside.device},
		port)
}

// buildHostOnly:  A, which is the host itself, eth0 .1 ======== eth0 B
func (l *Lab) buildHostOnly(ctx context.Context, p *Peer) error {
	p.switchSpace = p.A
	p.Net4, p.Net6, p.A4, p.A6 = p.Far4, p.Far6, host(p.Far4, 1), host(p.Far6, 1)
	outside := leg{p.B, "eth0", p.A4, p.A6}
	for _, do := range []func() error{
		func() error { return l.cable(ctx, p, outside) },
		func() error { return l.addresses(ctx, p, outside) },
		func() error { return l.underlay(ctx, p, outside) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	if !p.Daemon {
		return nil
	}
	if err := l.startDaemon(ctx, p); err != nil {
		return err
	}
	return l.configureDaemon(ctx, p, []string{"add-network", network, "--subnet", "10.79.0.0/24"}, []string{"add-uplink", outside.device})
}

// buildPasta:  container eth0 (TAP) -------- pasta, sockets of the host -------- p0 .1 ======== eth0 outside
//
// It gets the others' MTU; by default it gives its container one of 65520, and lets the host's TCP cut that up.
func (l *Lab) buildPasta(ctx context.Context, p *Peer) error {
	outside, inside := p.outside()
	if err := l.buildHost(ctx, p, outside); err != nil {
		return err
	}
	own4, own6 := p.A4, p.A6
	if p.Publish {
		own4, own6 = p.B4, p.B6
	}
	ports := "none"
	if p.Publish {
		ports = fmt.Sprintf("%d-%d", FirstPort, LastPort)
	}
	return l.startStandIn(ctx, p, inside, "pasta", "--foreground", "--quiet", "--runas", "0:0", "--config-net", "--mtu", fmt.Sprint(mtu), "--ns-ifname", "eth0",
		"--interface", outside.device, "--address", own4.String(), "--netmask", "24", "--gateway", inside.v4.String(), "--address", own6.String(),
		"--gateway", inside.v6.String(), "--tcp-ports", ports, "--udp-ports", ports, "--tcp-ns", "none", "--udp-ns", "none",
		"--netns", filepath.Join("/run/netns", inside.namespace))
}

// buildSlirp is buildPasta with slirp4netns. The container's address is its choice.
func (l *Lab) buildSlirp(ctx context.Context, p *Peer) error {
	outside, inside := p.outside()
	if err := l.buildHost(ctx, p, outside); err != nil {
		return err
	}
	p.A4 = host(p.Net4, 100)
	return l.startStandIn(ctx, p, inside, "slirp4netns", "--configure", "--mtu", fmt.Sprint(mtu), "--cidr", p.Net4.String(), "--netns-type=path",
		filepath.Join("/run/netns", inside.namespace), "eth0")
}

// startStandIn starts a process that has the container's interface, and waits until that is up.
func (l *Lab) startStandIn(ctx context.Context, p *Peer, inside leg, argv ...string) error {
	var err error
	if p.Switch, err = l.Start(context.Background(), p.switchSpace, nil, argv...); err != nil {
		return err
	}
	l.onClose("stop "+argv[0], func(context.Context) error { p.Switch.Kill(); return nil })
	go p.Switch.drain()
	version, err := l.Output(ctx, "", argv[0], "--version")
	if err == nil {
		p.Version = firstLine(version)
	}
	if err := await(ctx, func() bool {
		out, err := l.Output(ctx, "", "ip", "-n", inside.namespace, "route", "show", "default")
		return err == nil && strings.Contains(string(out), "eth0") || ended(p.Switch.PID())
	}); err != nil {
		return fmt.Errorf("wait for %s: %w", argv[0], err)
	}
	if ended(p.Switch.PID()) {
		return fmt.Errorf("%s has ended: %s", argv[0], p.Switch.Stderr())
	}
	return nil
}
