package netlab_test

import (
	"fmt"
	"net/netip"
	"testing"

	"vswitch/internal/datapath"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// BenchmarkMasqueraded is a frame of one of many masqueraded connections, in no order, by the cache: without the kernel's part, a read and a
// write, which are several times as long.
func BenchmarkMasqueraded(b *testing.B) {
	for _, n := range []int{1, 1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := masqueraded(b, n)
			b.ResetTimer()
			for n := b.N; n > 0; n -= 64 {
				p.turn(b, min(n, 64))
			}
			b.StopTimer()
			if c := p.d.WorkerCounters()[0]; c.FlowMisses > uint64(n)+1000 {
				b.Errorf("%d frames were decided", c.FlowMisses)
			}
		})
	}
}

// masqueraded is a path with n connections, which all are in the cache.
func masqueraded(t testing.TB, n int) *path {
	p := newPath(t, datapath.Config{NoCoalesce: true}, 1, nil)
	p.route(t)
	conns := p.masquerade(t, nat.Limits{Connections: 2 * n, PerNetwork: 2 * n})
	p.in.frames = []*packet.Frame{udpRouted()}
	p.in.flows = uint32(n)
	for left := 2 * n; left > 0; left -= 64 { // each once, and again by the cache
		p.turn(t, min(left, 64))
	}
	if conns.Len() != n {
		t.Fatalf("%d connections", conns.Len())
	}
	return p
}

// masquerade lets what goes to the other network have an address of its gateway.
func (p *path) masquerade(t testing.TB, limits nat.Limits) *nat.Table {
	conns := nat.NewTable(limits, nat.Timeouts{})
	outside := p.other
	for i, net := range []*pipeline.Network{p.net, outside} {
		x := &pipeline.NAT{Zone: 1, Network: uint32(i + 1), Conns: conns}
		if i == 0 {
			x.Masquerade = pipeline.MasqueradeOn
		} else {
			pool, err := conns.NewPool(netip.AddrFrom4([4]byte{10, 2, 0, 254}), 1024, 65535)
			if err != nil {
				t.Fatal(err)
			}
			x.Pools[0] = pool
		}
		net.SetNAT(x)
	}
	return conns
}
