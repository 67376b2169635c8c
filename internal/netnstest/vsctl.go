package netnstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Result is what one run of vsctl left.
type Result struct {
	Out, Err string
	Code     int // of its exit
}

// Vsctl runs vsctl on the daemon's socket.
func (d *Daemon) Vsctl(args ...string) Result {
	d.lab.t.Helper()
	return d.VsctlUntil(context.Background(), args...)
}

// VsctlUntil is Vsctl that is killed when the context ends; its exit code is -1 then.
func (d *Daemon) VsctlUntil(ctx context.Context, args ...string) Result {
	d.lab.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "vsctl"), append([]string{"--socket", d.Socket}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.lab.t.Fatalf("vsctl %s: %v", strings.Join(args, " "), err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Must is Vsctl that has to succeed; it returns what was printed, without the last line's end.
func (d *Daemon) Must(args ...string) string {
	d.lab.t.Helper()
	r := d.Vsctl(args...)
	if r.Code != 0 || r.Err != "" {
		d.lab.t.Fatalf("vsctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return strings.TrimSuffix(r.Out, "\n")
}

// Refused is Vsctl that has to fail with the exit code and a message that contains the words.
func (d *Daemon) Refused(code int, words string, args ...string) {
	d.lab.t.Helper()
	r := d.Vsctl(args...)
	if r.Code != code || !strings.Contains(r.Err, words) || r.Out != "" {
		d.lab.t.Errorf("vsctl %s: exit code %d, %q on stderr, %q on stdout; want %d, %q, nothing",
			strings.Join(args, " "), r.Code, r.Err, r.Out, code, words)
	}
}

// Get runs a verb of vsctl with -o json and reads its answer into a T.
func Get[T any](d *Daemon, args ...string) T {
	d.lab.t.Helper()
	var v T
	out := d.Must(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		d.lab.t.Fatalf("vsctl %s -o json: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// Join adds a port that is named label on the network, in the container.
func (d *Daemon) Join(network, label string, c *Container, flags ...string) {
	d.lab.t.Helper()
	d.Must(append([]string{"add-port", network, label, "--netns", c.Name}, flags...)...)
}

// Pair makes a lab's usual start: a network with the flags and two containers a and b with a port each.
func (d *Daemon) Pair(network string, flags ...string) (a, b *Container) {
	d.lab.t.Helper()
	d.Must(append([]string{"add-network", network}, flags...)...)
	a, b = d.lab.Container("a"), d.lab.Container("b")
	d.Join(network, "a", a)
	d.Join(network, "b", b)
	return a, b
}

// String names the daemon for people.
func (d *Daemon) String() string { return fmt.Sprintf("vswitchd %s", strings.Join(d.flags, " ")) }
