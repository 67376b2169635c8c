package l2switch_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/cputime"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	l2switch "vswitch/switch"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var allVLANs = []api.VLANRange{{First: 1, Last: l2switch.MaxVLAN}}

// Snapshots answer as a plain list of ports does, after any changes.
func TestBridgeEqualsList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := l2switch.NewBridge(l2switch.Limits{})
		want := map[packet.PortID]l2switch.PortConf{}
		gen := b.Gen().Load()
		id := rapid.Custom(func(t *rapid.T) packet.PortID {
			return packet.MakePortID(uint16(rapid.IntRange(1, 6).Draw(t, "slot")), uint16(rapid.SampledFrom([]int{1, 2, 65535}).Draw(t, "generation")))
		})
		conf := rapid.Custom(func(t *rapid.T) l2switch.PortConf {
			return l2switch.PortConf{ID: id.Draw(t, "id"), Name: rapid.String().Draw(t, "name"), Member: drawMember(t), Isolated: rapid.Bool().Draw(t, "isolated")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				confs := rapid.SliceOfN(conf, 1, 4).Draw(t, "ports")
				b.SetPorts(confs)
				for _, c := range confs {
					want[c.ID] = c
				}
			},
			"remove": func(t *rapid.T) {
				id := id.Draw(t, "id")
				b.RemovePort(id)
				delete(want, id)
			},
			"": func(t *rapid.T) {
				if now := b.Gen().Load(); now < gen {
					t.Fatal("generation went back")
				}
				checkSnapshot(t, b.Snapshot(), want)
			},
		})
	})
}

func checkSnapshot(t *rapid.T, s *l2switch.Snapshot, want map[packet.PortID]l2switch.PortConf) {
	if len(s.Ports()) != len(want) {
		t.Fatalf("%d ports, want %d", len(s.Ports()), len(want))
	}
	for id, c := range want {
		got := s.Port(id)
		if got == nil || *got != c {
			t.Fatalf("port %d is %+v, want %+v", id, got, c)
		}
		for id2, c2 := range want {
			if s.Isolated(id, id2) != (c.Isolated && c2.Isolated) {
				t.Fatalf("isolation of %d and %d is wrong", id, id2)
			}
		}
	}
	vlan := rapid.SampledFrom([]uint16{0, 1, 2, 50, 100, 4094, 4095}).Draw(t, "vlan")
	isolated := rapid.Bool().Draw(t, "isolated ingress")
	set := s.Flood(vlan, isolated)
	if set != s.Flood(vlan, isolated) && vlan <= l2switch.MaxVLAN {
		t.Fatal("a second flood set for the same snapshot")
	}
	members := map[packet.PortID]flow.TagOp{}
	for i, m := range set.Members {
		if i > 0 && set.Members[i-1].Tag == flow.Tagged && m.Tag == flow.Untagged {
			t.Fatal("a tagged member before an untagged one")
		}
		members[m.Port] = m.Tag
	}
	wantMembers := map[packet.PortID]flow.TagOp{}
	for id, c := range want {
		if tag, ok := c.Member.Egress(vlan); ok && (!isolated || !c.Isolated) {
			wantMembers[id] = tag
		}
	}
	if diff := cmp.Diff(wantMembers, members); diff != "" || len(set.Members) != len(members) || set.VLAN != vlan {
		t.Fatalf("flood of VLAN %d (-want +got):\n%s", vlan, diff)
	}
}

// A decision made beside a change of configuration is either about the new configuration or under an old generation.
func TestBridgePublishesBeforeItBumps(t *testing.T) {
	b := l2switch.NewBridge(l2switch.Limits{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// The n-th change makes the generation n and the MTU n.
				gen := b.Gen().Load()
				if c := b.Snapshot().Port(1); gen > 0 && uint64(c.MTU) < gen {
					t.Errorf("under generation %d the configuration is still number %d", gen, c.MTU)
					return
				}
			}
		})
	}
	for n := 1; n <= 20000; n++ {
		b.SetPort(l2switch.PortConf{ID: 1, MTU: n})
	}
	close(done)
	wg.Wait()
}

func TestBridgeFloodConcurrently(t *testing.T) {
	b := l2switch.NewBridge(l2switch.Limits{})
	b.SetPort(l2switch.PortConf{ID: 1, Member: mustMember(0, allVLANs, native(0))})
	s := b.Snapshot()
	var sets [4][]*flow.FloodSet
	var wg sync.WaitGroup
	for i := range sets {
		wg.Go(func() {
			for vlan := range uint16(l2switch.MaxVLAN + 1) {
				sets[i] = append(sets[i], s.Flood(vlan, vlan%2 == 0))
			}
		})
	}
	wg.Wait()
	for i := range sets {
		if !slices.Equal(sets[0], sets[i]) {
			t.Fatal("two workers got different sets")
		}
	}
}

