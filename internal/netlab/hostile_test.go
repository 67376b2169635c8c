package netlab_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
)

// hostile is a lab in which c1 sends whatever comes to its mind to ports of all kinds:
//
//	c1, trunk and untagged --- net n --- full     all offloads, any MTU
//	                             |  `--- plain    no offload at all
//	                             |------ vlan10   access, checksums only
//	                             `------ trunk    all offloads, MTU 1500
type hostile struct {
	t     netlab.TB
	lab   *netlab.Lab
	c1    *netlab.Port
	ports []*netlab.Port
	sent  int
}

func newHostile(t netlab.TB) *hostile {
	h := &hostile{t: t, lab: netlab.Open(t, netlab.Stepped())}
	trunk := []netlab.PortOption{netlab.Trunk(10, 12), netlab.Native(0)}
	h.c1 = h.lab.Port("n", "c1", append(trunk, netlab.MTU(65535))...)
	h.ports = []*netlab.Port{
		h.lab.Port("n", "full", netlab.MTU(65535)),
		h.lab.Port("n", "plain", netlab.MTU(65535), netlab.Offload(0)),
		h.lab.Port("n", "vlan10", netlab.VLAN(10), netlab.Offload(port.OffloadCsum)),
		h.lab.Port("n", "trunk", trunk...),
	}
	for vlan, ports := range map[uint16][]*netlab.Port{0: {h.ports[0], h.ports[1], h.ports[3]}, 10: {h.ports[2], h.ports[3]}} {
		for _, p := range ports {
			if err := h.lab.FDB("n").AddStatic(vlan, p.MAC, p.ID()); err != nil {
				t.Fatalf("%v", err)
			}
		}
	}
	return h
}

// round sends up to 8 frames in one turn, some of them twice so that they may be merged, and looks at what comes out.
func (h *hostile) round(r packettest.Source) {
	from := "02:00:00:00:00:01"
	if r.IntN(16) == 0 {
		from = []string{"02:00:00:00:00:02", "00:00:00:00:00:00", "03:00:00:00:00:01"}[r.IntN(3)]
	}
	for range 1 + r.IntN(8) {
		to := fmt.Sprintf("02:00:00:00:00:%02x", 2+r.IntN(5))
		if r.IntN(8) == 0 {
			to = []string{"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "01:80:c2:00:00:0e"}[r.IntN(3)]
		}
		vnet, frame := packettest.Hostile(r, from, to)
		for range 1 + r.IntN(2) {
			if err := h.c1.TrySend(vnet, frame); err != nil {
				h.t.Fatalf("send: %v", err)
			}
			h.sent++
		}
	}
	h.lab.Settle()
	for _, p := range h.ports {
		for _, f := range p.Raw() {
			if err := packettest.Acceptable(f.Vnet(), f.Bytes()); err != nil {
				h.t.Fatalf("port %s was given a bad frame: %v\nvnet %x\n%x", p.Name, err, f.Vnet(), f.Bytes()[:min(f.Len(), 200)])
			}
		}
	}
	if len(h.c1.Raw()) != 0 {
		h.t.Fatalf("a frame came back to its sender")
	}
}

// end checks that every frame was read and went somewhere.
func (h *hostile) end() {
	c := h.c1.Counters()
	var out, lost uint64
	for _, p := range h.ports {
		out += p.Counters().TxPackets
	}
	for _, n := range h.lab.Drops() {
		lost += uint64(n)
	}
	if int(c.RxFrames) != h.sent || out+lost < c.RxPackets {
		h.t.Errorf("%d frames sent, %d read as %d packets; %d left, %d dropped", h.sent, c.RxFrames, c.RxPackets, out, lost)
	}
	h.lab.Close()
}

// Whatever a container sends, what the others get is true: no kernel is told to do what the frame does not allow.
func TestHostileFrames(t *testing.T) {
	rounds := 6000
	if testing.Short() {
		rounds = 1000
	}
	h := newHostile(t)
	r := rand.New(rand.NewPCG(3, 3))
	for range rounds {
		h.round(r)
	}
	for _, p := range h.ports {
		if c := p.Counters(); c.TxPackets == 0 {
			t.Errorf("port %s got nothing: this proves nothing of it", p.Name)
		}
	}
	if t.Logf("%v", h.lab.Drops()); len(h.lab.Drops()) < 13 {
		t.Errorf("only these reasons to drop: %v", h.lab.Drops())
	}
	h.end()
}

func FuzzHostileFrames(f *testing.F) {
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 4))
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzed{bytes: b[:min(len(b), 2000)]}
		h := newHostile(t)
		defer h.end()
		for !s.done {
			h.round(s)
		}
	})
}
