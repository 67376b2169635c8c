package vswitch_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// stepLab is a daemon with a port a at work, and a container b for the port that tests make fail.
//
//	a eth0 --- net1 --- (eth0 b)
type stepLab struct {
	*netnstest.Lab
	t    *testing.T
	d    *netnstest.Daemon
	a, b *netnstest.Container
	typ  string
}

func newStepLab(t *testing.T, typ string) *stepLab {
	l := &stepLab{Lab: netnstest.New(t), t: t, typ: typ}
	l.d = l.Daemon()
	l.d.Must("add-network", "net1", "--subnet", subnet4)
	l.a, l.b = l.Container("a"), l.d.Host
	if typ != api.PortHost {
		l.b = l.Container("b")
	}
	l.d.Join("net1", "a", l.a)
	return l
}

func (l *stepLab) addB() netnstest.Result {
	line := []string{"add-port", "net1", "b", "--type", l.typ, "--ip", b4}
	if l.typ != api.PortHost {
		line = append(line, "--netns", l.b.Name)
	}
	return l.d.Vsctl(line...)
}

// restart starts the daemon with these failpoints, and again without.
func (l *stepLab) restart(failpoint string) {
	l.t.Helper()
	if l.d.Running() {
		l.d.Stop()
	}
	l.d.Env = nil
	if failpoint != "" {
		l.d.Env = []string{"VSWITCH_FAILPOINT=" + failpoint}
	}
	l.d.Start()
}

// killed waits for the daemon that killed itself.
func (l *stepLab) killed(step string) {
	l.t.Helper()
	if err := l.d.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		l.t.Fatalf("%s: the daemon ended with %v", step, err)
	}
}

// wantNoB: nothing is left of port b, and its name and address can be had again.
func (l *stepLab) wantNoB(step string) {
	l.t.Helper()
	ports := netnstest.Get[[]api.Port](l.d, "list-ports")
	if len(ports) != 1 || ports[0].Name != "a" {
		l.t.Errorf("%s: ports %v, want a alone", step, ports)
	}
	l.Eventually(step+": no interface is left in b", func() bool { return len(l.b.Links()) == 0 })
	l.wantDevices(step, false)
}

// wantDevices: port a's, and b's when it is there, are all that keeper and daemon hold.
func (l *stepLab) wantDevices(step string, b bool) {
	l.t.Helper()
	taps, veths := 1, 0
	if b && l.typ != "veth" {
		taps++
	} else if b {
		veths++
	}
	var have string
	want := fmt.Sprintln(taps, taps, veths, veths)
	for deadline := time.Now().Add(netnstest.Patience); time.Now().Before(deadline); {
		if have = fmt.Sprintln(devices(l.d)); have == want {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Errorf("%s: TAPs held, TAPs kept, interfaces and sockets of veths: %swant %s", step, have, want)
}

// again uses name and address of b once more.
func (l *stepLab) again(step string) {
	l.t.Helper()
	if r := l.addB(); r.Code != 0 {
		l.t.Fatalf("%s: add-port afterwards: %s", step, r.Err)
	}
	ping(l.Lab, l.a, b4)
	l.d.Must("del-port", "b")
	l.wantNoB(step + ", then used again")
}

var addSteps = []string{"add.planned", "add.recorded", "attach.created", "attach.kept", "attach.placed", "attach.plugged", "add.attached"}

// TestKilledWhileAdding: the verb has not answered; after the restart nothing is left of the port, or it is whole.
func TestKilledWhileAdding(t *testing.T) {
	for _, typ := range []string{"tap", "veth", "host"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			for _, step := range append(addSteps, "add.present") {
				l.restart(step + ":kill")
				if r := l.addB(); r.Code != 3 {
					t.Fatalf("%s: add-port: exit code %d: %s", step, r.Code, r.Err)
				}
				l.killed(step)
				l.restart("")
				if step == "add.present" {
					ping(l.Lab, l.a, b4)
					l.d.Must("del-port", "b")
				}
				l.wantNoB(step)
				l.again(step)
			}
		})
	}
}

// TestErrorWhileAdding: the verb answers with the error, and nothing is left.
func TestErrorWhileAdding(t *testing.T) {
	for _, typ := range []string{"tap", "veth", "host"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			l.d.Allow("failpoint")
			for _, step := range addSteps {
				l.restart(step + ":error")
				if r := l.addB(); r.Code != 1 {
					t.Fatalf("%s: add-port: exit code %d: %s", step, r.Code, r.Err)
				}
				l.wantNoB(step)
				l.restart("")
				l.wantNoB(step + ", after a restart")
				l.again(step)
			}
		})
	}
}

var deleteSteps = []string{"delete.recorded", "detach.condemned", "detach.forgotten", "detach.unplugged", "detach.destroyed", "delete.done"}

