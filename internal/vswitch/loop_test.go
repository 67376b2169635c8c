package vswitch_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// loopLab is a network with two containers that want peace, and one with several interfaces that it may join by a bridge of
// its own.
//
//	c ------\             /--- eth0 \
//	         +--- net1 --+---- eth1  br0    box
//	d ------/             \--- ...  /
type loopLab struct {
	*netnstest.Lab
	t         *testing.T
	daemon    *netnstest.Daemon
	c, d, box *netnstest.Container
	ifs       []string
}

func newLoopLab(t *testing.T, typ string, interfaces int, flags ...string) *loopLab {
	lab := netnstest.New(t)
	l := &loopLab{Lab: lab, t: t, daemon: lab.Daemon(flags...), c: lab.Container("c"), d: lab.Container("d"), box: lab.Container("box")}
	l.daemon.Allow("port is blocked")
	l.daemon.Must("add-network", "net1", "--subnet", subnet4)
	l.daemon.Join("net1", "c", l.c, "--type", typ)
	l.daemon.Join("net1", "d", l.d, "--type", typ)
	for i := range interfaces {
		name := "eth" + string(rune('0'+i))
		l.ifs = append(l.ifs, name)
		l.daemon.Join("net1", "box"+string(rune('0'+i)), l.box, "--type", typ, "--ifname", name, "--no-ip")
	}
	return l
}

// bridge joins the box's interfaces.
func (l *loopLab) bridge() {
	l.box.IP("link add br0 type bridge")
	for _, name := range l.ifs {
		l.box.IP("link set " + name + " master br0")
	}
	l.box.IP("link set br0 up")
}

// storm lets c send broadcasts until a port is blocked, and tells how long it took from the first one on.
func (l *loopLab) storm() (e api.Event, took time.Duration) {
	l.t.Helper()
	socket, mac := l.c.PacketSocket("eth0"), l.c.MAC()
	start := time.Now()
	for ; time.Since(start) < netnstest.Patience; time.Sleep(5 * time.Millisecond) {
		socket.Send(l.Ears().Frame("ff:ff:ff:ff:ff:ff", mac))
		if e, ok := l.told("port.loop"); ok {
			return e, e.Time.Sub(start)
		}
	}
	l.t.Fatalf("no port is blocked; stats:\n%s", l.daemon.Must("stats"))
	return e, 0
}

// told returns the last event of the type.
func (l *loopLab) told(typ string) (last api.Event, ok bool) {
	l.t.Helper()
	for e, err := range l.daemon.Client.Events(context.Background(), 0, false) {
		if err != nil {
			l.t.Fatal(err)
		}
		if e.Type == typ {
			last, ok = e, true
		}
	}
	return last, ok
}

// calm fails the test when it takes more than a second until d gets next to nothing any more.
func (l *loopLab) calm() {
	l.t.Helper()
	if d := l.calmed(); d > time.Second {
		l.t.Errorf("calm after %v", d)
	}
}

// calmed waits until d gets next to nothing any more, once what the storm left in the queues is gone, and tells how long it took.
func (l *loopLab) calmed() time.Duration {
	l.t.Helper()
	start := time.Now()
	for before := uint64(0); ; {
		n := portStats(l.t, l.daemon, "d").TxPackets
		if n-before < 20 { // in a storm it would be thousands
			break
		}
		before = n
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}

// TestLoop joins two ports by a bridge of the kernel: the later one is blocked within a second, the others go on at once, and
// it carries frames again a while after the bridge was taken away.
func TestLoop(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			l := newLoopLab(t, typ, 2)
			l.bridge()
			e, took := l.storm()
			t.Logf("blocked after %v: %s", took, e.Message)
			if took > time.Second || e.Object != "box1" || !strings.Contains(e.Message, "box0") {
				t.Errorf("after %v: %+v", took, e)
			}
			l.calm()
			ping(l.Lab, l.c, b4)
			if p := portOf(t, l.daemon, "box1"); p.Status.State != api.StateBlocked || !strings.Contains(p.Status.Error, "box0") {
				t.Errorf("status %+v", p.Status)
			}
			if out := l.daemon.Must("show"); !strings.Contains(out, "blocked: frames loop between it and port box0") {
				t.Errorf("show:\n%s", out)
			}
			if out := l.daemon.Must("list-ports"); !strings.Contains(out, "blocked") {
				t.Errorf("list-ports:\n%s", out)
			}
			// The box is on the network by its other port.
			l.box.IP("addr add 10.9.0.77/24 dev br0")
			ping(l.Lab, l.c, "10.9.0.77")
			l.box.IP("link set br0 down")
			l.box.IP("link del br0")
			l.Eventually("box1 carries frames again", func() bool { return portOf(t, l.daemon, "box1").Status.State == api.StateUp })
			if e, ok := l.told("port.unblocked"); !ok || e.Object != "box1" {
				t.Errorf("told %+v", e)
			}
			if n := dropped(l.daemon, "box1", "port_blocked"); n == 0 {
				t.Error("nothing was dropped as port_blocked")
			}
			l.box.IP("addr add 10.9.0.78/24 dev eth1")
			ping(l.Lab, l.c, "10.9.0.78")
		})
	}
}

