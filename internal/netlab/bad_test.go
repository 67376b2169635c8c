package netlab_test

import (
	"net"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// Each frame that nobody should send is dropped for the reason it deserves, once for each packet, and nothing else happens.
func TestBadFrames(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		hello(lab, c1, c2)
		mac := func(p *netlab.Port) string { return net.HardwareAddr(p.MAC[:]).String() }
		for _, b := range packettest.BadFrames(mac(c1), mac(c2)) {
			before, got := lab.Drops()[b.Drop], 0
			for range 3 {
				if err := c1.TrySend(b.Vnet, b.Frame); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range c2.Raw() {
				got++
				if err := packettest.Acceptable(f.Vnet(), f.Bytes()); err != nil {
					t.Errorf("%s: forwarded, and %v", b.Name, err)
				}
			}
			if b.Drop == packet.DropNone {
				if got == 0 {
					t.Errorf("%s: not forwarded; drops %v", b.Name, lab.Drops())
				}
				continue
			}
			if n := lab.Drops()[b.Drop] - before; got != 0 || n < 3 {
				t.Errorf("%s: %d forwarded, %d dropped as %v; drops %v", b.Name, got, n, b.Drop, lab.Drops())
			}
		}
		f := packettest.UDP(c1.From(1), c2.To(1))
		c1.Send(f)
		c2.Expect(t, f)
	})
}
