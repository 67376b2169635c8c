package tap_test

import (
	"math/rand/v2"
	"testing"

	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
)

// TestKernelTakesWhatParseLetsThrough: of a million ways to spoil a frame, those that Parse finds nothing wrong with are taken by
// the kernel at a TAP and at a veth, vnet header and all. What it refused would be lost as egress_refused, which tells nobody
// what was wrong.
func TestKernelTakesWhatParseLetsThrough(t *testing.T) {
	private := linktest.Private(t)
	ns := linktest.Namespace(t)
	pair, _ := linktest.Veth(t, private, ns)
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "mtu", "9000") // into which the kernel counts all tags but one
	for _, p := range []port.Port{linktest.TAP(t, private, linktest.Namespace(t)), pair} {
		r := rand.New(rand.NewPCG(5, 5))
		f := newFrame()
		taken, gso := 0, 0
		for range 20000 {
			vnet, frame := packettest.Hostile(r, "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff")
			f.Reset()
			f.Load(vnet, frame)
			if f.Parse() != packet.DropNone || f.L3Size > 1500 {
				continue
			}
			if r.IntN(4) == 0 {
				f.PushVLAN(10)
			}
			if err := p.Write(f); err != nil {
				t.Fatalf("%T: %v\nvnet %x -> %x\n%x", p, err, vnet, f.Vnet(), f.Bytes()[:min(f.Len(), 200)])
			}
			taken++
			if f.Flags&packet.FlagGSO != 0 {
				gso++
			}
		}
		if taken < 1000 || gso < 100 {
			t.Errorf("%T was given %d frames, %d of them super-frames: this proves little", p, taken, gso)
		}
	}
}
