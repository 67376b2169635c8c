package netlab

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/datapath"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
	l2switch "vswitch/switch"
)

// TB is what a test gives: a *testing.T or *rapid.T.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Lab is a switch with its workers, networks and ports. A test uses it from one goroutine, but for Port.Send.
type Lab struct {
	t         TB
	path      *datapath.Datapath
	line      *pipeline.Pipeline
	clock     atomic.Int64
	networks  map[string]*pipeline.Network
	order     []*pipeline.Network
	routers   map[string]*router.Router
	conns     *nat.Table
	published *nat.Published
	pools     map[netip.Addr]*nat.Pool
	wired     map[string]map[netip.Addr]*nat.Pool // by network, see Wire
	rules     map[string]*rules                   // by network
	ports     []*Port
	removed   datapath.Counters // of ports that are no more
	settled   int64             // frames that were sent when all of them had been handled
	stepped   bool
	stop      func()
}

// config is what the options of a lab say.
type config struct {
	datapath.Config
	stepped bool
}

// Option changes how the switch works.
type Option func(*config)

// Stepped lets the workers take their turns on the test's own thread, when it asks for what came out: fast, and the same
// each time. Without it they run as they do in the daemon.
func Stepped() Option { return func(c *config) { c.stepped = true } }

// Workers sets their number; 1 unless set.
func Workers(n int) Option { return func(c *config) { c.Workers = n } }

// NoCache decides each frame anew.
func NoCache() Option { return func(c *config) { c.NoCache = true } }

// NoCoalesce writes each frame as it came.
func NoCoalesce() Option { return func(c *config) { c.NoCoalesce = true } }

// MaxFlows limits each worker's flow table.
func MaxFlows(n int) Option { return func(c *config) { c.MaxFlows = n } }

// New makes a switch without networks, whose workers run until the test ends.
func New(t testing.TB, options ...Option) *Lab {
	t.Helper()
	l := Open(t, options...)
	t.Cleanup(l.Close)
	return l
}