// A port removed while a worker decides by the old configuration leaves nothing behind.
func TestBridgeRemovePortForgets(t *testing.T) {
	b := l2switch.NewBridge(l2switch.Limits{})
	b.SetPorts([]l2switch.PortConf{{ID: 1}, {ID: 2}})
	cell, version, _, _ := b.FDB().Learn(0, mac(1), 1, 0)
	if err := b.FDB().AddStatic(0, mac(2), 1); err != nil {
		t.Fatal(err)
	}
	b.RemovePort(1)
	if _, _, what, _ := b.FDB().Learn(0, mac(1), 1, 0); what != l2switch.RefusedGone {
		t.Errorf("learning on a removed port: %v", what)
	}
	if cell.Version() == version || b.FDB().Len() != 0 || b.Snapshot().Port(1) != nil {
		t.Error("the removed port left something behind")
	}
}

func TestBridgeSetPortForgetsVLANs(t *testing.T) {
	b := l2switch.NewBridge(l2switch.Limits{})
	b.SetPort(l2switch.PortConf{ID: 1, Member: mustMember(0, allVLANs, nil)})
	for vlan := uint16(1); vlan <= 10; vlan++ {
		b.FDB().Learn(vlan, mac(1), 1, 0)
	}
	b.SetPort(l2switch.PortConf{ID: 1, Member: mustMember(0, []api.VLANRange{{First: 4, Last: 6}}, nil)})
	if n := b.FDB().PerPort(1); n != 3 {
		t.Errorf("%d entries are left, want those of 3 VLANs", n)
	}
	b.SetPort(l2switch.PortConf{ID: 1, Member: mustMember(0, allVLANs, nil), MACLimit: 2})
	if n := b.FDB().PerPort(1); n != 2 {
		t.Errorf("%d entries are left, want the port's limit", n)
	}
}

// A thousand ports one by one, half of them trunks of all VLANs, with floods in between.
func TestBridgeThousandPorts(t *testing.T) {
	b := l2switch.NewBridge(l2switch.Limits{})
	before := heap()
	start := cputime.Used(t)
	for i := range 1000 {
		c := l2switch.PortConf{ID: packet.MakePortID(uint16(i), 1), Name: fmt.Sprint("p", i)}
		if i%2 == 0 {
			c.Member = mustMember(0, allVLANs, native(0))
		}
		b.SetPort(c)
		b.Snapshot().Flood(0, false)
		b.Snapshot().Flood(7, false)
	}
	took := cputime.Used(t) - start
	t.Logf("1000 ports set in %v", took)
	if took > 2*time.Second { // some 30 ms; the slack is for the race detector and busy machines
		t.Errorf("setting 1000 ports took %v", took)
	}
	for vlan := range uint16(l2switch.MaxVLAN + 1) {
		if n := len(b.Snapshot().Flood(vlan, false).Members); n != 500 && vlan != 0 || n != 1000 && vlan == 0 {
			t.Fatalf("flood of VLAN %d reaches %d", vlan, n)
		}
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("1000 ports and the floods of all VLANs take %d bytes", grown)
	}
	if b.Snapshot().Port(packet.MakePortID(999, 1)) == nil {
		t.Error("last port is missing")
	}
}

func TestReservedGroup(t *testing.T) {
	for _, c := range []struct {
		mac  [6]byte
		want bool
	}{
		{[6]byte{0x01, 0x80, 0xc2, 0, 0, 0x00}, true},
		{[6]byte{0x01, 0x80, 0xc2, 0, 0, 0x0f}, true},
		{[6]byte{0x01, 0x80, 0xc2, 0, 0, 0x10}, false},
		{[6]byte{0x01, 0x80, 0xc2, 0, 1, 0x00}, false},
		{[6]byte{0x00, 0x80, 0xc2, 0, 0, 0x00}, false},
		{[6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
	} {
		if got := l2switch.ReservedGroup(c.mac); got != c.want {
			t.Errorf("%x: %v", c.mac, got)
		}
	}
}

func BenchmarkBridgeSetPort(b *testing.B) {
	br := l2switch.NewBridge(l2switch.Limits{})
	confs := make([]l2switch.PortConf, 1000)
	for i := range confs {
		confs[i].ID = packet.PortID(i + 1)
	}
	br.SetPorts(confs)
	for i := range b.N {
		br.SetPort(confs[i%1000])
	}
}

func BenchmarkSnapshotPort(b *testing.B) {
	br := l2switch.NewBridge(l2switch.Limits{})
	for i := range 1000 {
		br.SetPort(l2switch.PortConf{ID: packet.PortID(i + 1)})
	}
	s := br.Snapshot()
	for i := range b.N {
		if s.Port(packet.PortID(1+i*7919%1000)) == nil {
			b.Fatal("missing")
		}
	}
}
