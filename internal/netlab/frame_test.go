package netlab_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/acl"
	"vswitch/internal/datapath"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/internal/port"
	"vswitch/nat"
	"vswitch/router"
	l2switch "vswitch/switch"
)

// null is a port that costs nothing but the copy that read(2) would make: it sends the same frames round and round, as many
// as it is given leave to, and what is written to it is gone.
type null struct {
	name    string
	fd      int
	frames  []*packet.Frame
	next    int
	left    int
	vary    bool   // each frame is of a flow of its own
	flows   uint32 // or of one of so many, in no order
	flow    uint32
	written int
	batch   int // frames of one turn
}

func (n *null) Name() string          { return n.name }
func (n *null) FD() int               { return n.fd }
func (n *null) Close() error          { return nil }
func (n *null) Offload() port.Offload { return port.OffloadAll }

func (n *null) Read(f *packet.Frame) error {
	if n.left == 0 {
		return port.ErrAgain
	}
	n.left--
	g := n.frames[n.next]
	if n.next++; n.next == len(n.frames) {
		n.next = 0
	}
	f.SetRead(copy(f.Space(), g.WithVnet()))
	if n.vary {
		n.flow++
		binary.BigEndian.PutUint32(f.Bytes()[34:], n.flow) // both ports
	}
	if n.flows > 0 {
		n.flow++
		binary.BigEndian.PutUint32(f.Bytes()[34:], 1024<<16+uint32(uint64(n.flow)*2654435761%uint64(n.flows)))
	}
	return nil
}

func (n *null) Write(*packet.Frame) error { n.written++; return nil }

// path is the whole frame path between null ports: pipeline, table, executor, coalescer.
type path struct {
	d     *datapath.Datapath
	line  *pipeline.Pipeline
	net   *pipeline.Network
	other *pipeline.Network // behind the router, see route
	in    *null
	outs  []*null
	ids   []packet.PortID // of all, the ingress first
}

const (
	macIn  = "02:00:00:00:00:01"
	macOut = "02:00:00:00:00:02"

	macGateway = "0a:00:00:00:00:01"
)

// route moves the first egress to a network of its own behind a router, which knows that 10.2.0.2 is there.
func (p *path) route(t testing.TB) {
	r, out := router.New("main"), p.ids[1]
	other := &pipeline.Network{Name: "m", Bridge: l2switch.NewBridge(l2switch.Limits{})}
	p.other = other
	for i, n := range []*pipeline.Network{p.net, other} {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2 * i), 0, 254}), 24)
		n.SetGateway(r, &router.Interface{MAC: [6]byte{0: 0x0a, 5: byte(i + 1)}, MTU: 1500, Prefixes: []netip.Prefix{prefix}})
	}
	p.net.Bridge.RemovePort(out)
	other.Bridge.SetPort(l2switch.PortConf{ID: out, Name: "p1", MTU: 1500})
	p.line.Bind(out, other)
	mac, to := [6]byte{2, 0, 0, 0, 0, 2}, netip.AddrFrom4([4]byte{10, 2, 0, 2})
	if err := other.Bridge.FDB().AddStatic(0, mac, out); err != nil {
		t.Fatal(err)
	}
	r.Neighbors().Want(other.Gateway().If, to, out, p.d.Now())
	r.Neighbors().Hear(other.Gateway().If, router.Saying{Addr: to, MAC: mac, Answer: true, Override: true}, p.d.Now())
}

// rule gives the network 10,000 rules in each direction that allow what is not there, and one that does what is said of the rest.
func (p *path) rule(t testing.TB, action string) {
	c := acl.Config{Network: "n"}
	for i := range 2 * 10001 {
		direction := []string{"in", "out"}[i%2]
		r := acl.Rule{ID: fmt.Sprint("r", i), On: "n", Direction: direction, Action: "allow", Proto: "udp", Dst: fmt.Sprintf("10.7.%d.%d", i/512, i/2%256), DstPorts: "53"}
		if i >= 2*10000 {
			r = acl.Rule{ID: r.ID, On: "n", Direction: direction, Action: action}
		}
		c.Rules = append(c.Rules, r)
	}
	f := acl.NewFilter(p.net.Bridge.Renew)
	if err := f.Set(c, unnamed{}, 0); err != nil {
		t.Fatal(err)
	}
	p.net.SetRules(&pipeline.Rules{Filter: f, Zone: 9, Network: 1, Conns: nat.NewTable(nat.Limits{}, nat.Timeouts{})})
}

