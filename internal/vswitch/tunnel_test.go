package vswitch_test

import (
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// TestTunnelOfContainers: containers that build a tunnel of their own over the switch send super-frames of it, and checksums to
// be made within them. None of them is lost.
//
//	a: vx0 over eth0 ---> net1 ---> b: eth0 under vx0
func TestTunnelOfContainers(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, typ, typ)
			for _, x := range []struct {
				c                *netnstest.Container
				far, own, within string
			}{{a, b4, a4, "10.99.0.1/24"}, {b, a4, b4, "10.99.0.2/24"}} {
				args := "link add vx0 type vxlan id 5 dstport 4789 dev eth0 local " + x.own + " remote " + x.far
				if _, err := x.c.Try("ip", strings.Fields(args)...); err != nil {
					t.Skipf("this kernel has no VXLAN: %v", err)
				}
				x.c.IP("addr add " + x.within + " dev vx0")
				x.c.IP("link set vx0 up")
			}
			ping(lab, a, "10.99.0.2")
			if err := netnstest.Stream(a, b, "10.99.0.2", 4<<20); err != nil {
				t.Error(err)
			}
			for _, port := range []string{"a", "b"} {
				if n := dropped(d, port, "bad_vnet_header"); n > 0 {
					t.Errorf("%d super-frames of port %s could not be read", n, port)
				}
			}
		})
	}
}
