package vswitch_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestConnect moves a port between networks while its interface stays.
//
//	a --- net1 --- b --- net2 --- c
func TestConnect(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", typ)
			d.Must("add-network", "net2", "--subnet", "10.20.0.0/24", "--mtu", "1400")
			c := lab.Container("c")
			d.Join("net2", "c", c, "--mac", b.MAC())
			ping(lab, a, b4)
			d.Must("add-fdb", "net1", "02:00:00:00:00:98", "b")
			index := b.Link("eth0").Index

			d.Must("disconnect", "b", "net1")
			gone := func(when string) {
				t.Helper()
				lab.Eventually(when+": no carrier", func() bool { return !b.Link("eth0").Carrier() })
				eth0 := b.Link("eth0")
				if eth0.Index != index || !eth0.Up() || len(eth0.Prefixes()) != 0 {
					t.Errorf("%s: eth0 is %+v", when, eth0)
				}
				if p := portOf(t, d, "b"); p.Status.State != api.StateDisconnected || p.Network != "" || len(p.IPs) != 0 || p.StaticFDB != nil {
					t.Errorf("%s: port is %+v", when, p)
				}
				if table := d.Must("fdb", "net1"); strings.Contains(table, " b ") {
					t.Errorf("%s: MACs of b are left:\n%s", when, table)
				}
				if show := d.Must("show"); !strings.Contains(show, "\nPort b\n") {
					t.Errorf("%s: show is\n%s", when, show)
				}
			}
			gone("disconnected")
			d.Refused(1, "on no network", "disconnect", "b")
			d.Must("disconnect", "b", "--if-exists")
			d.Refused(1, "connect it first", "set-port", "b", "--ip", "10.9.0.9")
			d.Refused(1, "on network none", "add-fdb", "net1", "02:00:00:00:00:98", "b")
			d.Must("set-port", "b", "--label", "k=v")
			d.Stop()
			d.Start()
			gone("restarted")
			d.Allow("the keeper went away")
			killKeeper(t, d)
			d.Kill()
			d.Start()
			index = b.Link("eth0").Index // a veth is made anew
			gone("restarted without a keeper")
			d.Must("del-network", "net2", "--force")
			d.Must("add-network", "net2", "--subnet", "10.20.0.0/24", "--mtu", "1400")
			d.Join("net2", "c", c, "--mac", b.MAC())

			mac := b.MAC()
			d.Must("connect", "b", "net2", "--ip", "10.20.0.9")
			ping(lab, c, "10.20.0.9")
			d.Must("connect", "b", "net2", "--may-exist", "--ip", "10.20.0.9")
			d.Refused(1, "its address is", "connect", "b", "net2", "--may-exist", "--ip", "10.20.0.10")
			d.Refused(1, "already", "connect", "b", "net2")
			d.Refused(1, "disconnect b", "connect", "b", "net1")
			d.Refused(1, "not on", "disconnect", "b", "net1")
			eth0 := b.Link("eth0")
			if eth0.Index != index || eth0.MTU != 1400 || eth0.MAC == mac || strings.Join(eth0.Prefixes(), " ") != "10.20.0.9/24" {
				t.Errorf("on the other network: eth0 is %+v", eth0)
			}
			if got := b.IP("route show default"); !strings.Contains(got, "via 10.20.0.1 dev eth0") {
				t.Errorf("default route is %q", got)
			}
			d.Must("disconnect", "b")
			d.Must("connect", "b", "net1", "--ip", b4)
			ping(lab, a, b4)
			d.Must("disconnect", "b")
			d.Must("connect", "b", "net1")
			ping(lab, b, a6)
			d.Stop()
			d.Start()
			ping(lab, b, a6)
			d.Must("disconnect", "b")
			d.Must("del-port", "b")
			if len(b.Links()) != 0 {
				t.Errorf("a disconnected port left %+v", b.Links())
			}
			wantEvent(t, d, "b", "port.disconnected")
		})
	}
}

// TestConnectKeepsApart moves a port between two networks while both are flooded: it hears the one that it is on, and neither hears
// the other by way of it.
//
//	a ===flood=== net1 --- b --- net2 ===flood=== c
func TestConnectKeepsApart(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon("--workers", "2")
			a, b, c := lab.Container("a"), lab.Container("b"), lab.Container("c")
			containers := map[string]*netnstest.Container{"net1": a, "net2": c, "": b}
			for network, from := range containers {
				from.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
				if network != "" {
					d.Must("add-network", network, "--no-subnet")
					d.Join(network, network, from)
				}
			}
			d.Join("net1", "b", b, "--type", typ)
			heard := b.PacketSocket("eth0")
			srcs := map[string][]byte{"net1": macBytes(a.MAC()), "net2": macBytes(c.MAC())}
			others := map[string]*netnstest.PacketSocket{"net1": a.PacketSocket("eth0"), "net2": c.PacketSocket("eth0")}
			for network, s := range others {
				defer pour(s, slices.Concat(macBytes(broadcast), srcs[network], []byte{0x88, 0xb5}, make([]byte, 46)))()
				defer pour(s, slices.Concat(macBytes(b.MAC()), srcs[network], []byte{0x88, 0xb5}, make([]byte, 46)))()
			}
			from := func(network string) func([]byte) bool {
				return func(f []byte) bool { return bytes.Equal(f[6:12], srcs[network]) }
			}
			for i := range 10 {
				on, off := "net1", "net2"
				if i%2 == 1 {
					on, off = off, on
				}
				if heard.Find(netnstest.Patience, from(on)) == nil {
					t.Fatalf("round %d: b does not hear %s", i, on)
				}
				d.Must("disconnect", "b")
				heard = b.PacketSocket("eth0") // without what has come before, nor what the kernel still had to deliver
				lab.Eventually("silence at b", func() bool { return heard.Find(10*time.Millisecond, from(on)) == nil })
				d.Must("connect", "b", off)
				if f := heard.Find(10*time.Millisecond, from(on)); f != nil {
					t.Fatalf("round %d: b hears %s, and is on %s: % x", i, on, off, f)
				}
			}
			for network, other := range map[string]string{"net1": "net2", "net2": "net1"} {
				if f := others[network].Find(10*time.Millisecond, from(other)); f != nil {
					t.Errorf("%s hears %s: % x", network, other, f)
				}
			}
		})
	}
}

// pour sends the frame again and again until it is told to end.
func pour(s *netnstest.PacketSocket, frame []byte) (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Microsecond):
				s.Send(frame)
			}
		}
	}()
	return func() { close(done); <-ended }
}
