package vswitch_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestUplinkGoneUnderTraffic: TCP that is under way waits while its interface has no address, and while there is no interface at all, and goes on when all is
// as before, in both families, beside datagrams that never stop.
func TestUplinkGoneUnderTraffic(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0")
	for _, addr := range serverAddrs {
		flood := n.c.UDP(":0")
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			to := &net.UDPAddr{IP: net.ParseIP(addr), Port: 9}
			for b := make([]byte, 1000); ; {
				select {
				case <-stop:
					return
				default:
					_, _ = flood.WriteTo(b, to) // errors that it is told of come here
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
		near, far := pair(t, n.c, n.server, addr)
		moved := make(chan error, 1)
		go func() {
			_, err := io.CopyN(near, zeros{}, 64<<20)
			moved <- err
		}()
		for _, step := range []struct {
			what       string
			away, home func()
		}{
			{"the addresses", func() {
				n.host.IP("addr flush dev up0")
				n.d.Eventually("no address", func() bool { return !strings.Contains(n.d.Must("show", "uplink", "up0"), "Addresses") })
			}, func() {
				n.host.IP("addr add 192.0.2.2/24 dev up0")
				n.host.IP("addr add 2001:db8:1::2/64 dev up0 nodad")
			}},
			{"the interface", func() {
				n.host.IP("link del up0")
				n.d.Eventually("that it is gone", func() bool { return strings.Contains(n.d.Must("show", "uplink", "up0"), "interface up0 is gone") })
			}, func() { n.plugIn(t) }},
		} {
			if _, err := io.CopyN(io.Discard, far, 16<<20); err != nil {
				t.Fatalf("%s, before %s went: %v", addr, step.what, err)
			}
			step.away()
			step.home()
			n.routeOut()
		}
		if _, err := io.CopyN(io.Discard, far, 32<<20); err != nil {
			t.Errorf("%s: what was under way while addresses and interface were away: %v\n%s", addr, err, n.d.Must("show", "uplink", "up0"))
		}
		if err := <-moved; err != nil {
			t.Error(err)
		}
		close(stop)
		<-ended
		flood.Close()
	}
	netnstest.ExpectNoErrors(n.c)
}

// zeros is what never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestUplinkWaits: a daemon of which nothing was kept, as after a start of the machine, waits for interfaces that are not there yet.
func TestUplinkWaits(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "--fdstore=none")
	n.d.Must("add-uplink", "up0")
	n.d.Stop()
	n.host.IP("link del up0")
	n.d.Start()
	if got := n.d.Must("list-uplinks"); !strings.Contains(got, "down") {
		t.Errorf("uplinks while there is no interface:\n%s", got)
	}
	n.plugIn(t)
	n.routeOut()
	for _, addr := range serverAddrs {
		n.d.Eventually(addr+" answers", func() bool { return pinged(n.c, addr, "-W", "1") == nil })
	}
}

// TestUplinkGoneAtTheEnd: the interface goes while the daemon ends; what follows it has ended before what it needs.
func TestUplinkGoneAtTheEnd(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Allow("attach a program anew") // which went with the interface
	n.d.Must("add-uplink", "up0")
	for range 8 {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = n.host.Try("ip", "link", "del", "up0")
		}()
		time.Sleep(2 * time.Millisecond)
		n.d.Stop()
		<-gone
		n.plugIn(t)
		n.d.Start()
		n.d.Eventually("an uplink that is up", func() bool {
			return netnstest.Get[api.Uplink](n.d, "show", "uplink", "up0").Status.State == api.UplinkUp
		})
	}
}
