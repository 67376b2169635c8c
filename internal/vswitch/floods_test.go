package vswitch_test

import (
	"net"
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
	type sum struct { // of all samples of one kind
		bytes int64
		took  time.Duration
	}
	sample := func(s *sum, hole bool) {
		f.hole.Store(hole)
		time.Sleep(10 * time.Millisecond)
		before, at := arrived.Load(), time.Now()
		time.Sleep(40 * time.Millisecond)
		s.bytes, s.took = s.bytes+arrived.Load()-before, s.took+time.Since(at)
	}
	for reason, b := range kinds {
		before := dropped(d, "a", reason.String())
		f.hole.Store(false)
		f.work.Store(b)
		// What waits in a's queue of the flood before is read 64 frames at a time.
		lab.Eventually("the flood is dropped as "+reason.String(), func() bool { return dropped(d, "a", reason.String()) > before })
		var hole, flood sum
		share, pairs := 0.0, 0
		for ; pairs < 400 && (pairs < 8 || !(share >= 0.9)); pairs++ { // a busy machine needs more samples, and gets them
			if pairs%2 == 0 {
				sample(&hole, true)
				sample(&flood, false)
			} else {
				sample(&flood, false)
				sample(&hole, true)
			}
			share = float64(flood.bytes) / flood.took.Seconds() / (float64(hole.bytes) / hole.took.Seconds())
		}
		if !(share >= 0.9) { // nor NaN, when nothing at all arrived
			t.Fatalf("beside a flood of %v the pair has %.2f of its throughput, in %d pairs of samples", reason, share, pairs)
		}
		t.Logf("%v %d: %.2f", reason, pairs, share)
	}
	f.work.Store(nil)
	ping(lab, a, b4)
}