// unnamed is a world in which rules name nobody.
type unnamed struct{}

func (unnamed) Port(string) (p acl.Port, ok bool)                { return p, false }
func (unnamed) Network(string) (subnets []netip.Prefix, ok bool) { return nil, false }

// newPath makes ports that know each other; conf, unless nil, changes that of the ingress.
func newPath(t testing.TB, cfg datapath.Config, outs int, conf func(*l2switch.PortConf)) *path {
	line := pipeline.New()
	cfg.Workers, cfg.NoRest = 1, true
	d, err := datapath.New(cfg, line)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	net := &pipeline.Network{Name: "n", Bridge: l2switch.NewBridge(l2switch.Limits{})}
	p := &path{d: d, line: line, net: net}
	for i := range outs + 1 {
		fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) // readable for ever
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		n := &null{name: fmt.Sprint("p", i), fd: fd}
		id, err := d.Add(n, 1500)
		if err != nil {
			t.Fatal(err)
		}
		c := l2switch.PortConf{ID: id, Name: n.name, MTU: 1500}
		if i == 0 && conf != nil {
			conf(&c)
		}
		net.Bridge.SetPort(c)
		line.Bind(id, net)
		p.ids = append(p.ids, id)
		if i == 0 {
			p.in = n
			err = d.Start(id)
		} else {
			p.outs = append(p.outs, n)
			err = net.Bridge.FDB().AddStatic(0, [6]byte{2, 0, 0, 0, 0, byte(i + 1)}, id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// turn lets the worker handle n frames: a budget's worth or less, but for floods, of which each copy counts,
// and those that a meter refuses, which end the turn.
func (p *path) turn(t testing.TB, n int) {
	p.in.left = n
	for turns := 0; p.in.left != 0; turns++ {
		if turns > n {
			t.Fatalf("%d frames were not read", p.in.left)
		}
		if err := p.d.Turn(); err != nil {
			t.Fatal(err)
		}
	}
}

// way is one way of a frame through the switch.
type way struct {
	name  string
	cfg   datapath.Config
	outs  int
	vary  bool
	frame func(i int) *packet.Frame
	wrote int // for each 64 frames
	conf  func(*l2switch.PortConf)

	routed bool   // the egress is on another network of the router
	rules  string // an action of 10,000 rules in each direction, which say nothing of the frame but the last
}

func udp64(o ...packettest.Option) *packet.Frame {
	return packettest.UDP(append([]packettest.Option{packettest.From(macIn, "10.0.0.1", 1), packettest.To(macOut, "10.0.0.2", 2),
		packettest.Size(18), packettest.Partial()}, o...)...)
}

// udpRouted is udp64 to a station on another network.
func udpRouted(o ...packettest.Option) *packet.Frame {
	return udp64(append([]packettest.Option{packettest.To(macGateway, "10.2.0.2", 2)}, o...)...)
}

// storm gives the ingress a broadcast meter; guarded a guard that lets it send as 10.0.0.1.
func storm(rate int) func(*l2switch.PortConf) {
	return func(c *l2switch.PortConf) { c.Storm[flow.StormBroadcast] = flow.NewMeter(flow.StormBroadcast, rate) }
}

func guarded(c *l2switch.PortConf) {
	c.Guard = l2switch.NewGuard([6]byte{2, 0, 0, 0, 0, 1}, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, 1})})
}