// TestKilledWhileDeleting: the restart finishes the deletion.
func TestKilledWhileDeleting(t *testing.T) {
	for _, typ := range []string{"tap", "veth", "host"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			for _, step := range deleteSteps {
				l.addB()
				l.restart(step + ":kill")
				if r := l.d.Vsctl("del-port", "b"); r.Code != 3 {
					t.Fatalf("%s: del-port: exit code %d: %s", step, r.Code, r.Err)
				}
				l.killed(step)
				l.restart("")
				l.wantNoB(step)
				l.again(step)
			}
		})
	}
}

// TestErrorWhileDeleting: before the deletion is on disk the port stays whole; later nothing stops it.
func TestErrorWhileDeleting(t *testing.T) {
	t.Parallel()
	l := newStepLab(t, "tap")
	l.d.Allow("failpoint")
	l.restart("delete.found:error")
	l.addB()
	if r := l.d.Vsctl("del-port", "b"); r.Code != 1 {
		t.Fatalf("del-port: exit code %d: %s", r.Code, r.Err)
	}
	ping(l.Lab, l.a, b4)
	var all []string
	for _, step := range deleteSteps {
		all = append(all, step+":error")
	}
	l.restart(strings.Join(all, ","))
	ping(l.Lab, l.a, b4)
	l.d.Must("del-port", "b")
	l.wantNoB("errors")
}

// TestKilledWhileStarting: a start that is cut off is done by the next one.
func TestKilledWhileStarting(t *testing.T) {
	for _, typ := range []string{"tap", "veth", "host"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			start := func(step string) {
				t.Helper()
				l.d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":kill"}
				if err := l.d.TryStart(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("%s: start: %v", step, err)
				}
			}
			// With a port to bring back, whose file descriptors are kept.
			l.addB()
			for _, step := range []string{"start.taken", "start.adopt", "start.revived"} {
				l.d.Kill()
				start(step)
				l.restart("")
				ping(l.Lab, l.a, b4)
			}
			// And when they are not.
			l.d.Allow("the keeper went away")
			steps := []string{"start.private", "start.reopen", "start.revived"}
			if typ == "veth" {
				steps = append(steps, "recreate.created", "recreate.placed")
			}
			for _, step := range steps {
				killKeeper(t, l.d)
				l.d.Kill()
				start(step)
				l.restart("")
				ping(l.Lab, l.a, b4)
				l.wantDevices(step, true)
			}
			l.d.Must("del-port", "b")
			// With a change that was cut off before.
			for _, cut := range []string{"attach.placed", "attach.created"} {
				for _, step := range []string{"start.rollback", "discard.device"} {
					l.restart(cut + ":kill")
					l.addB()
					l.killed(cut)
					start(step)
					l.restart("")
					l.wantNoB(cut + ", then " + step)
				}
			}
			l.addB()
			l.restart("delete.recorded:kill")
			l.d.Vsctl("del-port", "b")
			l.killed("delete.recorded")
			start("start.finish")
			l.restart("")
			l.wantNoB("start.finish")
			l.again("start.finish")
			// With devices of which no record tells.
			l.addB()
			l.d.Stop()
			if err := os.Remove(filepath.Join(l.d.State, "state.db")); err != nil {
				t.Fatal(err)
			}
			start("start.drop")
			l.restart("")
			l.Eventually("no interface is left", func() bool { return len(l.a.Links())+len(l.b.Links()) == 0 })
			l.d.Must("add-network", "net1", "--subnet", subnet4)
			l.d.Join("net1", "a", l.a)
			l.again("start.drop")
		})
	}
}

// TestKilledAnywhere: the daemon is killed at any moment of a verb, the keeper sometimes too.
func TestKilledAnywhere(t *testing.T) {
	const rounds = 16
	for _, typ := range []string{"tap", "veth"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			l.d.Allow("the keeper went away")
			start := time.Now()
			l.addB()
			l.d.Must("del-port", "b")
			took := time.Since(start)
			for i := range rounds {
				after := took * time.Duration(i) / rounds
				pid, keeper := l.d.PID(), keeperOf(l.d)
				timer := time.AfterFunc(after, func() {
					if rand.IntN(3) == 0 {
						_ = syscall.Kill(keeper, syscall.SIGKILL)
					}
					_ = syscall.Kill(pid, syscall.SIGKILL)
				})
				for l.addB().Code == 0 && l.d.Vsctl("del-port", "b").Code == 0 {
				}
				timer.Stop()
				l.killed(fmt.Sprint("after ", after))
				l.restart("")
				if len(netnstest.Get[[]api.Port](l.d, "list-ports")) == 2 {
					ping(l.Lab, l.a, b4)
					l.d.Must("del-port", "b")
				}
				l.wantNoB(fmt.Sprint("killed after ", after))
			}
			l.again("all rounds")
		})
	}
}
