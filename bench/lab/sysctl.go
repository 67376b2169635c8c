package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	defaultCongestion   = "net.ipv4.tcp_congestion_control"
	allowedCongestion   = "net.ipv4.tcp_allowed_congestion_control"
	availableCongestion = "net.ipv4.tcp_available_congestion_control"
)

// ReadSysctl reads a kernel setting of the namespace we run in.
func ReadSysctl(key string) (string, error) {
	text, err := os.ReadFile(sysctlPath(key))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// WriteSysctl changes a kernel setting of the namespace we run in.
func WriteSysctl(key, value string) error {
	if err := os.WriteFile(sysctlPath(key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %q: %w", key, value, err)
	}
	return nil
}

func sysctlPath(key string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
}

// CongestionControls returns the machine's default congestion control and all that it has.
func CongestionControls() (preset string, available []string, err error) {
	preset, err = ReadSysctl(defaultCongestion)
	if err != nil {
		return "", nil, err
	}
	all, err := ReadSysctl(availableCongestion)
	return preset, strings.Fields(all), err
}

// AllowCongestion lets namespaces use a congestion control until Close. Only the initial namespace can say so; a namespace
// that sets a default which is not on the list gets EPERM.
func (l *Lab) AllowCongestion(name string) error {
	_, available, err := CongestionControls()
	if err != nil {
		return err
	}
	if !slices.Contains(available, name) {
		return fmt.Errorf("the kernel has no congestion control %s, only %s: load its module, tcp_%s", name, strings.Join(available, ", "), name)
	}
	allowed, err := ReadSysctl(allowedCongestion)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(allowed), name) {
		return nil
	}
	if err := WriteSysctl(allowedCongestion, allowed+" "+name); err != nil {
		return err
	}
	l.onClose("restore "+allowedCongestion, func(context.Context) error { return WriteSysctl(allowedCongestion, allowed) })
	return nil
}

// SetCongestion makes a congestion control the default of both containers of a peer.
//
// Asking iperf3 for it (-C) would not do: a socket born under bbr keeps the pacing of bbr, whatever it is told later.
func (l *Lab) SetCongestion(ctx context.Context, p *Peer, name string) error {
	if p.congestion == name {
		return nil
	}
	p.congestion = ""
	for _, namespace := range []string{p.A, p.B} {
		if err := l.setSysctls(ctx, namespace, defaultCongestion+"="+name); err != nil {
			return err
		}
	}
	p.congestion = name
	return nil
}

// bridgeWithoutNetfilter keeps the bridge from passing every frame through iptables, which it does where br_netfilter is
// loaded. Since Linux 5.3 the switches belong to the namespace, so that there is nothing to restore: it is deleted.
func (l *Lab) bridgeWithoutNetfilter(ctx context.Context, namespace string) error {
	if _, err := os.Stat("/proc/sys/net/bridge"); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	const key = "net.bridge.bridge-nf-call-"
	return l.setSysctls(ctx, namespace, key+"iptables=0", key+"ip6tables=0", key+"arptables=0")
}

// setSysctls changes settings of a namespace. Writing from outside is impossible: /proc/sys/net shows the namespace of
// whoever looks.
func (l *Lab) setSysctls(ctx context.Context, namespace string, settings ...string) error {
	_, err := l.Output(ctx, namespace, append([]string{l.Bench, "load", "sysctl"}, settings...)...)
	return err
}
