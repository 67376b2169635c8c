package netlab_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/router"
)

// hostileRouted is a lab in which c1 sends whatever comes to its mind to its gateway. Where it all goes to 10.0.0.2 and fd00::2, that is
// a port on another network, with this MTU, or, when mtu is 0, the gateway itself.
type hostileRouted struct {
	t    netlab.TB
	lab  *netlab.Lab
	c1   *netlab.Port
	to   *netlab.Port // nil: the gateway itself
	sent int
}

func newHostileRouted(t netlab.TB, mtu int) *hostileRouted {
	h := &hostileRouted{t: t, lab: netlab.Open(t, netlab.Stepped())}
	h.c1 = h.lab.Port("n", "c1", netlab.MTU(65535))
	if mtu == 0 {
		h.lab.Gateway("n", 65535, "10.0.0.2/30", "fd00::2/126")
		return h
	}
	h.to = h.lab.Port("m", "to", netlab.MTU(65535))
	h.lab.Gateway("n", 65535, "10.0.0.0/31", "fd00::/127")
	out := h.lab.Gateway("m", mtu, "10.0.0.3/31", "fd00::3/127")
	if err := h.lab.FDB("m").AddStatic(0, h.to.MAC, h.to.ID()); err != nil {
		t.Fatalf("%v", err)
	}
	for _, a := range []string{"10.0.0.2", "fd00::2"} {
		n, addr := h.lab.Router("main").Neighbors(), netip.MustParseAddr(a)
		n.Want(out, addr, h.to.ID(), h.lab.Now())
		n.Hear(out, router.Saying{Addr: addr, MAC: h.to.MAC, Answer: true, Override: true}, h.lab.Now())
	}
	return h
}

// round sends up to 8 frames in one turn and looks at what comes out, and back.
func (h *hostileRouted) round(r packettest.Source) {
	for range 1 + r.IntN(8) {
		vnet, frame := packettest.Hostile(r, "02:00:00:00:00:01", "0a:00:00:00:00:01")
		for range 1 + r.IntN(2) {
			if err := h.c1.TrySend(vnet, frame); err != nil {
				h.t.Fatalf("send: %v", err)
			}
			h.sent++
		}
	}
	h.lab.Settle()
	if h.to != nil {
		for _, f := range h.to.Raw() {
			if err := packettest.Acceptable(f.Vnet(), f.Bytes()); err != nil {
				h.t.Fatalf("a bad frame was routed: %v\nvnet %x\n%x", err, f.Vnet(), f.Bytes()[:min(f.Len(), 200)])
			}
		}
	}
	for _, f := range h.c1.Raw() {
		if err := packettest.Finished(f.Vnet(), f.Bytes()); err != nil {
			h.t.Fatalf("the gateway sent a bad frame: %v\n%x", err, f.Bytes()[:min(f.Len(), 200)])
		}
		if src := f.Bytes()[6:12]; [6]byte(src) != h.c1.Net().Gateway().If.MAC {
			h.t.Fatalf("a frame came back to its sender: %x", f.Bytes()[:min(f.Len(), 200)])
		}
	}
}

// end checks that every frame was read.
func (h *hostileRouted) end() {
	if c := h.c1.Counters(); int(c.RxFrames) != h.sent {
		h.t.Errorf("%d frames sent, %d read", h.sent, c.RxFrames)
	}
	h.lab.Close()
}

// Whatever a container sends to its gateway, what is routed and what it gets back is well-formed.
func TestHostileRouted(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	for _, mtu := range []int{0, 1400, 65535} {
		t.Run(fmt.Sprint("MTU ", mtu), func(t *testing.T) {
			h := newHostileRouted(t, mtu)
			defer h.end()
			r := rand.New(rand.NewPCG(5, uint64(mtu)))
			for range rounds {
				h.round(r)
				h.lab.Advance(1e8) // the limit of errors lets some pass again
			}
			drops := h.lab.Drops()
			if h.to != nil && (h.to.Counters().TxPackets == 0 || mtu == 1400 && drops[packet.DropFragNeeded] == 0) || drops[packet.DropSourceRoute] == 0 {
				t.Errorf("this proves nothing: %d packets routed, dropped %v", h.sent, drops)
			}
			if h.c1.Counters().TxPackets == 0 {
				t.Error("nothing was answered: this proves nothing")
			}
		})
	}
}

func FuzzHostileRouted(f *testing.F) {
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 5))
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzed{bytes: b[:min(len(b), 2000)]}
		h := newHostileRouted(t, []int{0, 1400, 65535}[s.IntN(3)])
		defer h.end()
		for !s.done {
			h.round(s)
		}
	})
}
