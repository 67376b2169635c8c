package vswitch_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// fire is a network under traffic, in which the owner of b's interface does to it what he pleases:
//
//	a eth0 ==TCP, UDP flood==> net1 ==UDP flood, TCP== eth0 b, which goes, moves, changes
//	x eth0 -------TCP, UDP---> net1 ------------------ eth0 y, who should not notice
type fire struct {
	t          *testing.T
	lab        *netnstest.Lab
	d          *netnstest.Daemon
	typ        string
	a, b, x, y *netnstest.Container
	ifname     string // of b's interface
	stop       chan struct{}
	traffic    sync.WaitGroup
	sockets    []io.Closer
}

func newFire(t *testing.T, typ string) *fire {
	f := &fire{t: t, lab: netnstest.New(t), typ: typ}
	f.d = f.lab.Daemon("--workers", "2")
	f.a, _ = pairOf(f.lab, f.d, "tap", "veth") // its b serves as y
	f.x, f.y = f.lab.Container("x"), f.lab.Container("y")
	f.d.Must("del-port", "b")
	f.d.Join("net1", "x", f.x, "--ip", "10.9.0.10")
	f.d.Join("net1", "y", f.y, "--ip", "10.9.0.11", "--type", "veth")
	f.join()
	t.Cleanup(f.quench)
	return f
}

// join gives port b to a new container and starts the traffic.
func (f *fire) join() {
	f.t.Helper()
	f.b, f.ifname = f.lab.Container("b"), "eth0"
	f.d.Join("net1", "b", f.b, "--type", f.typ, "--ip", b4)
	ping(f.lab, f.a, b4)
	f.ignite()
}

// ignite starts a UDP flood each way and a TCP stream. Errors are expected: what is at their ends goes away.
func (f *fire) ignite() {
	f.t.Helper()
	f.stop = make(chan struct{})
	for _, s := range []struct {
		from *netnstest.Container
		to   string
	}{{f.a, b4}, {f.b, a4}} {
		conn, to := s.from.UDP(":0"), net.UDPAddrFromAddrPort(addrPort(s.to, 9))
		f.sockets = append(f.sockets, conn)
		f.run(func() {
			_, _ = conn.WriteToUDP(make([]byte, 1400), to)
			time.Sleep(20 * time.Microsecond) // a flood, but not the machine's end
		})
	}
	l := f.b.ListenTCP(net.JoinHostPort(b4, "0"))
	f.sockets = append(f.sockets, l)
	stop := f.stop
	f.traffic.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.traffic.Go(func() {
			<-stop
			conn.Close()
		})
		_, _ = io.Copy(io.Discard, conn)
	})
	conn, err := f.a.DialTCP(l.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.sockets = append(f.sockets, conn)
	data := make([]byte, 64<<10)
	f.run(func() {
		if _, err := conn.Write(data); err != nil {
			time.Sleep(time.Millisecond)
		}
	})
}

func (f *fire) run(once func()) {
	stop := f.stop
	f.traffic.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				once()
			}
		}
	})
}

// quench ends the traffic, so that nothing is left in b's namespace that would keep it alive.
func (f *fire) quench() {
	if f.stop == nil {
		return
	}
	close(f.stop)
	f.stop = nil
	for _, s := range f.sockets {
		s.Close()
	}
	f.sockets = nil
	f.traffic.Wait()
}

func (f *fire) link(format string, args ...any) {
	f.t.Helper()
	f.b.IP("link " + fmt.Sprintf(format, args...))
}

// state waits until the switch says so of port b.
func (f *fire) state(want string) {
	f.t.Helper()
	f.lab.Eventually("state "+want, func() bool { return portOf(f.t, f.d, "b").Status.State == want })
}

// again waits for the port's end, and attaches it anew under its old name and address.
func (f *fire) again() {
	f.t.Helper()
	f.lab.Eventually("port b is gone", func() bool { return f.d.Vsctl("show", "port", "b").Code != 0 })
	f.quench()
	f.join()
}

// ordeals are what becomes of b's interface, each ending with a port that works.
var ordeals = map[string]func(f *fire){
	"deleted": func(f *fire) {
		f.link("del %s", f.ifname)
		waitEvent(f.t, f.lab, f.d, "port.gone", "b")
		f.again()
	},
	"its namespace deleted": func(f *fire) {
		f.quench() // or our own sockets would keep it; what is under way in it, is
		f.b.Delete()
		f.again()
	},
	"renamed": func(f *fire) {
		name := fmt.Sprint("n", rand.IntN(1e9))
		f.link("set %s down", f.ifname)
		f.link("set %s name %s", f.ifname, name)
		f.link("set %s up", name)
		f.ifname = name
		f.lab.Eventually("the new name is known", func() bool { return portOf(f.t, f.d, "b").IfName == name })
		f.state(api.StateUp)
	},
	"down and up": func(f *fire) {
		for range 3 {
			f.link("set %s down", f.ifname)
			f.link("set %s up", f.ifname)
		}
		f.link("set %s down", f.ifname)
		f.state(api.StateDown)
		f.link("set %s up", f.ifname)
		f.state(api.StateUp)
	},
	"moved": func(f *fire) {
		f.quench()
		was := f.b
		f.b = f.lab.Container("moved")
		was.IP(fmt.Sprintf("link set %s netns %s", f.ifname, f.b.Name))
		f.b.IP(fmt.Sprintf("addr add %s/24 dev %s", b4, f.ifname))
		f.link("set %s up", f.ifname)
		waitEvent(f.t, f.lab, f.d, "port.moved", "b")
		ping(f.lab, f.a, b4)
		f.ignite()
	},
	"other MTUs": func(f *fire) {
		for _, mtu := range []int{68, 9000, 60000, 576, 1500} {
			f.link("set %s mtu %d", f.ifname, mtu)
		}
	},
	"another MAC": func(f *fire) {
		f.link("set %s address 02:77:00:00:00:%02x", f.ifname, rand.IntN(256))
		f.a.IP("neigh flush dev eth0") // or it would remember the old one for a while
	},
	"promiscuous":  func(f *fire) { f.link("set %s promisc on", f.ifname); f.link("set %s promisc off", f.ifname) },
	"txqueuelen 1": func(f *fire) { f.link("set %s txqueuelen 1", f.ifname) },
}

// TestDeviceUnderFire does to an interface whatever its owner may do, in random order, under traffic: others are served as before, the
// daemon forgets nothing and is idle afterwards.
func TestDeviceUnderFire(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			f := newFire(t, typ)
			fds := f.d.FDs()
			others := startBystander(t, f.x, f.y, "10.9.0.11")
			var names []string
			for name := range ordeals { // in random order
				names = append(names, name)
			}
			for _, name := range append(names, names[rand.IntN(len(names))], names[rand.IntN(len(names))]) {
				ordeals[name](f)
				if err := netnstest.Stream(f.x, f.y, "10.9.0.11", 1<<20); err != nil {
					t.Fatalf("%s: others suffer: %v", name, err)
				}
				ping(f.lab, f.a, b4)
				if t.Failed() {
					t.Fatalf("after %s, in the order %s", name, strings.Join(names, ", "))
				}
			}
			others.end()
			f.quench()
			calm(t, f.lab, f.d)
			f.d.Eventually("as many file descriptors as before", func() bool { return f.d.FDs() <= fds })
			if n := dropped(f.d, "a", "internal") + dropped(f.d, "b", "internal"); n > 0 {
				t.Errorf("%d packets could not be decided", n)
			}
		})
	}
}
