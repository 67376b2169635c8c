package lab

import (
	"context"
	"fmt"
	"net/netip"
)

func (l *Lab) buildCableToB(ctx context.Context, p *Peer) error {
	return l.buildCable(ctx, p, end{p.A, p.A4, p.A6}, end{p.B, p.B4, p.B6})
}

func (l *Lab) buildCableToA(ctx context.Context, p *Peer) error {
	return l.buildCable(ctx, p, end{p.B, p.B4, p.B6}, end{p.A, p.A4, p.A6})
}

// end is one side of a switched network.
type end struct {
	namespace string
	v4, v6    netip.Addr
}

// buildCable:  near eth0 (TAP) -------- vswitchd -------- (TAP) t0 patch p0 ======== eth0 far
func (l *Lab) buildCable(ctx context.Context, p *Peer, near, far end) error {
	if err := l.startDaemon(ctx, p); err != nil {
		return err
	}
	if err := l.configureDaemon(ctx, p,
		[]string{"add-network", network, "--mtu", "1500", "--subnet", p.Net4.String(), "--subnet", p.Net6.String()},
		[]string{"add-port", network, "c1", "--netns", near.namespace, "--ip", near.v4.String(), "--ip", near.v6.String()},
		[]string{"add-port", network, "c2", "--netns", p.switchSpace, "--ifname", "t0", "--no-config", "--no-ip"}); err != nil {
		return err
	}
	in := "-n " + p.switchSpace
	for _, command := range []string{
		"netns exec " + p.switchSpace + " sysctl -qw net.ipv6.conf.all.disable_ipv6=1", // the interfaces in the middle say nothing of their own
		fmt.Sprintf("%s link add p0 mtu %d type veth peer name eth0 netns %s", in, mtu, far.namespace),
		in + " link set p0 up",
		in + " link set t0 up",
	} {
		if err := ip(ctx, command); err != nil {
			return err
		}
	}
	if err := l.configure(ctx, far.namespace, far.v4, far.v6); err != nil {
		return err
	}
	patch, err := l.Start(context.Background(), p.switchSpace, nil, l.Bench, "patch", "t0", "p0")
	if err != nil {
		return err
	}
	l.onClose("stop a patch", func(context.Context) error { patch.Kill(); return nil })
	if line, err := patch.Line(); err != nil || line != "ready" {
		return fmt.Errorf("the patch is not ready: %q: %w", line, err)
	}
	return l.underlay(ctx, p, leg{namespace: far.namespace, device: "p0"})
}
