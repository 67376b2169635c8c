package vswitch_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestTeardown leaves nothing, whoever still lives.
func TestTeardown(t *testing.T) {
	for _, keeper := range []string{"alive", "dead"} {
		t.Run("keeper "+keeper, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", "veth")
			if out, err := d.Teardown(); err == nil || !strings.Contains(err.Error(), strconv.Itoa(d.PID())) || !strings.Contains(err.Error(), "stop it") {
				t.Errorf("teardown while the daemon runs: %v%s", err, out)
			}
			ping(lab, a, b4)
			d.Kill()
			if keeper == "dead" { // and nobody is there to start another
				killKeeper(t, d)
			}
			kept := keeperOf(d)
			if out, err := d.Teardown(); err != nil {
				t.Errorf("teardown: %v%s", err, out)
			}
			if pid := keeperOf(d); pid != 0 && pid != kept {
				t.Errorf("teardown has started a keeper, pid %d", pid)
			}
			for _, c := range []*netnstest.Container{a, b} {
				lab.Eventually(c.Name+" has no interface", func() bool { return len(c.Links()) == 0 })
			}
			lab.Eventually("the keeper ends", func() bool { return keeperOf(d) == 0 })
			if out, err := d.Teardown(); err != nil {
				t.Errorf("teardown of nothing: %v%s", err, out)
			}
			if pid := keeperOf(d); pid != 0 {
				t.Errorf("teardown of nothing has started a keeper, pid %d", pid)
			}
			d.Start()
			if nets := netnstest.Get[[]api.Network](d, "list-networks"); len(nets) != 0 {
				t.Errorf("networks after teardown: %v", nets)
			}
		})
	}
}

// TestTwoDaemons: neither state nor socket of a daemon at work is taken, and the second leaves nothing.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := pairOf(lab, d, "tap", "veth")
	second := lab.NewDaemon()
	if err := second.TryStart("--state-dir", d.State); err == nil || !strings.Contains(second.Log(), strconv.Itoa(d.PID())) {
		t.Errorf("on the same state: %v\n%s", err, second.Log())
	}
	own := second.Socket
	second.Socket = d.Socket
	if err := second.TryStart(); err == nil || !strings.Contains(second.Log(), "another daemon answers") {
		t.Errorf("on the same socket: %v\n%s", err, second.Log())
	}
	second.Socket = own
	lab.Eventually("no keeper stays behind", func() bool { return keeperOf(second) == 0 })
	ping(lab, a, b4)
	if len(netnstest.Get[[]api.Port](d, "list-ports")) != 2 {
		t.Error("the first daemon lost ports")
	}
}

// TestNotWritable: the daemon says what it can't write, and leaves no keeper behind.
func TestNotWritable(t *testing.T) {
	for _, tt := range [][]string{{"--state-dir", "/proc/nowhere"}, {"--socket", "/proc/nowhere/s"}, {"--socket", "/proc/version"}} {
		t.Run(tt[1], func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.NewDaemon()
			err := d.TryStart(tt...)
			if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(d.Log(), filepath.Dir(tt[1])) {
				t.Errorf("%v\n%s", err, d.Log())
			}
			lab.Eventually("no keeper stays behind", func() bool { return keeperOf(d) == 0 })
		})
	}
}

// waiting starts a daemon whose add-port stops at the failpoint, and adds port b. What it returns lets the verb go on.
func waiting(t *testing.T, lab *netnstest.Lab, step string) (d *netnstest.Daemon, b *netnstest.Container, added chan netnstest.Result, goOn *os.File) {
	t.Helper()
	d = lab.NewDaemon()
	fifo := filepath.Join(filepath.Dir(d.State), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":wait=" + fifo}
	d.Start()
	d.Env = nil
	d.Must("add-network", "net1", "--subnet", subnet4)
	b = lab.Container("b")
	added = make(chan netnstest.Result, 1)
	go func() { added <- d.Vsctl("add-port", "net1", "b", "--netns", b.Name) }()
	return d, b, added, openFIFO(t, fifo)
}

func terminate(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon) {
	t.Helper()
	if err := syscall.Kill(d.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	lab.Eventually("the daemon heard SIGTERM", func() bool {
		_, err := os.Stat(d.Socket)
		return err != nil
	})
}

// TestTerminatedDuringVerb: the verb is answered, then the daemon ends.
func TestTerminatedDuringVerb(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, b, added, goOn := waiting(t, lab, "attach.placed")
	terminate(t, lab, d)
	goOn.Close()
	if r := <-added; r.Code != 0 {
		t.Errorf("add-port: %d %s", r.Code, r.Err)
	}
	if err := d.Wait(); err == nil || !strings.Contains(err.Error(), "exit status 0") {
		t.Errorf("the daemon: %v", err)
	}
	d.Start()
	if p := portOf(t, d, "b"); p.Status.State != api.StateUp || len(b.Links()) != 1 {
		t.Errorf("%+v", p.Status)
	}
}

// TestTerminatedTwice: who asks twice does not want to wait.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, b, added, goOn := waiting(t, lab, "attach.placed")
	terminate(t, lab, d)
	if err := syscall.Kill(d.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the daemon: %v", err)
	}
	goOn.Close()
	if r := <-added; r.Code != 3 {
		t.Errorf("add-port: %d %s", r.Code, r.Err)
	}
	d.Start()
	if n := len(b.Links()); n != 0 {
		t.Errorf("%d interfaces are left", n)
	}
}
