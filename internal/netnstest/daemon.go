package netnstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"vswitch/ctl"
)

// Daemon is a vswitchd with a state folder, a socket and a host namespace of its own.
type Daemon struct {
	Host   *Container // where it runs
	State  string
	Socket string
	Client *ctl.Client
	Delay  time.Duration // beyond Patience, for its start: one that has thousands of interfaces to make
	Env    []string      // added to the environment at each start, as "NAME=VALUE"
	Files  []*os.File    // given to it as systemd gives what it stores: LISTEN_FDS and LISTEN_PID
	Before []string      // a program with its arguments that starts it, by exec, like "prlimit --nofile=64"
	Stderr *os.File      // where it logs, instead of the file that Log reads

	lab     *Lab
	bin     string
	flags   []string
	cmd     *exec.Cmd
	exited  chan error
	log     string // its file
	allowed []string
}

// Daemon makes and starts a daemon with these flags. It has no host port unless they say so: most tests count what there is in the
// host's namespace.
func (l *Lab) Daemon(flags ...string) *Daemon {
	l.t.Helper()
	d := l.NewDaemon(flags...)
	d.Start()
	return d
}

// NewDaemon makes a daemon that is not started yet: its host's routes and its environment can be set before.
func (l *Lab) NewDaemon(flags ...string) *Daemon {
	l.t.Helper()
	bin, err := binaries()
	if err != nil {
		l.t.Fatal(err)
	}
	dir := l.dir()
	d := &Daemon{
		Host: l.Container("host"), State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s"),
		lab: l, bin: bin, flags: flags, log: filepath.Join(dir, "log"),
	}
	d.Client = ctl.New(d.Socket)
	l.daemons = append(l.daemons, d)
	return d
}

// Start starts the daemon and waits until its socket answers. More flags go after those of Daemon.
func (d *Daemon) Start(flags ...string) {
	d.lab.t.Helper()
	if err := d.TryStart(flags...); err != nil {
		d.lab.t.Fatalf("%v\n%s", err, d.Log())
	}
}

// TryStart is Start that may fail.
func (d *Daemon) TryStart(flags ...string) error {
	if err := d.launch(flags); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience + d.Delay); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := d.Client.Daemon(ctx)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case e := <-d.exited:
			d.cmd = nil
			return fmt.Errorf("vswitchd ended instead of getting ready: %w", e)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("vswitchd is not ready after %v: %w", Patience+d.Delay, err)
		}
	}
}

