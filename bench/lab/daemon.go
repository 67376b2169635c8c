package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names of the network that every daemon has, and of the second one of a daemon that routes.
const (
	network    = "bench"
	farNetwork = "far"
)

// buildDaemon:  A eth0 (TAP or veth) -------- vswitchd -------- (TAP or veth) eth0 B
func (l *Lab) buildDaemon(ctx context.Context, p *Peer, portType string) error {
	if err := l.startDaemon(ctx, p); err != nil {
		return err
	}
	of := network
	commands := [][]string{
		{"add-network", network, "--mtu", "1500", "--subnet", p.Net4.String(), "--subnet", p.Net6.String()},
		// The limit of MACs is the network's own: a case sends from thousands, and the bridge has no limit.
		{"add-port", network, "c1", "--netns", p.A, "--ip", p.A4.String(), "--ip", p.A6.String(), "--type", portType, "--mac-limit", "16384"},
	}
	if p.Masq {
		commands[0] = append(commands[0], "--masquerade", "on")
	}
	if p.Routed {
		of = farNetwork
		commands = append(commands, []string{"add-network", of, "--mtu", "1500", "--subnet", p.Far4.String(), "--subnet", p.Far6.String()})
	}
	commands = append(commands,
		[]string{"add-port", of, "c2", "--netns", p.B, "--ip", p.B4.String(), "--ip", p.B6.String(), "--type", portType})
	if err := l.configureDaemon(ctx, p, commands...); err != nil {
		return err
	}
	if err := l.attachToDaemon(ctx, p, portType); err != nil {
		return err
	}
	return l.growDaemon(ctx, p, portType)
}

// startDaemon starts a daemon in the peer's host, which is a namespace too, and waits until it answers.
func (l *Lab) startDaemon(ctx context.Context, p *Peer) error {
	var err error
	if p.switchSpace == "" {
		if p.switchSpace, err = l.namespace(ctx, p.Name+"-sw"); err != nil {
			return err
		}
	}
	dir := filepath.Join(l.dir, p.Name)
	state := filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("make the daemon's state directory: %w", err)
	}
	p.daemonSocket = filepath.Join(dir, "vswitchd.sock")
	argv := append([]string{l.Vswitchd, "--socket", p.daemonSocket, "--state-dir", state, "--fdstore=none"}, p.Args...)
	if p.Switch, err = l.Start(context.Background(), p.switchSpace, nil, argv...); err != nil {
		return err
	}
	l.onClose("stop the daemon of "+p.Name, func(ctx context.Context) error { return l.stopDaemon(ctx, p, state) })
	go p.Switch.drain()
	p.Version, err = l.awaitDaemon(ctx, p)
	return err
}

// configureDaemon has vsctl run commands.
func (l *Lab) configureDaemon(ctx context.Context, p *Peer, commands ...[]string) error {
	for _, command := range commands {
		if _, err := l.vsctl(ctx, p, command...); err != nil {
			return fmt.Errorf("%w\nthe daemon's last words: %s", err, p.Switch.Stderr())
		}
	}
	return nil
}

func firstLine(text []byte) string {
	first, _, _ := strings.Cut(string(text), "\n")
	return first
}

func (l *Lab) vsctl(ctx context.Context, p *Peer, args ...string) (string, error) {
	out, err := l.Output(ctx, "", append([]string{l.Vsctl, "--socket", p.daemonSocket}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// awaitDaemon waits until the daemon answers and returns its version.
func (l *Lab) awaitDaemon(ctx context.Context, p *Peer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		version, err := l.vsctl(ctx, p, "version")
		if err == nil {
			return firstLine([]byte(version)), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("vswitchd does not answer: %w\nits last words: %s", err, p.Switch.Stderr())
		case <-time.After(50 * time.Millisecond):
		}
		if ended(p.Switch.PID()) {
			return "", fmt.Errorf("vswitchd has ended: %w\nits last words: %s", p.Switch.Wait(), p.Switch.Stderr())
		}
	}
}

// stopDaemon ends the daemon in order and has it remove all that it made.
func (l *Lab) stopDaemon(ctx context.Context, p *Peer, state string) error {
	daemon := p.Switch
	daemon.Signal(syscall.SIGTERM)
	deadline := time.Now().Add(5 * time.Second)
	var slow error
	for !ended(daemon.PID()) {
		if time.Now().After(deadline) {
			slow = errors.New("vswitchd did not end within 5 s of SIGTERM and was killed")
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	daemon.Kill()
	_, err := l.Output(ctx, p.switchSpace, l.Vswitchd, "--teardown", "--state-dir", state)
	return errors.Join(slow, err)
}

// ended reports whether a process runs no more. A child of ours is then a zombie until we wait for it.
func ended(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}