// Open is New for tests that close the lab themselves.
func Open(t TB, options ...Option) *Lab {
	t.Helper()
	l := &Lab{t: t, line: pipeline.New(), networks: map[string]*pipeline.Network{}, routers: map[string]*router.Router{}, rules: map[string]*rules{},
		wired: map[string]map[netip.Addr]*nat.Pool{}}
	l.clock.Store(int64(time.Hour)) // not zero, which means never
	c := config{Config: datapath.Config{Workers: 1, MaxSpin: -1, NoRest: true, Clock: l.clock.Load}}
	for _, o := range options {
		o(&c)
	}
	var err error
	if l.path, err = datapath.New(c.Config, l.line); err != nil {
		t.Fatalf("netlab: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if l.stepped = c.stepped; !l.stepped {
		wg.Go(func() {
			if err := l.path.Run(ctx); err != nil {
				t.Errorf("netlab: %v", err)
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		l.path.Close()
		for _, p := range l.ports {
			p.mem.Close()
		}
	})
	return l
}

// Close stops the workers. It is idempotent.
func (l *Lab) Close() { l.stop() }

// Network returns the network of that name; at first use it is made, with the default limits.
func (l *Lab) Network(name string) *pipeline.Network {
	n := l.networks[name]
	if n == nil {
		n = &pipeline.Network{Name: name, Bridge: l2switch.NewBridge(l2switch.Limits{})}
		l.networks[name] = n
		l.order = append(l.order, n)
	}
	return n
}

// Bridge returns the network's bridge.
func (l *Lab) Bridge(network string) *l2switch.Bridge { return l.Network(network).Bridge }

// FDB returns the network's FDB.
func (l *Lab) FDB(network string) *l2switch.FDB { return l.Bridge(network).FDB() }

// Ports returns all ports in the order in which they were made, without those that were removed.
func (l *Lab) Ports() (ports []*Port) {
	for _, p := range l.ports {
		if !p.gone {
			ports = append(ports, p)
		}
	}
	return ports
}

// Find returns the port of that name.
func (l *Lab) Find(name string) *Port {
	l.t.Helper()
	for _, p := range l.Ports() {
		if p.Name == name {
			return p
		}
	}
	l.t.Fatalf("netlab: no port %s", name)
	return nil
}

// ID returns the number of the port of that name.
func (l *Lab) ID(name string) packet.PortID {
	l.t.Helper()
	return l.Find(name).id
}

// Path returns the data plane, for its counters and flows.
func (l *Lab) Path() *datapath.Datapath { return l.path }

// Now returns the lab's clock in nanoseconds.
func (l *Lab) Now() int64 { return l.clock.Load() }

// Advance moves the clock, after all that was sent so far was handled. What expires stays until Sweep.
func (l *Lab) Advance(d time.Duration) {
	l.Settle()
	l.clock.Add(int64(d))
}

// Sweep ages the tables, as the daemon does every so often, and returns how many entries went.
func (l *Lab) Sweep() (n int) {
	for _, net := range l.order {
		n += net.Bridge.FDB().Sweep(l.Now())
	}
	return n
}

// Settle returns when the workers have handled all frames that were sent so far. Others may go on sending.
func (l *Lab) Settle() {
	l.t.Helper()
	sent, sum := make([]int64, len(l.ports)), int64(0)
	for i, p := range l.ports {
		sent[i] = p.sent.Load()
		sum += sent[i]
	}
	if sum == l.settled {
		return
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		left := l.left(sent)
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("netlab: %d frames were not read", left)
		}
	}
	l.settled = sum
}

// left returns how many of the frames that each port sent are not handled, after every worker has passed the end of a turn.
func (l *Lab) left(sent []int64) (left int64) {
	l.t.Helper()
	if l.stepped {
		if err := l.path.Turn(); err != nil {
			l.t.Fatalf("netlab: %v", err)
		}
	}
	counters := l.path.PortCounters()
	for i, p := range l.ports {
		if !p.dead {
			left += max(0, sent[i]-int64(counters[p.id].RxFrames))
		}
	}
	return left
}

// Drops returns how many packets were dropped and why, over all ports that are or were.
func (l *Lab) Drops() map[packet.DropReason]int {
	l.t.Helper()
	l.Settle()
	sum := l.removed.Drops
	for _, c := range l.path.PortCounters() {
		for r, n := range c.Drops {
			sum[r] += n
		}
	}
	drops := map[packet.DropReason]int{}
	for r, n := range sum {
		if n > 0 {
			drops[packet.DropReason(r)] = int(n)
		}
	}
	return drops
}

// ExpectDrops fails the test unless exactly these packets were dropped since the lab was made.
func (l *Lab) ExpectDrops(t TB, want map[packet.DropReason]int) {
	t.Helper()
	got := l.Drops()
	for r := range packet.DropReasons {
		if got[r] != want[r] {
			t.Errorf("%d packets were dropped as %s, want %d", got[r], r, want[r])
		}
	}
}

// ExpectNothing fails the test if any port got a frame that was not taken yet.
func (l *Lab) ExpectNothing(t TB) {
	t.Helper()
	l.Settle()
	for _, p := range l.ports {
		p.expectNothing(t)
	}
}

// Discard forgets what the ports got so far.
func (l *Lab) Discard() {
	l.t.Helper()
	l.Settle()
	for _, p := range l.ports {
		p.mem.Discard()
		p.in = nil
	}
}

// Trace tells what would happen to a frame, given in the words of `vsctl trace`.
func (l *Lab) Trace(t TB, flow string) (*flowspec.Spec, *pipeline.Trace) {
	t.Helper()
	l.Settle()
	s, err := flowspec.Parse(flow)
	if err != nil {
		t.Fatalf("%v", err)
	}
	in := l.Find(s.InPort)
	if s.SrcMAC == nil {
		s.SrcMAC = in.MAC[:]
	}
	gw := in.net.Gateway()
	for _, p := range l.Ports() {
		if s.DstMAC == nil && (p.IP4 == s.DstIP || p.IP6 == s.DstIP) && (gw == nil || p.net == in.net) {
			s.DstMAC = p.MAC[:]
		}
	}
	if s.DstMAC == nil && gw != nil {
		s.DstMAC = gw.If.MAC[:]
	}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	if err := s.Build(f, in.id); err != nil {
		t.Fatalf("%v", err)
	}
	return s, l.line.Trace(f, l.Now(), nil)
}

// Fragments returns how many datagrams in fragments are known, and how many bytes of them wait.
func (l *Lab) Fragments() (datagrams, bytes int) { return l.line.Fragments() }

// TraceFrame tells what would happen to a frame, which was parsed.
func (l *Lab) TraceFrame(f *packet.Frame) *pipeline.Trace { return l.line.Trace(f, l.Now(), nil) }
