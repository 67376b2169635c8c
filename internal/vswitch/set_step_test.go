package vswitch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// setLine changes all of b that its interface shows, and something that it does not.
var setLine = strings.Fields("set-port b --mtu 1400 --mac 02:00:00:00:00:0b --ip 10.9.0.40 --ip " + b4 + "- --route 10.8.0.0/16=" + a4 +
	" --ifname lan0 --label k=v")

// stateOfB is what is known of port b and of its interface.
type stateOfB struct {
	Port    api.Port
	MAC     string
	Name    string
	MTU     int
	Addrs   []string
	Routes  string
	Carrier bool
	Static  int // rows of the MAC table
}

func (l *stepLab) stateOfB() (s stateOfB) {
	l.t.Helper()
	s.Port = portOf(l.t, l.d, "b")
	s.Port.Status.Worker, s.Port.Status.Ifindex, s.Port.Status.HostIf = 0, 0, ""
	links := l.b.Links()
	if len(links) != 1 {
		l.t.Fatalf("interfaces in b: %+v", links)
	}
	s.MAC, s.Name, s.MTU, s.Addrs = links[0].MAC, links[0].Name, links[0].MTU, links[0].Prefixes()
	s.Carrier = links[0].Carrier()
	for line := range strings.Lines(l.b.IP("route show proto boot")) {
		s.Routes += strings.TrimSpace(strings.ReplaceAll(line, "linkdown", "")) + "\n"
	}
	slices.Sort(s.Addrs)
	for _, e := range netnstest.Get[[]api.FDBEntry](l.d, "fdb", "net1") {
		if e.Origin == "static" && e.Port == "b" {
			s.Static++
		}
	}
	return s
}

func (l *stepLab) want(step string, want stateOfB) {
	l.t.Helper()
	l.Eventually(step+": the carrier is as it was", func() bool { return l.stateOfB().Carrier == want.Carrier })
	if diff := difference(l.t, want, l.stateOfB()); diff != "" {
		l.t.Errorf("%s: not as before: %s", step, diff)
	}
	if want.Carrier {
		ping(l.Lab, l.a, want.Port.IPs[0].Addr().String())
	}
	l.wantDevices(step, true)
}

var setSteps = []string{"set.recorded", "set.left", "set.configured", "set.bound"}

// changes of a port, from what it is after before.
var changes = []struct {
	name         string
	before, line []string
}{
	{"set-port", nil, setLine},
	{"disconnect", []string{"add-fdb", "net1", stranger, "b"}, []string{"disconnect", "b"}},
	{"connect", []string{"disconnect", "b"}, []string{"connect", "b", "net1", "--ip", "10.9.0.40"}},
}

// TestKilledWhileSetting: the verb has not answered; after the restart the port is wholly what it was. Once the record says so,
// it is wholly what it was to become.
func TestKilledWhileSetting(t *testing.T) {
	for _, typ := range portTypes {
		for _, c := range changes {
			t.Run(c.name+" "+typ, func(t *testing.T) {
				t.Parallel()
				l := newStepLab(t, typ)
				l.d.Allow("the keeper went away")
				l.addB()
				if c.before != nil {
					l.d.Must(c.before...)
				}
				old := l.stateOfB()
				for i, step := range setSteps {
					for _, also := range []string{"", []string{"keeper", "start.reverted"}[i%2]} {
						l.restart(step + ":kill")
						if r := l.d.Vsctl(c.line...); r.Code != 3 {
							t.Fatalf("%s: exit code %d: %s", step, r.Code, r.Err)
						}
						l.killed(step)
						switch also {
						case "keeper":
							killKeeper(t, l.d)
						case "start.reverted":
							l.d.Env = []string{"VSWITCH_FAILPOINT=start.reverted:kill"}
							if err := l.d.TryStart(); err == nil {
								t.Fatal("the start was not killed")
							}
						}
						l.restart("")
						l.want(step+" "+also, old)
					}
				}
				l.restart("set.done:kill")
				l.d.Vsctl(c.line...)
				l.killed("set.done")
				l.restart("")
				after := l.stateOfB()
				if old.Port.Network == after.Port.Network && old.Port.MTU == after.Port.MTU {
					t.Errorf("what was recorded was not kept: %+v", after)
				}
				l.restart("")
				l.want("restarted", after)
			})
		}
	}
}

// TestErrorWhileSetting: the verb answers with the error, and the port is what it was.
func TestErrorWhileSetting(t *testing.T) {
	for _, typ := range portTypes {
		for _, c := range changes {
			t.Run(c.name+" "+typ, func(t *testing.T) {
				t.Parallel()
				l := newStepLab(t, typ)
				l.d.Allow("failpoint")
				l.addB()
				if c.before != nil {
					l.d.Must(c.before...)
				}
				old := l.stateOfB()
				for _, step := range setSteps {
					l.restart(step + ":error")
					if r := l.d.Vsctl(c.line...); r.Code != 1 {
						t.Fatalf("%s: exit code %d: %s", step, r.Code, r.Err)
					}
					l.want(step, old)
					l.restart("")
					l.want(step+", after a restart", old)
				}
				l.d.Must(c.line...)
			})
		}
	}
}

// TestKilledAnywhereWhileSetting: the daemon is killed at any moment of changes, also between two steps of the interface's.
func TestKilledAnywhereWhileSetting(t *testing.T) {
	const rounds = 12
	t.Parallel()
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newStepLab(t, typ)
			l.addB()
			back := strings.Fields("set-port b --mtu 1500 --mac " + l.b.MAC() + " --ip 10.9.0.40- --ip " + b4 + " --route 10.8.0.0/16- --ifname eth0 --label k-")
			states := [2]stateOfB{l.stateOfB()}
			start := time.Now()
			l.d.Must(setLine...)
			took := time.Since(start)
			states[1] = l.stateOfB()
			l.d.Must(back...)
			now := 0
			for i := range rounds {
				pid := l.d.PID()
				timer := time.AfterFunc(2*took*time.Duration(i)/rounds, func() { killPID(pid) })
				for lines := [2][]string{setLine, back}; l.d.Vsctl(lines[now]...).Code == 0; now = 1 - now {
				}
				timer.Stop()
				l.killed(fmt.Sprint("round ", i))
				l.restart("")
				if l.stateOfB().Port.MTU != states[now].Port.MTU { // it had been recorded
					now = 1 - now
				}
				l.want(fmt.Sprint("round ", i), states[now])
			}
		})
	}
}
