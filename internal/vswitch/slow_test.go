package vswitch_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// neighbors is two containers that talk and one that sends to a fourth, all on one worker:
//
//	a === b      c --- s
type neighbors struct {
	t          *testing.T
	lab        *netnstest.Lab
	d          *netnstest.Daemon
	a, b, c, s *netnstest.Container
}

const slowAddr = "10.9.0.5"

func newNeighbors(t *testing.T) *neighbors {
	t.Helper()
	n := &neighbors{t: t, lab: netnstest.New(t)}
	n.d = n.lab.Daemon("--workers=1")
	n.d.Must("add-network", "net1", "--subnet", subnet4)
	for label, c := range map[string]**netnstest.Container{"a": &n.a, "b": &n.b, "c": &n.c, "s": &n.s} {
		*c = n.lab.Container(label)
		n.d.Join("net1", label, *c, "--ip", fmt.Sprint("10.9.0.", strings.Index("..abcs", label)))
	}
	ping(n.lab, n.a, b4)
	ping(n.lab, n.c, slowAddr)
	return n
}

// pour sends datagrams from c to s until it is stopped or the test ends, so many a second, each to another port so that none are merged.
func (n *neighbors) pour(pps int) (stop func()) {
	conn := n.c.UDP(":0")
	to := &net.UDPAddr{IP: net.ParseIP(slowAddr)}
	var done atomic.Bool
	var running sync.WaitGroup
	running.Go(func() {
		sent := 0
		for start := time.Now(); !done.Load(); time.Sleep(time.Millisecond) {
			for due := int(time.Since(start).Seconds() * float64(pps)); sent < due && !done.Load(); sent++ {
				to.Port = 20000 + sent%10000
				_, _ = conn.WriteTo(make([]byte, 100), to) // what s answers, that nobody listens, is of no interest
			}
		}
	})
	stop = func() { done.Store(true); running.Wait() }
	n.t.Cleanup(stop)
	return stop
}

// talk sends datagrams from a to b, more than wait in any queue on the way, and returns which share arrived.
func (n *neighbors) talk() float64 {
	n.t.Helper()
	const count, pps = 30000, 20000
	rx, tx := n.b.UDP(b4+":0"), n.a.UDP(":0")
	defer rx.Close()
	defer tx.Close()
	got := make(chan int)
	go func() {
		b, sum := make([]byte, 200), 0
		for ; sum < count; sum++ {
			_ = rx.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, _, err := rx.ReadFrom(b); err != nil {
				break
			}
		}
		got <- sum
	}()
	start := time.Now()
	for i := range count {
		for float64(i) > time.Since(start).Seconds()*pps {
			time.Sleep(time.Millisecond)
		}
		if _, err := tx.WriteTo(make([]byte, 100), rx.LocalAddr()); err != nil {
			n.t.Fatal(err)
		}
	}
	return float64(<-got) / count
}

