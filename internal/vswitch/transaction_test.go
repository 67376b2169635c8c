package vswitch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// swapLab is a daemon with three ports, and a transaction that a test carries out or makes fail: b is replaced in its
// namespace and takes its address along, c goes, d comes on a new network.
//
//	before:  a, b, c --- net1             after:  a, b2 (in b) --- net1     d --- net2
type swapLab struct {
	*netnstest.Lab
	t          *testing.T
	d          *netnstest.Daemon
	typ        string
	a, b, c, e *netnstest.Container
}

func newSwapLab(t *testing.T, typ string) *swapLab {
	l := &swapLab{Lab: netnstest.New(t), t: t, typ: typ}
	l.d = l.Daemon()
	l.a, l.b, l.c, l.e = l.Container("a"), l.Container("b"), l.Container("c"), l.Container("e")
	l.d.Must("add-network", "net1", "--subnet", subnet4)
	l.d.Join("net1", "a", l.a)
	l.back()
	return l
}

// run carries out several commands; those of the type get it.
func (l *swapLab) run(line string) netnstest.Result {
	l.t.Helper()
	return l.runUntil(l.t.Context(), line)
}

// runUntil is run by a client that is killed when the context ends.
func (l *swapLab) runUntil(ctx context.Context, line string) netnstest.Result {
	l.t.Helper()
	line = strings.NewReplacer("$B", l.b.Name, "$C", l.c.Name, "$E", l.e.Name, "$T", l.typ).Replace(line)
	return l.d.VsctlUntil(ctx, strings.Fields(line)...)
}

// back makes the state before of the first, or of the one after.
func (l *swapLab) back() {
	l.t.Helper()
	if r := l.tryBack(); r.Code != 0 {
		l.t.Fatalf("state before: %s", r.Err)
	}
}

func (l *swapLab) tryBack() netnstest.Result {
	l.t.Helper()
	return l.run("del-port b2 --if-exists -- del-network net2 --force --if-exists -- " +
		"add-port net1 b --netns $B --type $T --ip " + b4 + " -- add-port net1 c --netns $C --type $T --ip 10.9.0.4 -- " +
		"add-fdb net1 02:00:00:00:00:77 c -- add-fdb net1 02:00:00:00:00:78 b -- " +
		"set-network net1 --mtu 1500 --age 300 -- set-port a --mtu 1500 --label x=y --label z-")
}

const swap = "del-port b -- del-port c -- add-network net2 --subnet 10.10.0.0/24 -- add-port net1 b2 --netns $B --type $T --ip " + b4 +
	" -- add-port net2 d --netns $E --type $T -- add-fdb net1 02:00:00:00:00:77 b2" +
	" -- set-port a --mtu 1400 --label x- --label z=1 -- set-port b2 --mtu 1400 --isolated -- set-network net1 --mtu 1400 --age 77"

// state is all that a user configured, without what the daemon observes but for the interfaces' numbers.
func (l *swapLab) state() api.Show {
	l.t.Helper()
	s := netnstest.Get[api.Show](l.d, "show")
	s.Daemon = api.Daemon{}
	for i := range s.Ports {
		s.Ports[i].Status = api.PortStatus{State: s.Ports[i].Status.State}
	}
	return s
}

// names lists the ports.
func (l *swapLab) names() string {
	l.t.Helper()
	var names []string
	for _, p := range netnstest.Get[[]api.Port](l.d, "list-ports") {
		names = append(names, p.Network+"/"+p.Name)
	}
	return strings.Join(names, " ")
}

const (
	namesBefore = "net1/a net1/b net1/c"
	namesAfter  = "net1/a net1/b2 net2/d"
)

// want checks names, traffic and that no device is left over or missing.
func (l *swapLab) want(step, names string) {
	l.t.Helper()
	if got := l.names(); got != names {
		l.t.Fatalf("%s: ports %s, want %s", step, got, names)
	}
	ping(l.Lab, l.a, b4)
	static, c, e, mtu := "02:00:00:00:00:77 c, 02:00:00:00:00:78 b", 1, 0, 1500
	if names == namesAfter {
		static, c, e, mtu = "02:00:00:00:00:77 b2", 0, 1, 1400
		l.e.Run("ip", "addr", "show", "dev", "eth0", "to", "10.10.0.2")
	} else {
		ping(l.Lab, l.a, "10.9.0.4")
	}
	if got := l.a.Link("eth0").MTU; got != mtu {
		l.t.Errorf("%s: the MTU of a is %d, want %d", step, got, mtu)
	}
	var rows []string
	for _, r := range netnstest.Get[[]api.FDBEntry](l.d, "fdb", "net1") {
		if r.Origin == "static" {
			rows = append(rows, r.MAC+" "+r.Port)
		}
	}
	if got := strings.Join(rows, ", "); got != static {
		l.t.Errorf("%s: static entries %s, want %s", step, got, static)
	}
	l.Eventually(step+": one interface in b, as many as ports in the others", func() bool {
		return len(l.b.Links()) == 1 && len(l.c.Links()) == c && len(l.e.Links()) == e
	})
	l.Eventually(step+": devices are those of the ports", func() bool {
		taps, kept, interfaces, sockets := devices(l.d)
		if l.typ == "tap" {
			return taps == 3 && kept == 3 && interfaces == 0 && sockets == 0
		}
		return taps == 1 && kept == 1 && interfaces == 2 && sockets == 2
	})
}

