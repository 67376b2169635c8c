package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
	return exclusively(func() error {
		allowed, err := ReadSysctl(allowedCongestion)
		if err != nil || slices.Contains(strings.Fields(allowed), name) {
			return err
		}
		if err := os.WriteFile(savedAllowed, []byte(allowed), 0o600); err != nil {
			return fmt.Errorf("note the setting before its change: %w", err)
		}
		return WriteSysctl(allowedCongestion, allowed+" "+name)
	})
}

// savedAllowed holds allowedCongestion as it was before the first of the labs that stand changed it.
const savedAllowed = "/run/vswbench.allowed"

// restoreCongestion undoes AllowCongestion once no lab stands any more, ours or another process's. A run that was killed
// leaves the note behind, so that the next one restores the setting.
func (l *Lab) restoreCongestion() error {
	return exclusively(func() error {
		dirs, err := filepath.Glob("/run/" + prefix + "*")
		if err != nil {
			return fmt.Errorf("look for other labs: %w", err)
		}
		if slices.ContainsFunc(dirs, func(dir string) bool { return dir != l.dir && !orphan(filepath.Base(dir)) }) {
			return nil // the last one will do it
		}
		allowed, err := os.ReadFile(savedAllowed)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the setting before its change: %w", err)
		}
		return errors.Join(WriteSysctl(allowedCongestion, string(allowed)), os.Remove(savedAllowed))
	})
}

// exclusively runs do while no other process does the same.
func exclusively(do func() error) error {
	lock, err := os.Open("/run") // a directory serves as well as a file, and nothing stays behind
	if err != nil {
		return fmt.Errorf("open /run to lock it: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock /run: %w", err)
	}
	return do()
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