// launch starts the process. It dies with the test process: the thread that started it waits for it.
func (d *Daemon) launch(flags []string) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append(slices.Clone(d.Before), filepath.Join(d.bin, "vswitchd"), "--state-dir", d.State, "--socket", d.Socket, "--host-port=off")
	args = append(append(args, d.flags...), flags...)
	cmd := exec.Command(args[0], args[1:]...)
	if len(d.Files) > 0 {
		args := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`}, cmd.Args...)
		cmd = exec.Command("sh", args...)
		cmd.ExtraFiles = d.Files
	}
	cmd.Stdout, cmd.Stderr = log, log
	if d.Stderr != nil {
		cmd.Stderr = d.Stderr
	}
	cmd.Env = append(os.Environ(), d.Env...)
	if len(d.Files) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(d.Files)))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error, 2), make(chan error, 1)
	go func() {
		err := d.Host.Do(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return exitError(cmd.Wait())
		})
		started <- err // heard when the namespace could not be entered
		exited <- err
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start vswitchd: %w", err)
	}
	d.cmd, d.exited = cmd, exited
	return nil
}

var errExit0 = errors.New("exit status 0")

func exitError(err error) error {
	if err == nil {
		return errExit0
	}
	return err
}

// Running tells whether it was started and has not been stopped.
func (d *Daemon) Running() bool { return d.cmd != nil }

// PID returns the process's id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop ends the daemon with SIGTERM. It must obey, without complaint.
func (d *Daemon) Stop() {
	d.lab.t.Helper()
	if err := d.signal(syscall.SIGTERM); err != nil && !errors.Is(err, errExit0) {
		d.lab.t.Errorf("vswitchd after SIGTERM: %v\n%s", err, d.Log())
	}
}

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() {
	d.lab.t.Helper()
	if err := d.signal(syscall.SIGKILL); err == nil || errors.Is(err, errExit0) {
		d.lab.t.Errorf("vswitchd after SIGKILL: %v", err)
	}
}

// Wait returns how the daemon ended by itself.
func (d *Daemon) Wait() error {
	d.lab.t.Helper()
	select {
	case err := <-d.exited:
		d.cmd = nil
		return err
	case <-time.After(Patience):
		d.lab.t.Fatalf("vswitchd still runs after %v\n%s", Patience, d.Log())
		return nil
	}
}

func (d *Daemon) signal(sig syscall.Signal) error {
	d.lab.t.Helper()
	if d.cmd == nil {
		d.lab.t.Fatal("vswitchd does not run")
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.lab.t.Errorf("signal vswitchd: %v", err)
	}
	d.Client.Close()
	select {
	case err := <-d.exited:
		d.cmd = nil
		return err
	case <-time.After(Patience):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // its stacks go to the log
		<-d.exited
		d.cmd = nil
		return fmt.Errorf("still running %v after %v", Patience, sig)
	}
}

// Teardown runs 'vswitchd --teardown' on the state of the stopped daemon.
func (d *Daemon) Teardown() (string, error) {
	args := append([]string{"--state-dir", d.State, "--socket", d.Socket}, d.flags...)
	return d.Host.Try(filepath.Join(d.bin, "vswitchd"), append(args, "--teardown")...)
}

// Eventually waits until cond holds.
func (d *Daemon) Eventually(what string, cond func() bool) {
	d.lab.t.Helper()
	d.lab.Eventually(what, cond)
}

// Log returns what the daemon wrote, the last of it when it is much.
func (d *Daemon) Log() string {
	all := d.wholeLog()
	return all[max(0, len(all)-64<<10):]
}

func (d *Daemon) wholeLog() string {
	b, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Allow says that lines of the log that contain the words are no failure of the test.
func (d *Daemon) Allow(words string) { d.allowed = append(d.allowed, words) }

// bad matches lines of the log that fail a test.
var bad = regexp.MustCompile(`(?m)^.*(level=(WARN|ERROR)|panic:|fatal error:|DATA RACE).*$`)

// close stops and tears down the daemon and checks that nothing is left of it.
func (d *Daemon) close() {
	t := d.lab.t
	if d.cmd != nil {
		d.Stop()
	}
	if out, err := d.Teardown(); err != nil {
		t.Errorf("teardown: %v%s", err, out)
	}
	for pid, line := range processes(d.State + "/") {
		if !strings.Contains(line, " keeper ") {
			t.Errorf("process %d is left: %s", pid, line)
			continue
		}
		for _, file := range d.kept(pid) {
			t.Errorf("the keeper still holds %s", file)
		}
		_ = syscall.Kill(pid, syscall.SIGTERM) // holding nothing it would end by itself, but later
	}
lines:
	for _, line := range bad.FindAllString(d.wholeLog(), -1) {
		for _, words := range d.allowed {
			if strings.Contains(line, words) {
				continue lines
			}
		}
		t.Errorf("vswitchd's log: %s", line)
	}
	if t.Failed() {
		t.Logf("vswitchd's log:\n%s", d.Log())
	}
}

// kept lists what a keeper holds: it has no use for devices, namespaces and packet sockets of its own.
func (d *Daemon) kept(pid int) []string {
	var held []string
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err == nil && (to == "/dev/net/tun" || strings.HasPrefix(to, "net:[") || strings.Contains(to, "bpf")) {
			held = append(held, to)
		}
	}
	return held
}

// FDs returns how many file descriptors the daemon has open.
func (d *Daemon) FDs() int {
	d.lab.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		d.lab.t.Fatal(err)
	}
	return len(list)
}