func TestTransaction(t *testing.T) {
	for _, typ := range []string{"tap", "veth"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newSwapLab(t, typ)
			l.want("before", namesBefore)
			before := l.state()
			l.run("--dry-run " + swap)
			if d := difference(t, before, l.state()); d != "" {
				t.Errorf("a dry run changed something:\n%s", d)
			}
			if r := l.run(swap); r.Code != 0 || !strings.Contains(r.Out, "b2 "+b4) || !strings.Contains(r.Out, "d 10.10.0.2/24") {
				t.Fatalf("exit code %d: %s%s", r.Code, r.Out, r.Err)
			}
			l.want("after", namesAfter)
			l.d.Kill()
			l.d.Start()
			l.want("after a restart", namesAfter)
			l.back()
			l.want("back", namesBefore)
		})
	}
}

// TestTransactionRefused: what is refused in the middle leaves all as it was, down to the interface and the next address.
func TestTransactionRefused(t *testing.T) {
	t.Parallel()
	l := newSwapLab(t, "tap")
	l.d.Must("add-network", "auto", "--subnet", "10.11.0.0/24")
	before, link := l.state(), l.b.Link("eth0").Index
	for _, tt := range []struct{ name, add, words string }{
		{"name taken", "add-port net1 a --netns $E", "operation 10 of 10 (add-port a): port a already exists"},
		{"used before", "add-port net1 b2 --netns $E", "port b2 already exists"},
		{"address taken", "add-port net1 x --netns $E --ip " + b4 + " --ifname x", "taken by port b2"},
		{"MAC taken", "add-port net1 x --netns $E --ifname x --mac 02:42:0a:09:00:03", "belongs to port b2"},
		{"interface of a new port", "add-port net1 x --netns $E", "eth0 already exists"},
		{"interface of a stranger", "add-port net1 x --netns $E --ifname lo", "lo already exists"},
		{"no namespace", "add-port net1 x --netns nowhere", "nowhere"},
		{"deleted before", "del-port c", "no port"},
		{"in use", "del-network net1", "network net1 has ports (2)"},
		{"set what went", "set-port c --mtu 1400", "no port"},
		{"set too much", "set-port b2 --mtu 1401", "larger than the 1400 of network net1"},
		{"set to an address taken", "set-port a --ip " + b4, "taken by port b2"},
		{"set a subnet that overlaps", "set-network net2 --subnet 10.9.0.0/25", "overlaps 10.9.0.0/24 of network net1"},
		{"set under ports", "set-network net1 --subnet 10.9.0.0/24-", "has address 10.9.0."},
		{"disconnect what is new", "disconnect b2", "is added by the same transaction"},
		{"connect what is connected", "connect a net2", "disconnect a' first"},
		{"overlap", "add-network x --subnet 10.10.0.128/25", "overlaps 10.10.0.0/24 of network net2"},
		{"static elsewhere", "add-fdb net1 02:00:00:00:00:77 a", "behind port b2 already"},
		{"static on another network", "add-fdb net2 02:00:00:00:00:79 a", "is on network net1"},
		{"no such entry", "del-fdb net1 02:00:00:00:00:78", "no entry"},
		{"kernel refuses", "add-port auto x --netns $E --ifname x", "--default-route=no"},
	} {
		r := l.run(swap + " -- " + tt.add)
		if r.Code != 1 || !strings.Contains(r.Err, tt.words) || !strings.Contains(r.Err, "nothing was changed") || r.Out != "" {
			t.Errorf("%s: exit code %d, %q", tt.name, r.Code, r.Err)
		}
		if d := difference(t, before, l.state()); d != "" {
			t.Fatalf("%s: something changed:\n%s", tt.name, d)
		}
		if i := l.b.Link("eth0").Index; tt.name != "kernel refuses" && i != link {
			t.Errorf("%s: b has another interface, %d for %d", tt.name, i, link)
		}
	}
	l.want("after all refusals", namesBefore)
	if out := l.d.Must("add-port", "auto", "x", "--netns", l.e.Name, "--ifname", "x"); !strings.HasPrefix(out, "x 10.11.0.2/24") {
		t.Errorf("the first address is given to nobody, yet x gets %s", out)
	}
	l.d.Must("del-port", "x")
	l.d.Must("del-network", "auto")
}

