package netlab_test

import (
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// What the gateway has to hear of Neighbor Discovery it hears, also where other IPv6 of the same two MACs is decided from the cache.
func TestGatewayHearsDespiteCache(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1 := lab.Port("n", "c1").Address("10.1.0.2", "fd01::2")
		c2 := lab.Port("n", "c2").Address("10.1.0.3", "fd01::3")
		lab.Gateway("n", 1500, "10.1.0.1/24", "fd01::1/64")
		hello(lab, c1, c2)
		solicited := To("33:33:ff:00:00:01", "ff02::1:ff00:1", 0)
		for range 3 {
			plain := UDP(c1.From6(7), c2.To6(9))
			c1.Send(plain, plain)
			c2.Expect(t, plain, plain)
			c1.Send(ND(136, "fd01::1", []NDOption{TargetLLA(macOf(c1.MAC))}, c1.From6(0), c2.To6(0), Echo(0x6000, 0)))
			c2.ExpectNothing(t)

			group := UDP(c1.From6(7), solicited)
			c1.Send(group, group)
			c2.Expect(t, group, group)
			c1.ExpectNothing(t)
			c1.Send(ND(135, "fd01::1", []NDOption{SourceLLA(macOf(c1.MAC))}, c1.From6(0), solicited))
			if got := c1.Take(); len(got) != 1 {
				t.Fatalf("%d answers to a solicitation of the gateway", len(got))
			}
			c2.Take()
		}
		lab.ExpectDrops(t, drops{packet.DropGatewaySpoof: 3})
	})
}