// roundTrip returns the median round trip between a and b.
func (n *neighbors) roundTrip() time.Duration {
	n.t.Helper()
	echo, conn := n.b.UDP(b4+":0"), n.a.UDP(":0")
	defer echo.Close()
	defer conn.Close()
	go func() {
		b := make([]byte, 100)
		for {
			k, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(b[:k], from)
		}
	}()
	var all []time.Duration
	for range 101 {
		start := time.Now()
		if _, err := conn.WriteTo([]byte("hello"), echo.LocalAddr()); err != nil {
			n.t.Fatal(err)
		}
		_ = conn.SetReadDeadline(start.Add(netnstest.Patience))
		if _, _, err := conn.ReadFrom(make([]byte, 100)); err != nil {
			n.t.Fatal(err)
		}
		all = append(all, time.Since(start))
		time.Sleep(time.Millisecond)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// unharmed fails the test unless a and b talk as ever. A machine that is busy with other things may need several tries; who is
// harmed is so in each.
func (n *neighbors) unharmed(beside string) {
	n.t.Helper()
	for tries := 5; ; tries-- {
		rtt, share := n.roundTrip(), n.talk()
		n.t.Logf("beside %s, %.1f %% of b's datagrams arrive, and its round trip takes %v", beside, 100*share, rtt)
		if share >= 0.9 && rtt <= 10*time.Millisecond {
			return
		}
		if tries == 1 {
			n.t.Fatalf("beside %s only %.1f %% of b's datagrams arrive, and its round trip takes %v", beside, 100*share, rtt)
		}
	}
}

// TestSlowReceiver: s takes 0.3 ms for each frame, and gets more than it can take. It moves to a worker of its own, where it loses its
// own frames only; it works when it has caught up, and its port can be deleted.
func TestSlowReceiver(t *testing.T) {
	n := newNeighbors(t)
	n.s.SlowDown("eth0")
	stop := n.pour(6000)
	waitEvent(t, n.lab, n.d, "port.slow", "s")
	n.unharmed("a slow receiver")
	st := netnstest.Get[api.Stats](n.d, "stats")
	for _, p := range st.Ports {
		if slow := p.Port == "s"; p.Slow != slow || (p.Worker != 0) != slow || (p.Moved > 0) != slow {
			t.Errorf("port %s is slow: %v, on worker %d, moved %d times", p.Port, p.Slow, p.Worker, p.Moved)
		}
	}
	if len(st.Workers) != 2 || st.Workers[0].Quarantine || !st.Workers[1].Quarantine || st.Workers[1].Ports != 1 {
		t.Errorf("workers %+v", st.Workers)
	}
	if out := n.d.Must("show", "port", "s"); !strings.Contains(out, "slow") {
		t.Errorf("show does not tell:\n%s", out)
	}
	if n := dropped(n.d, "s", "queue_full"); n == 0 {
		t.Error("nothing was lost on the way to s: it was not slow enough to prove anything")
	}
	stop()
	n.s.SpeedUp("eth0") // on a busy machine it would take minutes for what waits
	ping(n.lab, n.s, "10.9.0.4")
	n.d.Must("del-port", "s")
	n.lab.Eventually("the worker for slow ports is gone", func() bool { return len(netnstest.Get[api.Stats](n.d, "stats").Workers) == 1 })
}

// TestDeadReceivers: receivers that take nothing do no harm to others, and what they lose is counted where it is lost.
func TestDeadReceivers(t *testing.T) {
	t.Run("set down", func(t *testing.T) {
		n := newNeighbors(t)
		n.pour(5000)
		n.s.IP("link set eth0 down")
		waitEvent(t, n.lab, n.d, "port.down", "s")
		n.unharmed("an interface that is down")
		if n := dropped(n.d, "s", "egress_down"); n == 0 {
			t.Error("no loss is counted")
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		n := newNeighbors(t)
		for port := 20000; port < 20010; port++ { // as of a process that was stopped
			n.s.UDP(fmt.Sprint(":", port))
		}
		l := n.s.ListenTCP(":0")
		defer l.Close()
		conn, err := n.c.DialTCP(fmt.Sprintf("%s:%d", slowAddr, l.Addr().(*net.TCPAddr).Port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		if k, err := conn.Write(make([]byte, 64<<20)); err == nil {
			t.Errorf("a socket that nobody reads took %d bytes", k)
		}
		n.s.PacketSocket("eth0")
		n.pour(5000)
		n.unharmed("processes that do not read")
		if lost := dropped(n.d, "s", "queue_full") + dropped(n.d, "s", "egress_full"); lost != 0 {
			t.Errorf("the switch lost %d packets that the kernel would have taken", lost)
		}
	})
	t.Run("gone", func(t *testing.T) {
		n := newNeighbors(t)
		n.pour(5000)
		n.s.Delete()
		waitEvent(t, n.lab, n.d, "port.gone", "s")
		n.unharmed("a port that is gone")
	})
}