// TestErrorInTransaction: an error at any step is undone.
func TestErrorInTransaction(t *testing.T) {
	for _, typ := range []string{"tap", "veth"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newSwapLab(t, typ)
			l.d.Allow("failpoint")
			before := l.state()
			for _, step := range stepsBefore {
				l.d.Stop()
				l.d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":error"}
				l.d.Start()
				r := l.run(swap)
				if r.Code != 1 || !strings.Contains(r.Err, "failpoint "+step) ||
					strings.HasPrefix(step, "set.") && !strings.Contains(r.Err, "operation 7 of 9 (set-port a)") {
					t.Fatalf("%s: exit code %d, %q", step, r.Code, r.Err)
				}
				if strings.HasPrefix(step, "attach.") { // and so did the attempt to bring b back
					one := strings.Contains(r.Err, "operation 4 of 9 (add-port b2)") || strings.Contains(r.Err, "operation 5 of 9 (add-port d)")
					if !one || !strings.Contains(r.Err, "port b could not be brought back") {
						t.Errorf("%s: %q", step, r.Err)
					}
					l.d.Env = nil
					l.d.Stop()
					l.d.Start()
				}
				if d := difference(t, before, l.state()); d != "" {
					t.Errorf("%s: something changed:\n%s", step, d)
				}
				l.want(step, namesBefore)
			}
		})
	}
}

// TestKilledInTransactionAnywhere: the same at any moment, and the keeper may die too.
func TestKilledInTransactionAnywhere(t *testing.T) {
	const rounds = 12
	for _, typ := range []string{"tap", "veth"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newSwapLab(t, typ)
			l.d.Allow("the keeper went away")
			start := time.Now()
			l.run(swap)
			took := time.Since(start)
			l.back()
			for i := range rounds {
				after := took * time.Duration(i) / rounds
				pid, keeper := l.d.PID(), keeperOf(l.d)
				if keeper == 0 {
					t.Fatal("no keeper runs")
				}
				timer := time.AfterFunc(after, func() {
					if i%3 == 0 {
						_ = syscall.Kill(keeper, syscall.SIGKILL)
					}
					_ = syscall.Kill(pid, syscall.SIGKILL)
				})
				for l.run(swap).Code == 0 && l.tryBack().Code == 0 {
				}
				timer.Stop()
				if err := l.d.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("after %v: the daemon ended with %v", after, err)
				}
				l.d.Start()
				step := fmt.Sprint("killed after ", after)
				if l.names() == namesAfter {
					l.want(step, namesAfter)
					l.back()
				}
				l.want(step, namesBefore)
			}
		})
	}
}

// TestClientGoesAway: a transaction whose client is killed meanwhile is undone.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	l := newSwapLab(t, "tap")
	before := l.state()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	l.d.Stop()
	l.d.Env = []string{"VSWITCH_FAILPOINT=transaction.cleared:wait=" + fifo}
	l.d.Start()
	ctx, kill := context.WithCancel(t.Context())
	ended := make(chan netnstest.Result)
	go func() { ended <- l.runUntil(ctx, swap) }()
	step := openFIFO(t, fifo)
	kill()
	if r := <-ended; r.Code != -1 {
		t.Fatalf("exit code %d, %q", r.Code, r.Err)
	}
	for range 5 { // what the daemon answers now it has read after the client's end
		l.d.Must("list-ports")
	}
	step.Close()
	l.Eventually("the transaction is undone", func() bool { return l.names() == namesBefore })
	l.want("the client went away", namesBefore)
	if d := difference(t, before, l.state()); d != "" {
		t.Errorf("something changed:\n%s", d)
	}
}

// stepsBefore are failpoints up to the point from which a restart goes on, stepsAfter those after it.
var (
	stepsBefore = []string{"transaction.planned", "transaction.recorded", "transaction.cleared", "set.left", "set.configured", "set.bound",
		"transaction.changed", "attach.created", "attach.kept",
		"attach.placed", "attach.plugged", "transaction.attached", "transaction.placed"}
	stepsAfter = []string{"transaction.committed", "detach.condemned", "transaction.dropped"}
)

// TestKilledInTransaction: after the restart all of it is done, or nothing.
func TestKilledInTransaction(t *testing.T) {
	for _, typ := range []string{"tap", "veth"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newSwapLab(t, typ)
			before := l.state()
			for _, step := range append(append([]string{}, stepsBefore...), stepsAfter...) {
				l.d.Stop()
				l.d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":kill"}
				l.d.Start()
				if r := l.run(swap); r.Code != 3 {
					t.Fatalf("%s: exit code %d, %q", step, r.Code, r.Err)
				}
				if err := l.d.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("%s: the daemon ended with %v", step, err)
				}
				if step == "transaction.cleared" { // and so is the start that makes the port anew
					l.d.Env = []string{"VSWITCH_FAILPOINT=start.remake:kill"}
					if err := l.d.TryStart(); err == nil || !strings.Contains(err.Error(), "killed") {
						t.Fatalf("start.remake: the daemon ended with %v", err)
					}
				}
				l.d.Env = nil
				l.d.Start()
				if step == "detach.condemned" { // b had to leave first: it is the detach before the commit
					l.want(step, namesBefore)
					continue
				}
				if strings.Contains(strings.Join(stepsBefore, " "), step) {
					l.want(step, namesBefore)
					if d := difference(t, before, l.state()); d != "" {
						t.Errorf("%s: something changed:\n%s", step, d)
					}
					continue
				}
				l.want(step, namesAfter)
				l.back()
				before = l.state()
			}
		})
	}
}