// TestLoopOfThree: each broadcast becomes two in each round, so that all queues are full at once.
func TestLoopOfThree(t *testing.T) {
	if slowest := shortest(time.Second, func() time.Duration { return loopOfThree(t) }); slowest > time.Second {
		t.Errorf("something took %v", slowest)
	}
}

// loopOfThree returns the longest of the times until the first port is blocked, from there until the second is, and until it is calm.
func loopOfThree(t *testing.T) time.Duration {
	t.Helper()
	l := newLoopLab(t, "tap", 3)
	l.bridge()
	_, first := l.storm()
	blocked := func() (names []string) {
		for _, p := range netnstest.Get[[]api.Port](l.daemon, "list-ports") {
			if p.Status.State == api.StateBlocked {
				names = append(names, p.Name)
			}
		}
		return names
	}
	start := time.Now()
	l.Eventually("two ports are blocked", func() bool { return len(blocked()) >= 2 })
	second := time.Since(start)
	if !slices.Equal(blocked(), []string{"box1", "box2"}) {
		t.Errorf("blocked: %v", blocked())
	}
	calmed := l.calmed()
	t.Logf("one port was blocked after %v, another %v later; calm %v later", first, second, calmed)
	ping(l.Lab, l.c, b4)
	l.box.IP("link del br0") // or the loop would be tried again beside the next lab
	return max(first, second, calmed)
}

// TestLoopOfOnePort: a container's bridge sends what it gets back where it came from.
func TestLoopOfOnePort(t *testing.T) {
	t.Parallel()
	l := newLoopLab(t, "tap", 1)
	l.bridge()
	l.box.Run("bridge", "link", "set", "dev", "eth0", "hairpin", "on")
	e, took := l.storm()
	if took > time.Second || e.Object != "box0" || !strings.Contains(e.Message, "by the port itself") {
		t.Errorf("after %v: %+v", took, e)
	}
	l.calm()
	ping(l.Lab, l.c, b4)
	l.box.Run("bridge", "link", "set", "dev", "eth0", "hairpin", "off")
	l.Eventually("box0 carries frames again", func() bool { return portOf(t, l.daemon, "box0").Status.State == api.StateUp })
}

// TestLoopAtStart: the daemon finds the loop again by itself after it was killed.
func TestLoopAtStart(t *testing.T) {
	t.Parallel()
	l := newLoopLab(t, "tap", 2)
	l.bridge()
	l.storm()
	l.daemon.Kill()
	l.daemon.Start()
	l.Eventually("a port is blocked again", func() bool { _, ok := l.told("port.loop"); return ok })
	l.calm()
	ping(l.Lab, l.c, b4)
}

// TestLoopThroughAnotherDaemon: a second switch joins two ports of the first.
//
//	c --- net1 ---(box0)--- br0 ---(x0)--- net2 of another daemon
//	          \---(box1)--- br1 ---(x1)---/
func TestLoopThroughAnotherDaemon(t *testing.T) {
	t.Parallel()
	l := newLoopLab(t, "tap", 2)
	other := l.Daemon()
	other.Allow("port is blocked")
	other.Must("add-network", "net2", "--no-subnet")
	for _, n := range []string{"0", "1"} {
		other.Join("net2", "x"+n, l.box, "--ifname", "x"+n)
		l.box.IP("link add br" + n + " type bridge")
		l.box.IP("link set eth" + n + " master br" + n)
		l.box.IP("link set x" + n + " master br" + n)
		l.box.IP("link set br" + n + " up")
	}
	socket, mac, start := l.c.PacketSocket("eth0"), l.c.MAC(), time.Now()
	cut := func(d *netnstest.Daemon) bool {
		return slices.ContainsFunc(netnstest.Get[[]api.Port](d, "list-ports"), func(p api.Port) bool { return p.Status.State == api.StateBlocked })
	}
	l.Eventually("one of the switches blocks a port", func() bool {
		socket.Send(l.Ears().Frame("ff:ff:ff:ff:ff:ff", mac))
		return cut(l.daemon) || cut(other)
	})
	if d := time.Since(start); d > time.Second {
		t.Errorf("blocked after %v", d)
	}
	l.calm()
	ping(l.Lab, l.c, b4)
}

// TestBPDU: what a container says of spanning trees is for nobody's ears.
func TestBPDU(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4)
	ears := lab.Ears()
	ears.Add("a", a, "eth0")
	ears.Add("b", b, "eth0")
	for _, dst := range []string{"01:80:c2:00:00:00", "01:80:c2:00:00:08", "01:00:0c:cc:cc:cd"} {
		if heard := ears.Send("a", ears.Frame(dst, a.MAC())); len(heard) > 0 {
			t.Errorf("%s was heard by %s", dst, netnstest.Who(heard))
		}
	}
	if n := dropped(d, "a", "bpdu"); n != 3 {
		t.Errorf("%d frames were dropped as bpdu, want 3", n)
	}
}
