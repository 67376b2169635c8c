package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Attaches tells whether more containers can be connected to the peer.
func (p *Peer) Attaches() bool { return p.attach != nil }

// Attach connects a third container to the peer, address and interface up, and returns how long that took. Then it is
// disconnected, which does not count.
func (l *Lab) Attach(ctx context.Context, p *Peer) (time.Duration, error) {
	start := time.Now()
	err := p.attach(ctx)
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("connect a third container: %w", err)
	}
	if err := p.detach(ctx); err != nil {
		return 0, fmt.Errorf("disconnect the third container: %w", err)
	}
	return took, nil
}

// third is the third container's address at a peer.
func (p *Peer) third() string {
	a := p.Net4.Addr().As4()
	return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], 4)
}

// attachToBridge has iproute2 do what one would write by hand, in as few processes as it takes.
func (l *Lab) attachToBridge(ctx context.Context, p *Peer) error {
	third, err := l.namespace(ctx, p.Name+"-c")
	if err != nil {
		return err
	}
	p.attach = func(ctx context.Context) error {
		return errors.Join(
			ipBatch(ctx, p.switchSpace, "link add third type veth peer name eth0 netns "+third, "link set third master br0 up"),
			ipBatch(ctx, third, "address add "+p.third()+"/24 dev eth0", "link set eth0 up"),
		)
	}
	p.detach = func(ctx context.Context) error { return ip(ctx, "-n "+p.switchSpace+" link del third") }
	return nil
}

// attachToDaemon has vsctl do it.
func (l *Lab) attachToDaemon(ctx context.Context, p *Peer, portType string) error {
	third, err := l.namespace(ctx, p.Name+"-c")
	if err != nil {
		return err
	}
	p.attach = func(ctx context.Context) error {
		_, err := l.vsctl(ctx, p, "add-port", network, "third", "--netns", third, "--ip", p.third(), "--type", portType)
		return err
	}
	p.detach = func(ctx context.Context) error {
		_, err := l.vsctl(ctx, p, "del-port", "third")
		return err
	}
	return nil
}

// ipBatch runs commands of iproute2 in a namespace by one process.
func ipBatch(ctx context.Context, namespace string, commands ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", namespace, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -n %s -batch: %w: %s", namespace, err, strings.TrimSpace(string(out)))
	}
	return nil
}