var ways = []way{
	{name: "hit", cfg: datapath.Config{NoCoalesce: true}, outs: 1, frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "hit of 64 flows", cfg: datapath.Config{NoCoalesce: true}, outs: 1, wrote: 64,
		frame: func(i int) *packet.Frame { return udp64(packettest.From(macIn, "10.0.0.1", uint16(i))) }},
	{name: "miss", cfg: datapath.Config{NoCoalesce: true, MaxFlows: 1024}, outs: 1, vary: true, frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "no cache", cfg: datapath.Config{NoCoalesce: true, NoCache: true}, outs: 1, frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "coalesced UDP", outs: 1, frame: func(int) *packet.Frame { return udp64() }, wrote: 1},
	{name: "coalesced UDP of 8 flows", outs: 1, wrote: 8,
		frame: func(i int) *packet.Frame { return udp64(packettest.From(macIn, "10.0.0.1", uint16(i%8))) }},
	{name: "coalesced UDP, checksums verified", outs: 1, frame: func(int) *packet.Frame { return udp64(packettest.Complete()) }, wrote: 1},
	{name: "coalesced UDP of 1400", outs: 1, frame: func(int) *packet.Frame { return udp64(packettest.Size(1400)) }, wrote: 2},
	{name: "coalesced TCP of 1448", outs: 1, wrote: 2, frame: func(i int) *packet.Frame {
		return packettest.TCP(packettest.From(macIn, "10.0.0.1", 1), packettest.To(macOut, "10.0.0.2", 2), packettest.Timestamps(1, 1),
			packettest.Size(1448), packettest.Partial(), packettest.Seq(uint32(i*1448)))
	}},
	{name: "super-frame of 60000", outs: 1, wrote: 5, frame: func(int) *packet.Frame {
		return packettest.TCP(packettest.From(macIn, "10.0.0.1", 1), packettest.To(macOut, "10.0.0.2", 2), packettest.Size(60000), packettest.GSO(1448))
	}},
	{name: "flood to 4", outs: 4, wrote: 256, frame: func(int) *packet.Frame {
		return udp64(packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 2))
	}},
	{name: "unknown unicast to 4", outs: 4, wrote: 256, frame: func(int) *packet.Frame {
		return udp64(packettest.To("02:99:00:00:00:01", "10.0.0.99", 2))
	}},
	{name: "flood to 4 within its storm meter", outs: 4, wrote: 256, conf: storm(flow.MaxRate), frame: func(int) *packet.Frame {
		return udp64(packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 2))
	}},
	{name: "flood above its storm meter", outs: 4, conf: storm(1), frame: func(int) *packet.Frame {
		return udp64(packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 2))
	}},
	{name: "guarded hit", cfg: datapath.Config{NoCoalesce: true}, outs: 1, conf: guarded, frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "guarded miss", cfg: datapath.Config{NoCoalesce: true, MaxFlows: 1024}, outs: 1, vary: true, conf: guarded,
		frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "guarded ARP", cfg: datapath.Config{NoCoalesce: true}, outs: 1, conf: guarded, wrote: 64, frame: func(int) *packet.Frame {
		return packettest.ARPReply(packettest.From(macIn, "10.0.0.1", 1), packettest.To(macOut, "10.0.0.2", 2))
	}},
	{name: "routed hit", cfg: datapath.Config{NoCoalesce: true}, outs: 1, routed: true, frame: func(int) *packet.Frame { return udpRouted() }, wrote: 64},
	{name: "routed hit of 64 flows", cfg: datapath.Config{NoCoalesce: true}, outs: 1, routed: true, wrote: 64,
		frame: func(i int) *packet.Frame { return udpRouted(packettest.From(macIn, "10.0.0.1", uint16(i))) }},
	{name: "routed miss", cfg: datapath.Config{NoCoalesce: true, MaxFlows: 1024}, outs: 1, vary: true, routed: true,
		frame: func(int) *packet.Frame { return udpRouted() }, wrote: 64},
	{name: "routed, coalesced UDP", outs: 1, routed: true, frame: func(int) *packet.Frame { return udpRouted() }, wrote: 1},
	{name: "routed super-frame of 60000", outs: 1, routed: true, wrote: 5, frame: func(int) *packet.Frame {
		return packettest.TCP(packettest.From(macIn, "10.0.0.1", 1), packettest.To(macGateway, "10.2.0.2", 2), packettest.Size(60000), packettest.GSO(1448))
	}},
	{name: "hit with 10,000 rules", cfg: datapath.Config{NoCoalesce: true}, outs: 1, rules: "allow", frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "miss with 10,000 rules", cfg: datapath.Config{NoCoalesce: true, MaxFlows: 1024}, outs: 1, vary: true, rules: "allow",
		frame: func(int) *packet.Frame { return udp64() }, wrote: 64},
	{name: "drop by the last of 10,000 rules", outs: 1, rules: "deny", frame: func(int) *packet.Frame { return udp64() }},
	{name: "drop by the guard", outs: 1, conf: guarded, frame: func(int) *packet.Frame { return udp64(packettest.From(macIn, "10.0.0.9", 1)) }},
	{name: "drop by the pipeline", outs: 1, frame: func(int) *packet.Frame { return udp64(packettest.VLAN(9)) }},
	{name: "drop by the parser", outs: 1, frame: func(int) *packet.Frame {
		return packettest.Raw(0x0800, packettest.From(macIn, "10.0.0.1", 1), packettest.To(macOut, "10.0.0.2", 2), packettest.Size(30))
	}},
}

