package vswitch_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// flood sends count datagrams from one container as fast as it can, and returns how many the kernel took.
func flood(t *testing.T, from *netnstest.Container, to string, count, size int) (sent uint64) {
	t.Helper()
	conn := from.UDP(":0")
	defer conn.Close()
	addr := net.UDPAddrFromAddrPort(addrPort(to, 9))
	payload := make([]byte, size)
	for range count {
		if _, err := conn.WriteToUDP(payload, addr); err == nil {
			sent++
		}
	}
	return sent
}

// TestEveryLossIsCounted floods a container faster than the switch is: what was sent is what arrived, plus what is counted as
// dropped, to the frame.
//
//	a ---> net1 ---> b       and the kernel's queue between a and the switch is short
func TestEveryLossIsCounted(t *testing.T) {
	for _, tt := range []struct{ name, a, b string }{{"tap", "tap", "tap"}, {"veth", "veth", "veth"}} {
		t.Run(tt.name, func(t *testing.T) {
			lab := netnstest.New(t)
			d := lab.Daemon("--txqueuelen", "20")
			d.Must("add-network", "net1", "--subnet", subnet4)
			a, b := lab.Container("a"), lab.Container("b")
			for _, c := range []*netnstest.Container{a, b} {
				c.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
			}
			d.Join("net1", "a", a, "--type", tt.a)
			d.Join("net1", "b", b, "--type", tt.b)
			a.Run("ping", "-q", "-c1", "-W10", b4)
			// Neighbors stay known, so that nothing but the flood is under way.
			a.IP("neigh replace " + b4 + " lladdr " + b.MAC() + " dev eth0 nud permanent")
			b.IP("neigh replace " + a4 + " lladdr " + a.MAC() + " dev eth0 nud permanent")
			received := receiver(t, b, b4, 9)
			drops0, before := lost(d), b.Counters()["Udp.InErrors"]
			const count = 60000
			sent := flood(t, a, b4, count, 18)
			var arrived, dropped uint64
			for deadline := time.Now().Add(netnstest.Patience); arrived+dropped < sent && time.Now().Before(deadline); {
				arrived = received.Load() + b.Counters()["Udp.InErrors"] - before
				dropped = lost(d) - drops0
			}
			if arrived+dropped != sent || sent == 0 {
				t.Errorf("%d sent, but %d arrived and %d dropped:\n%s\n%s", sent, arrived, dropped, d.Must("drops"), d.Must("stats"))
			}
			if n := portStats(t, d, "a").KernelRxDropped; tt.a == "tap" && n == 0 {
				t.Log("the queue never was full")
			}
		})
	}
}

// receiver counts the datagrams that arrive at a port of the container.
func receiver(t *testing.T, c *netnstest.Container, ip string, port uint16) *atomic.Uint64 {
	t.Helper()
	conn, n := c.UDP(addrPort(ip, port).String()), new(atomic.Uint64)
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			n.Add(1)
		}
	}()
	return n
}

// TestReceiverDown: what goes to an interface that is down is counted at its port.
func TestReceiverDown(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tap", "veth"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4)
			a, b := lab.Container("a"), lab.Container("b")
			d.Join("net1", "a", a)
			d.Join("net1", "b", b, "--type", kind)
			a.Run("ping", "-q", "-c1", "-W10", b4)
			a.IP("neigh replace " + b4 + " lladdr " + b.MAC() + " dev eth0 nud permanent")
			b.IP("link set eth0 down")
			d.Eventually("the switch knows that b is down", func() bool {
				flood(t, a, b4, 1, 100)
				return dropped(d, "b", "egress_down") > 0
			})
			before := lost(d)
			flood(t, a, b4, 100, 100)
			d.Eventually("100 frames to an interface that is down are counted", func() bool { return lost(d)-before >= 100 })
			d.Eventually("port b is down", func() bool { return portOf(t, d, "b").Status.State == api.StateDown })
			b.IP("link set eth0 up")
			d.Eventually("b hears again", func() bool {
				_, err := a.Try("ping", "-q", "-c1", "-W0.1", b4)
				return err == nil
			})
		})
	}
}

// TestChurn adds and deletes ports while traffic flows, and looks for what is not given back.
func TestChurn(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "2")
	a, b := d.Pair("net1", "--subnet", subnet4)
	c := lab.Container("c")
	done := make(chan error)
	go func() { done <- netnstest.Stream(a, b, b4, 64<<20) }()
	round := func() {
		d.Join("net1", "c1", c, "--default-route=no")
		d.Join("net1", "c2", c, "--ifname", "eth1", "--type", "veth", "--default-route=no")
		d.Must("del-port", "c1")
		d.Must("del-port", "c2")
	}
	round()
	fds := d.FDs()
	for range 20 {
		round()
	}
	if err := <-done; err != nil {
		t.Errorf("a stream beside it: %v", err)
	}
	d.Eventually("the daemon has as many file descriptors as before", func() bool { return d.FDs() <= fds })
	var limit unix.Rlimit
	if err := unix.Prlimit(d.PID(), unix.RLIMIT_NOFILE, nil, &limit); err != nil || limit.Cur != limit.Max {
		t.Errorf("the daemon's limit of files is %+v %v", limit, err)
	}
}
