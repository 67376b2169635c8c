// Package lab builds the networks under comparison: for each peer two containers (network namespaces A and B) and what
// switches between them. All names start with "vswbench-" and the process id, and Close removes everything.
//
//	  A                    the peer                     B
//	+------+     +------------------------------+    +------+
//	| eth0 |-----| bridge | veth | TAPs + pump  |----| eth0 |
//	+------+ .2  | vswitchd with TAPs or veths  | .3 +------+      10.77.N.0/24, fd77:0:0:N::/64
//	             +------------------------------+
//
// A peer that routes has B in a network of its own: 10.78.N.0/24, fd78:0:0:N::/64.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prefix starts the names of all namespaces and directories of this program.
const prefix = "vswbench-"

// Programs are the programs that a lab runs. Vswitchd and Vsctl may be missing from the disk when no peer needs them.
type Programs struct {
	Bench    string // this program, for generators and the naive pump
	Vswitchd string
	Vsctl    string
	NIC      bool // cables to an outside carry frames of 1500 bytes, as those of a network card without offloads
}

// Lab owns namespaces, processes and changed settings until Close.
type Lab struct {
	Programs
	prefix string
	dir    string // sockets, state and logs
	undo   []undo
}

type undo struct {
	what string
	do   func(context.Context) error
}

// Open makes an empty lab, after removing what runs that were killed have left behind.
func Open(ctx context.Context, programs Programs) (*Lab, error) {
	l := &Lab{Programs: programs, prefix: fmt.Sprintf("%s%d-", prefix, os.Getpid())}
	l.dir = filepath.Join("/run", strings.TrimSuffix(l.prefix, "-"))
	if err := l.sweep(ctx); err != nil {
		return nil, err
	}
	// The first to be registered is the last to be done: our directory, which stands for this lab, is gone by then.
	l.onClose("restore "+allowedCongestion, func(context.Context) error { return l.restoreCongestion() })
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	l.onClose("remove "+l.dir, func(context.Context) error { return os.RemoveAll(l.dir) })
	return l, nil
}

// CheckTools reports which of the programs of others are missing, and what to install.
func CheckTools() error {
	var missing []error
	for _, tool := range []struct{ name, pkg string }{{"ip", "iproute2"}, {"iperf3", "iperf3"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			missing = append(missing, fmt.Errorf("%s not found: install the package %s", tool.name, tool.pkg))
		}
	}
	return errors.Join(missing...)
}

// Close undoes everything in reverse order. It goes on after errors and returns them all.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, u := range slices.Backward(l.undo) {
		if err := u.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.what, err))
		}
	}
	l.undo = nil
	return errors.Join(errs...)
}

func (l *Lab) onClose(what string, do func(context.Context) error) {
	l.undo = append(l.undo, undo{what, do})
}

// namespace creates a network namespace with lo up.
func (l *Lab) namespace(ctx context.Context, name string) (string, error) {
	name = l.prefix + name
	if err := ip(ctx, "netns add "+name); err != nil {
		return "", err
	}
	l.onClose("delete namespace "+name, func(ctx context.Context) error { return ip(ctx, "netns del "+name) })
	return name, ip(ctx, "-n "+name+" link set lo up")
}

// ip runs one command of iproute2.
func ip(ctx context.Context, command string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// sweep removes namespaces, daemons' ports and directories of runs whose process is gone.
func (l *Lab) sweep(ctx context.Context) error {
	dirs, err := filepath.Glob("/run/" + prefix + "*")
	if err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	for _, dir := range dirs {
		if !orphan(filepath.Base(dir)) {
			continue
		}
		states, _ := filepath.Glob(filepath.Join(dir, "*", "state")) // the pattern is right
		for _, state := range states {
			// Best effort: an error here must not keep anybody from measuring.
			exec.CommandContext(ctx, l.Vswitchd, "--teardown", "--state-dir", state).Run()
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove a leftover: %w", err)
		}
	}
	namespaces, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	for _, entry := range namespaces {
		if orphan(entry.Name()) {
			if err := ip(ctx, "netns del "+entry.Name()); err != nil {
				return fmt.Errorf("remove a leftover: %w", err)
			}
		}
	}
	return l.restoreCongestion()
}

// orphan reports whether a name is one of ours whose process is gone.
func orphan(name string) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	if !ours {
		return false
	}
	number, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(number)
	return err == nil && pid > 0 && ended(pid) // also a zombie, which nobody may ever wait for
}
