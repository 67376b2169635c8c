package vswitch_test

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// pump streams over TCP from one container to the address of another until the test ends, and returns the bytes that arrived.
func pump(t *testing.T, from, to *netnstest.Container, addr string) *atomic.Int64 {
	t.Helper()
	l, n := to.ListenTCP(net.JoinHostPort(addr, "0")), new(atomic.Int64)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		for buf := make([]byte, 1<<20); ; {
			k, err := conn.Read(buf)
			if err != nil {
				return
			}
			n.Add(int64(k))
		}
	}()
	conn, err := from.DialTCP(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); l.Close() })
	go func() {
		for data := make([]byte, 1<<20); ; {
			if _, err := conn.Write(data); err != nil {
				return
			}
		}
	}()
	return n
}

// flooder sends a frame as fast as it can, into the switch or into an interface of its own that leads nowhere.
type flooder struct {
	work  atomic.Pointer[packettest.Bad] // nil: pause
	hole  atomic.Bool
	ended chan struct{}
}

func newFlooder(t *testing.T, c *netnstest.Container) *flooder {
	t.Helper()
	c.IP("link add hole0 type veth peer name hole1")
	c.IP("link set hole0 mtu 9000 up")
	c.IP("link set hole1 mtu 9000 up")
	c.IP("link set eth0 mtu 9000")
	f := &flooder{ended: make(chan struct{})}
	here, there := c.VnetSocket("eth0"), c.VnetSocket("hole0")
	stop := make(chan struct{})
	go func() {
		defer close(f.ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			b := f.work.Load()
			switch {
			case b == nil:
				time.Sleep(time.Millisecond)
			case f.hole.Load():
				_ = there.Send(b.Vnet, b.Frame)
			default:
				_ = here.Send(b.Vnet, b.Frame)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-f.ended
		c.IP("link del hole0")
	})
	return f
}

// TestHealthyPairUnderHostileFlood: while a container floods the switch with frames that are dropped, others keep nine tenths of the
// throughput that they have while it floods an interface of its own: what the flood itself costs the processor is not ours.
//
//	a ===bad frames===> net1, or hole0     x ---TCP---> net1 ---> y
func TestHealthyPairUnderHostileFlood(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := pairOf(lab, d, "tap", "tap")
	x, y := lab.Container("x"), lab.Container("y")
	d.Join("net1", "x", x, "--ip", "10.9.0.10")
	d.Join("net1", "y", y, "--ip", "10.9.0.11")
	arrived := pump(t, x, y, "10.9.0.11")
	f := newFlooder(t, a)
	kinds := make(map[packet.DropReason]*packettest.Bad)
	for _, b := range packettest.BadFrames(a.MAC(), portOf(t, d, "b").MAC) {
		if !b.Stopped && b.Drop != packet.DropNone && kinds[b.Drop] == nil {
			kinds[b.Drop] = &b
		}
	}
	rate := func(hole bool) float64 { // bytes a second
		f.hole.Store(hole)
		time.Sleep(10 * time.Millisecond)
		before, at := arrived.Load(), time.Now()
		time.Sleep(40 * time.Millisecond)
		return float64(arrived.Load()-before) / time.Since(at).Seconds()
	}
	for reason, b := range kinds {
		before := dropped(d, "a", reason.String())
		f.hole.Store(false)
		f.work.Store(b)
		// What waits in a's queue of the flood before is read 64 frames at a time.
		lab.Eventually("the flood is dropped as "+reason.String(), func() bool { return dropped(d, "a", reason.String()) > before })
		var ratios []float64
		enough := func() bool { // a busy machine needs more samples, and gets them
			slices.Sort(ratios)
			return len(ratios) >= 5 && ratios[len(ratios)/2] >= 0.9
		}
		for tries := 0; tries < 400 && !enough(); tries++ {
			if hole := rate(true); hole > 0 {
				ratios = append(ratios, rate(false)/hole)
			}
		}
		if !enough() {
			t.Fatalf("beside a flood of %v the pair's throughput is less than nine tenths: shares of %.2f", reason, ratios)
		}
		t.Logf("%v %d: %.2f", reason, len(ratios), ratios[len(ratios)/2])
	}
	f.work.Store(nil)
	ping(lab, a, b4)
}
