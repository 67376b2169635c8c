package vswitch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// pairOf makes a network with two containers whose ports have these types, and a static entry behind a.
//
//	a eth0 10.9.0.2 fd00:9::2 --- net1 --- 10.9.0.3 fd00:9::3 eth0 b
func pairOf(lab *netnstest.Lab, d *netnstest.Daemon, typeA, typeB string) (a, b *netnstest.Container) {
	d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
	a, b = lab.Container("a"), lab.Container("b")
	d.Join("net1", "a", a, "--type", typeA)
	d.Join("net1", "b", b, "--type", typeB)
	d.Must("add-fdb", "net1", "02:00:00:00:00:99", "a")
	return a, b
}

// what is the same before and after a restart.
type lasting struct {
	Links    []netnstest.Link
	Carrier  []string
	Networks []api.Network
	Ports    []api.Port
	Static   []api.FDBEntry
}

func lastingOf(t *testing.T, d *netnstest.Daemon, containers ...*netnstest.Container) lasting {
	t.Helper()
	l := lasting{
		Networks: netnstest.Get[[]api.Network](d, "list-networks"),
		Ports:    netnstest.Get[[]api.Port](d, "list-ports"),
	}
	for i := range l.Ports {
		l.Ports[i].Status.Worker = 0
	}
	for _, c := range containers {
		l.Links = append(l.Links, c.Links()...)
		l.Carrier = append(l.Carrier, carrierChanges(t, c))
	}
	for _, e := range netnstest.Get[[]api.FDBEntry](d, "fdb") {
		if e.Origin == "static" {
			l.Static = append(l.Static, e)
		}
	}
	return l
}

// TestRestartUnderTraffic: nothing of a restart is seen but a short wait.
//
//	a eth0 ===TCP both ways=== net1 === eth0 b
func TestRestartUnderTraffic(t *testing.T) {
	for _, types := range []string{"tap tap", "tap veth", "veth veth"} {
		t.Run(types, func(t *testing.T) {
			lab := netnstest.New(t)
			d := lab.Daemon()
			typeA, typeB, _ := strings.Cut(types, " ")
			a, b := pairOf(lab, d, typeA, typeB)
			there, back := startStream(t, a, b, b4), startStream(t, b, a, a6)
			there.goesOn(lab)
			back.goesOn(lab)
			before := lastingOf(t, d, a, b)
			for _, way := range []struct {
				name  string
				end   func()
				flags []string
			}{
				{"SIGTERM", d.Stop, nil},
				{"SIGKILL", d.Kill, nil},
				{"SIGKILL, then two workers", d.Kill, []string{"--workers", "2"}},
				{"SIGTERM, then no cache", d.Stop, []string{"--flow-cache=off", "--coalesce=off"}},
			} {
				gap := shortest(time.Second, func() time.Duration {
					there.longest()
					back.longest()
					way.end()
					d.Start(way.flags...)
					there.goesOn(lab)
					back.goesOn(lab)
					return max(there.longest(), back.longest())
				})
				t.Logf("%s: nothing arrived for %v", way.name, gap.Round(time.Millisecond))
				if gap > time.Second {
					t.Errorf("%s: traffic stood still for %v", way.name, gap)
				}
				if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
					t.Errorf("%s: not the same as before: %s", way.name, diff)
				}
			}
		})
	}
}

// TestKeeperKilled: a keeper that dies is replaced at once, so that a crash after it costs nothing.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Allow("the keeper went away")
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	before := lastingOf(t, d, a, b)
	old := keeperOf(d)
	killKeeper(t, d)
	lab.Eventually("a new keeper has got all", func() bool {
		pid := keeperOf(d)
		return pid != 0 && pid != old && strings.Contains(d.Log(), "a new one has been given all fds")
	})
	d.Kill()
	d.Start()
	s.goesOn(lab)
	if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
		t.Errorf("not the same as before: %s", diff)
	}
}

// TestKeeperAndDaemonKilled: TAPs are reopened where they are, veth pairs made anew with the same names and addresses. Twice,
// because the devices then are of another kind: TAPs whose file descriptors were opened in the container.
func TestKeeperAndDaemonKilled(t *testing.T) {
	for _, types := range []string{"tap tap", "tap veth", "veth veth"} {
		t.Run(types, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Allow("the keeper went away")
			typeA, typeB, _ := strings.Cut(types, " ")
			a, b := pairOf(lab, d, typeA, typeB)
			before := lastingOf(t, d, a, b)
			for round := range 4 {
				if round < 3 {
					killKeeper(t, d)
				}
				d.Kill()
				d.Start()
				ping(lab, a, b4)
				ping(lab, b, a6)
				a.Run("ping", "-q", "-c20", "-i0.002", "-W10", b4)
				after := lastingOf(t, d, a, b)
				after.Carrier = before.Carrier // nobody held the device
				for i := range after.Links {   // a pair that was made anew has other numbers
					after.Links[i].Index = before.Links[i].Index
				}
				for i := range after.Ports {
					after.Ports[i].Status.Ifindex = before.Ports[i].Status.Ifindex
				}
				if diff := difference(t, before, after); diff != "" {
					t.Errorf("round %d: not the same as before: %s", round, diff)
				}
			}
			// The namespace of a reopened TAP is held by our own file descriptor: its end is noticed all the same.
			b.Delete()
			waitEvent(t, lab, d, "port.gone", "b")
			c := lab.Container("c")
			d.Join("net1", "b", c, "--type", typeB, "--ip", b4)
			ping(lab, a, b4)
			calm(t, lab, d)
			d.Must("del-port", "b")
		})
	}
}

// TestWithoutStore: with --fdstore=none every restart is one after which nothing was kept.
func TestWithoutStore(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon("--fdstore", "none")
	a, b := pairOf(lab, d, "tap", "veth")
	for range 2 {
		d.Stop()
		d.Start()
		ping(lab, a, b4)
		d.Kill()
		d.Start()
		ping(lab, b, a6)
	}
	if keeperOf(d) != 0 {
		t.Error("a keeper runs")
	}
}

// TestRestartManyPorts: a hundred ports are back within a second.
func TestRestartManyPorts(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	a, all := lab.Container("a"), lab.Container("all")
	d.Join("net1", "a", a)
	start := time.Now()
	for i := range 100 {
		d.Join("net1", fmt.Sprint("p", i), all, "--type", []string{"tap", "veth"}[i%2], "--ifname", fmt.Sprint("e", i), "--default-route=no")
	}
	t.Logf("100 add-port by vsctl: %v each", (time.Since(start) / 100).Round(10*time.Microsecond))
	links := all.Links()
	for _, end := range []func(){d.Kill, d.Stop} {
		took := shortest(time.Second, func() time.Duration {
			end()
			start := time.Now()
			d.Start()
			return time.Since(start)
		})
		t.Logf("101 ports restored, ready after %v", took.Round(time.Millisecond))
		if took > time.Second && !testing.Short() {
			t.Errorf("ready after %v", took)
		}
		if ports := netnstest.Get[[]api.Port](d, "list-ports"); len(ports) != 101 {
			t.Errorf("%d ports are left", len(ports))
		}
		if diff := difference(t, links, all.Links()); diff != "" {
			t.Error(diff)
		}
	}
	ping(lab, a, "10.9.0.50")
	start = time.Now()
	d.Must("del-network", "net1", "--force")
	t.Logf("101 ports deleted in %v", time.Since(start).Round(time.Millisecond))
}
