package vswitch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// inTest is how many ports tests have where no environment variable asks for more.
const inTest = 100

// number returns the environment variable, or what it is without.
func number(t *testing.T, name string, without int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return without
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: use a number", name, s)
	}
	return n
}

// atOnce calls f for 0 to n-1, by so many callers.
func atOnce(n, callers int, f func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(callers)
	for i := range n {
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

// manyLab is a daemon with as many ports as its crowd has namespaces.
type manyLab struct {
	*netnstest.Lab
	t     *testing.T
	d     *netnstest.Daemon
	crowd *netnstest.Crowd
	typ   string

	making, removing time.Duration // what the kernel alone takes for as many
}

// within measures f, and fails the test when it takes longer. What is over the limit has two more tries, each prepared: a machine that
// is busy with other things stalls one now and then.
func (l *manyLab) within(limit time.Duration, what string, f, prepare func()) {
	l.t.Helper()
	for tries := 3; ; tries-- {
		took := l.measure(limit, what, f)
		if took <= limit {
			return
		}
		if tries == 1 {
			l.t.Errorf("%s took %v, at most %v", what, took, limit)
			return
		}
		prepare()
	}
}

func (l *manyLab) measure(limit time.Duration, what string, f func()) time.Duration {
	l.t.Helper()
	start := time.Now()
	f()
	took := time.Since(start)
	l.t.Logf("%-28s %8.1f ms, at most %.0f", what, took.Seconds()*1e3, limit.Seconds()*1e3)
	return took
}

// adding and removal are how long it may take to make all ports, and to remove them.
func (l *manyLab) adding() time.Duration {
	return 8*l.making + time.Duration(l.crowd.Len())*20*time.Millisecond
}

func (l *manyLab) removal() time.Duration {
	return 10*l.removing + time.Duration(l.crowd.Len())*15*time.Millisecond
}

// kernel measures what the kernel alone takes.
func (l *manyLab) kernel() {
	l.t.Helper()
	making, removing := bare(l.t, l.typ, l.crowd)
	l.making, l.removing = max(l.making, making), max(l.removing, removing)
}

// besideKernel measures f, and fails the test when it takes longer than the limit, for which the kernel alone is measured again when need be.
func (l *manyLab) besideKernel(limit func() time.Duration, what string, f func()) {
	l.t.Helper()
	took := l.measure(limit(), what, f)
	if took > limit() {
		l.kernel()
	}
	if took > limit() {
		l.t.Errorf("%s took %v, at most %v", what, took, limit())
	}
}

func (l *manyLab) add() {
	l.t.Helper()
	err := atOnce(l.crowd.Len(), 16, func(i int) error {
		_, err := l.d.Client.AddPort(l.t.Context(), api.PortRequest{
			Name: fmt.Sprint("p", i), Network: "net1", Netns: l.crowd.Path(i), Type: l.typ,
		})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// wantUp: all ports work, and are no more than there should be.
func (l *manyLab) wantUp() {
	l.t.Helper()
	ports, err := l.d.Client.Ports(l.t.Context())
	if err != nil || len(ports) != l.crowd.Len() {
		l.t.Fatalf("%d ports, want %d, %v", len(ports), l.crowd.Len(), err)
	}
	for _, p := range ports {
		if p.Status.State != api.StateUp {
			l.t.Errorf("port %s is %s %s", p.Name, p.Status.State, p.Status.Error)
		}
	}
}

// idle measures what the ports cost when nothing happens.
func (l *manyLab) idle(memory int) {
	l.t.Helper()
	n := l.crowd.Len()
	l.t.Logf("%-28s %8d KiB of the daemon's memory a port", "idle", (resident(l.t, l.d)-memory)/n)
	// The race detector has memory of its own, so it is the heap that counts.
	if heap := metric(l.t, l.d, "go_memstats_heap_inuse_bytes"); heap > 16<<20+float64(n*100<<10) {
		l.t.Errorf("the heap with %d ports has %.0f bytes", n, heap)
	}
	calm(l.t, l.Lab, l.d)
	const window, tries = 2 * time.Second, 5
	var shares []float64 // what is left to do from before, as for the collector, ends
	for len(shares) < tries && (len(shares) == 0 || shares[len(shares)-1] > 0.001) {
		used, start := runTime(l.t, l.d), time.Now()
		time.Sleep(window)
		shares = append(shares, float64(runTime(l.t, l.d)-used)/float64(time.Since(start)))
	}
	l.t.Logf("%-28s %8.3f %% of a core", "idle", shares[len(shares)-1]*100)
	if shares[len(shares)-1] > 0.001 {
		l.t.Errorf("idle, the daemon uses more than 0.1 %% of a core: shares of %.4f", shares)
	}
}

// runTime returns how long the daemon's threads have run, to the nanosecond.
func runTime(t *testing.T, d *netnstest.Daemon) (sum time.Duration) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", d.PID()))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		var ns int64
		if b, err := os.ReadFile(task); err == nil {
			fmt.Sscan(string(b), &ns)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// TestManyPorts holds what many ports cost against what the kernel alone takes for as many interfaces, measured at the same
// time. VSWITCH_PORTS says how many.
func TestManyPorts(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			n := number(t, "VSWITCH_PORTS", inTest)
			l := &manyLab{Lab: netnstest.New(t), t: t, typ: typ}
			l.d = l.Daemon()
			l.crowd = l.Crowd(n)
			l.d.Must("add-network", "net1", "--subnet", "10.9.0.0/16")
			l.d.Allow("the keeper went away")
			l.kernel()
			t.Logf("%d ports; the kernel alone: made in %v, removed in %v", n, l.making.Round(time.Millisecond), l.removing.Round(time.Millisecond))
			if typ == api.PortVeth {
				making, removing := bare(t, bridged, l.crowd)
				t.Logf("on a kernel bridge: made in %v, removed in %v", making.Round(time.Millisecond), removing.Round(time.Millisecond))
			}
			each := func(d time.Duration) time.Duration { return time.Duration(n) * d }
			l.d.Delay = l.adding()
			memory := resident(t, l.d)
			l.besideKernel(l.adding, "add-port, 16 clients", l.add)
			l.wantUp()
			nothing, start := func() {}, func() { l.d.Start() }
			l.within(2*time.Second, "vsctl list-ports", func() { l.d.Must("list-ports") }, nothing)
			l.within(2*time.Second, "vsctl show", func() { l.d.Must("show") }, nothing)
			l.within(2*time.Second+each(time.Millisecond), "vsctl stats", func() { l.d.Must("stats") }, nothing)
			l.idle(memory)
			l.d.Client.Close()
			l.within(2*time.Second+each(time.Millisecond), "stop", l.d.Stop, start)
			l.within(2*time.Second+each(5*time.Millisecond), "start", start, l.d.Stop)
			l.wantUp()
			l.d.Kill()
			l.within(2*time.Second+each(5*time.Millisecond), "start after SIGKILL", start, l.d.Kill)
			l.wantUp()
			killKeeper(t, l.d)
			l.d.Kill()
			l.besideKernel(l.adding, "start without the keeper", start)
			l.wantUp()
			l.besideKernel(l.removal, "del-network --force", func() { l.d.Must("del-network", "net1", "--force") })
			l.Eventually("no interface is left", func() bool { return l.crowd.Interfaces() == 0 })
			l.d.Must("add-network", "net1", "--subnet", "10.9.0.0/16")
			l.besideKernel(l.adding, "add-port again", l.add)
			l.d.Client.Close()
			l.d.Stop()
			l.besideKernel(l.removal, "--teardown", func() {
				if out, err := l.d.Teardown(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		})
	}
}
