package vswitch_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestLogPipeStalls: who reads the log stands still. Neither verbs nor frames wait for him, and he is told what he missed.
//
//	a eth0 ===TCP=== net1 === eth0 b      vswitchd 2>| (full pipe)
func TestLogPipeStalls(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--log-level", "debug")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	d.Stderr = w
	d.Start()
	w.Close()
	a, b := pairOf(lab, d, "tap", "tap")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	c := lab.Container("c")
	fillLog(t, d)
	gap := shortest(time.Second, func() time.Duration {
		s.longest()
		d.Join("net1", "c", c)
		d.Must("del-port", "c")
		s.goesOn(lab)
		return s.longest()
	})
	if gap > time.Second {
		t.Errorf("traffic stood still for %v", gap)
	}

	told := make(chan string, 1)
	go func() {
		for in := bufio.NewScanner(r); in.Scan(); {
			if strings.Contains(in.Text(), "lines of the log are lost") {
				told <- in.Text()
				break
			}
		}
		io.Copy(io.Discard, r)
	}()
	select {
	case <-told:
	case <-time.After(netnstest.Patience):
		t.Error("the reader is not told that lines are lost")
	}
	lab.Eventually("the queue of the log is empty", func() bool {
		d.Client.Show(t.Context())
		lost := metric(t, d, "vswitch_log_lost_total")
		d.Client.Show(t.Context())
		return metric(t, d, "vswitch_log_lost_total") == lost
	})
}

// fillLog has the daemon, which logs for debugging, write more than pipe and queue take.
func fillLog(t *testing.T, d *netnstest.Daemon) {
	t.Helper()
	for i := 0; metric(t, d, "vswitch_log_lost_total") == 0; i++ {
		if i > 50 {
			t.Fatal("the log takes all lines, although nobody reads it")
		}
		for range 500 { // a line each
			if _, err := d.Client.Networks(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestEndWithFullLog: the end waits for a reader that stands still, but not for long.
func TestEndWithFullLog(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon("--log-level", "debug")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d.Stderr = w
	d.Start()
	w.Close()
	fillLog(t, d)
	start := time.Now()
	d.Stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// TestLogPipeBreaks: nobody reads the log any more, and standard input and output are closed.
func TestLogPipeBreaks(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stderr, d.Before = w, []string{"sh", "-c", `exec "$0" "$@" <&- >&-`}
	d.Start()
	w.Close()
	r.Close()
	d.Must("add-network", "net1", "--subnet", subnet4)
	a, b := lab.Container("a"), lab.Container("b")
	d.Join("net1", "a", a)
	d.Join("net1", "b", b)
	ping(lab, a, b4)
	if metric(t, d, "vswitch_log_lost_total") == 0 {
		t.Error("the lines are not counted as lost")
	}
	d.Stop()
	d.Stderr, d.Before = nil, []string{"sh", "-c", `exec "$0" "$@" <&- >&- 2>&-`}
	d.Start()
	ping(lab, a, b4)
	d.Kill()
	d.Start()
	ping(lab, a, b4)
}

// TestSignals: those that mean nothing to us are ignored; the two that mean the end make a clean one.
func TestSignals(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := pairOf(lab, d, "tap", "veth")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE} {
		for _, pid := range []int{d.PID(), keeperOf(d)} {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
		d.Must("show")
	}
	if keeperOf(d) == 0 {
		t.Error("the keeper is gone")
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(d.PID(), sig); err != nil {
			t.Fatal(err)
		}
		if err := d.Wait(); err == nil || err.Error() != "exit status 0" {
			t.Errorf("%v: the daemon ended with %v", sig, err)
		}
		d.Start()
		ping(lab, a, b4)
	}
}

// TestFrozen: a daemon that is stopped for ten seconds goes on where it was. Frames wait in the queues of the interfaces.
//
//	a eth0 ===TCP=== net1 === eth0 b
func TestFrozen(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := pairOf(lab, d, "tap", "veth")
	d.Must("add-network", "brief", "--subnet", "10.10.0.0/24", "--age", "5")
	c := lab.Container("c")
	c.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	d.Join("brief", "c", c) // announced, and silent from then on
	if n := len(netnstest.Get[[]api.FDBEntry](d, "fdb", "brief")); n != 1 {
		t.Fatalf("%d addresses are learned, want 1", n)
	}
	s := startStream(t, a, b, b4)
	s.goesOn(lab)

	const pause = 10 * time.Second
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(d.PID(), sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	asked := make(chan error, 1)
	go func() {
		_, err := d.Client.Show(t.Context())
		asked <- err
	}()
	time.Sleep(pause) // the fault itself
	signal(syscall.SIGCONT)
	if err := <-asked; err != nil {
		t.Errorf("who asked meanwhile got %v", err)
	}
	s.goesOn(lab)
	// Ages are of the time that passed, no more: what speaks is fresh, what was silent is old.
	for _, f := range netnstest.Get[[]api.FDBEntry](d, "fdb") {
		switch {
		case f.Network == "brief":
			t.Errorf("%s was silent for twice its age and is still there, %d s old", f.MAC, f.Age)
		case f.Origin == "learned" && f.Age > 2:
			t.Errorf("%s speaks all the time and is %d s old", f.MAC, f.Age)
		}
	}
	d.Must("add-port", "net1", "new", "--netns", lab.Container("new").Name)
	if got := fmt.Sprint(events(t, d, "a"), events(t, d, "b")); strings.Contains(got, "gone") || strings.Contains(got, "down") {
		t.Errorf("events: %s", got)
	}
}