// batch is how many frames of the way one turn handles.
func (w *way) batch() int {
	if w.wrote > 0 && w.wrote < 64 && w.frame(0).Len() > 4000 {
		return w.wrote // the budget is in bytes, too
	}
	return 64
}

func (w *way) path(t testing.TB) *path {
	p := newPath(t, w.cfg, w.outs, w.conf)
	if w.routed {
		p.route(t)
	}
	if w.rules != "" {
		p.rule(t, w.rules)
	}
	for i := range 64 {
		p.in.frames = append(p.in.frames, w.frame(i))
	}
	p.in.vary, p.in.batch = w.vary, w.batch()
	for range 64 { // warm: tables and lists have their size
		p.turn(t, p.in.batch)
	}
	return p
}

func TestFramePathDoesNotAllocate(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			p := w.path(t)
			for _, o := range p.outs {
				o.written = 0
			}
			const runs = 50
			p.in.next = 0
			if n := testing.AllocsPerRun(runs, func() { p.turn(t, p.in.batch) }); n != 0 {
				t.Errorf("%v allocations in %d frames", n, p.in.batch)
			}
			written := 0
			for _, o := range p.outs {
				written += o.written
			}
			if written != (runs+1)*w.wrote {
				t.Errorf("%d frames written for each turn, want %d", written/(runs+1), w.wrote)
			}
		})
	}
}

// Nanoseconds for each frame, without the kernel's part.
func BenchmarkFrame(b *testing.B) {
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			p := w.path(b)
			b.ReportAllocs()
			b.ResetTimer()
			for n := b.N; n > 0; n -= p.in.batch {
				p.turn(b, min(n, p.in.batch))
			}
		})
	}
}

// A flood of a million new flows costs the table its cap and no more, no memory grows with it, and who was there before is served
// from the cache as before.
func TestMillionFlows(t *testing.T) {
	const most = 4096
	p := newPath(t, datapath.Config{NoCoalesce: true, MaxFlows: most}, 1, guarded) // each is decided for itself
	p.in.frames = []*packet.Frame{udp64()}
	flood := func(n int) {
		for p.in.vary = true; n > 0; n -= 64 {
			p.turn(t, 64)
		}
		p.in.vary = false
	}
	flood(2 * most)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	flood(1_000_000)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
	c := p.d.WorkerCounters()[0]
	if c.Flows > most || c.FlowMisses < 1_000_000 {
		t.Errorf("%d flows in a table for %d after %d misses", c.Flows, most, c.FlowMisses)
	}
	p.turn(t, 64) // an old flow, or one that has to be decided 16 times at most
	hits := p.d.WorkerCounters()[0].FlowHits
	for range 10 {
		p.turn(t, 64)
	}
	if got := p.d.WorkerCounters()[0].FlowHits - hits; got != 640 {
		t.Errorf("%d of 640 frames of a known flow were decided from the cache", got)
	}
}
