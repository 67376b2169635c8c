package vswitch_test

import (
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// TestBadFrames: a container sends what it should not, through its kernel. What that lets out is dropped and counted for what it
// is, at the port it came from; its twin in internal/netlab is given the rest too.
//
//	a, with a packet socket ---> net1 ---> b
func TestBadFrames(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			d.Must("add-network", "net1", "--subnet", subnet4)
			a, b := lab.Container("a"), lab.Container("b")
			for _, c := range []*netnstest.Container{a, b} {
				c.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
			}
			d.Join("net1", "a", a, "--type", typ)
			d.Join("net1", "b", b)
			ping(lab, a, b4)
			a.IP("link set eth0 mtu 9000") // who owns the interface may
			s := a.VnetSocket("eth0")
			for _, bad := range packettest.BadFrames(a.MAC(), b.MAC()) {
				reason := bad.Drop.String()
				before := dropped(d, "a", reason)
				err := s.Send(bad.Vnet, bad.Frame)
				if bad.Stopped || bad.Drop == packet.DropNone {
					continue
				}
				if err != nil {
					t.Errorf("%s: the sender's kernel says %v", bad.Name, err)
				}
				if !eventually(func() bool { return dropped(d, "a", reason) > before }) {
					t.Errorf("%s: not dropped as %s:\n%s", bad.Name, reason, d.Must("drops"))
				}
			}
			ping(lab, a, b4)
			if n := dropped(d, "b", "egress_refused"); n != 0 {
				t.Errorf("the receiver's kernel refused %d frames", n)
			}
		})
	}
}

func eventually(cond func() bool) bool {
	for deadline := time.Now().Add(netnstest.Patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
