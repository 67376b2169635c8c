package netlab_test

import (
	"testing"

	"vswitch/internal/acl"
	"vswitch/internal/datapath"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// A frame that is routed and masqueraded under rules that follow connections allocates nothing once its decision is cached.
func TestTranslatedFramePathDoesNotAllocate(t *testing.T) {
	tcp := func(o ...packettest.Option) *packet.Frame {
		return packettest.TCP(append(o, packettest.From(macIn, "10.0.0.1", 1), packettest.To(macGateway, "10.2.0.2", 2))...)
	}
	for _, c := range []struct {
		name  string
		cfg   datapath.Config
		batch int // frames of a turn
		wrote int // for each turn
		frame func(i int) *packet.Frame
	}{
		{"UDP", datapath.Config{NoCoalesce: true}, 64, 64, func(i int) *packet.Frame { return udpRouted(packettest.From(macIn, "10.0.0.1", uint16(i%8))) }},
		{"UDP without partial checksums", datapath.Config{NoCoalesce: true}, 64, 64, func(int) *packet.Frame { return udpRouted(packettest.Complete()) }},
		{"coalesced UDP", datapath.Config{}, 64, 1, func(int) *packet.Frame { return udpRouted() }},
		{"echo requests", datapath.Config{NoCoalesce: true}, 64, 64, func(int) *packet.Frame {
			return packettest.ICMPEcho(packettest.From(macIn, "10.0.0.1", 0), packettest.To(macGateway, "10.2.0.2", 0), packettest.Echo(9, 1))
		}},
		{"TCP", datapath.Config{NoCoalesce: true}, 64, 64, func(int) *packet.Frame { return tcp(packettest.Size(100)) }},
		{"TCP super-frames", datapath.Config{}, 5, 5, func(int) *packet.Frame { return tcp(packettest.Size(60000), packettest.GSO(1448)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPath(t, c.cfg, 1, nil)
			p.route(t)
			conns := p.masquerade(t, nat.Limits{})
			f := acl.NewFilter(p.net.Bridge.Renew)
			if err := f.Set(acl.Config{Network: "n", Rules: []acl.Rule{{ID: "r1", On: "n", Direction: "out", Action: "deny"}}}, unnamed{}, 0); err != nil {
				t.Fatal(err)
			}
			p.net.SetRules(&pipeline.Rules{Filter: f, Zone: 9, Network: 1, Conns: conns})
			for i := range 64 {
				p.in.frames = append(p.in.frames, c.frame(i))
			}
			for range 20 {
				p.turn(t, c.batch)
				conns.List(&nat.Filter{State: nat.New}, p.d.Now(), func(e *nat.Entry) bool { // is answered
					conns.Track(&e.Reply, nat.Data, p.d.Now())
					return true
				})
			}
			before := p.d.WorkerCounters()[0]
			p.outs[0].written = 0
			const runs = 50
			if n := testing.AllocsPerRun(runs, func() { p.turn(t, c.batch) }); n != 0 {
				t.Errorf("%v allocations in %d frames", n, c.batch)
			}
			if n := p.outs[0].written; n != (runs+1)*c.wrote {
				t.Errorf("%d frames were written, want %d", n, (runs+1)*c.wrote)
			}
			if n := p.d.WorkerCounters()[0].FlowMisses - before.FlowMisses; n != 0 {
				t.Errorf("%d frames were decided", n)
			}
		})
	}
}
