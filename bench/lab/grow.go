package lab

import (
	"context"
	"fmt"
)

// grow connects p.Ports more containers' interfaces, all in one more namespace. They carry nothing but what is flooded to them.
func (l *Lab) grow(ctx context.Context, p *Peer, connect func(ctx context.Context, namespace string, first, last int) error) error {
	if p.Ports == 0 {
		return nil
	}
	many, err := l.namespace(ctx, p.Name+"-many")
	if err != nil {
		return err
	}
	// A namespace looks through the ff00::/8 routes of all its interfaces for each multicast that it receives. Containers have few.
	if err := ip(ctx, "netns exec "+many+" sysctl -qw net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return err
	}
	const step = 100
	for first := 0; first < p.Ports; first += step {
		if err := connect(ctx, many, first, min(first+step, p.Ports)); err != nil {
			return fmt.Errorf("connect ports %d and on: %w", first, err)
		}
	}
	return nil
}

// growBridge connects veths.
func (l *Lab) growBridge(ctx context.Context, p *Peer) error {
	return l.grow(ctx, p, func(ctx context.Context, many string, first, last int) error {
		var there, here []string
		for i := first; i < last; i++ {
			there = append(there,
				fmt.Sprintf("link add m%d type veth peer name e%d netns %s", i, i, many), fmt.Sprintf("link set m%d master br0 up", i))
			here = append(here, fmt.Sprintf("link set e%d addrgenmode none up", i))
		}
		if err := ipBatch(ctx, p.switchSpace, there...); err != nil {
			return err
		}
		return ipBatch(ctx, many, here...)
	})
}

// growDaemon connects ports of the daemon, a hundred by a transaction.
func (l *Lab) growDaemon(ctx context.Context, p *Peer, portType string) error {
	return l.grow(ctx, p, func(ctx context.Context, many string, first, last int) error {
		var args, up []string
		for i := first; i < last; i++ {
			if i > first {
				args = append(args, "--")
			}
			args = append(args, "add-port", network, fmt.Sprintf("m%d", i), "--netns", many, "--ifname", fmt.Sprintf("e%d", i),
				"--type", portType, "--no-config", "--no-ip")
			up = append(up, fmt.Sprintf("link set e%d addrgenmode none up", i))
		}
		if _, err := l.vsctl(ctx, p, args...); err != nil {
			return err
		}
		return ipBatch(ctx, many, up...)
	})
}
