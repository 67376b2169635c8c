package netlab_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

// twins are two labs with the same networks and ports, one with the cache and one without. All that is done to one is done
// to the other, and what comes out must be the same: a cached decision is right for this frame, now.
type twins struct {
	t    netlab.TB
	r    source
	labs [2]*netlab.Lab
	log  []string // what was done so far
	next int      // for names of ports
	hits uint64

	recent []sending // frames that come again
	note   func(port string, got []*packet.Frame)

	ruled   map[string][]string // the rules of the network that was given some last
	before  [2]map[string]int   // what rules of these ids had counted before: those of direction out count floods otherwise
	counted int                 // packets by rules, again and again
}

// sending is a frame and the port that sends it.
type sending struct {
	name string
	f    *packet.Frame
}

// source is where choices come from: a seed, or a fuzzer's bytes.
type source interface{ IntN(n int) int }

const maxTwinPorts = 6

func newTwins(t netlab.TB, r source) *twins {
	w := &twins{t: t, r: r, labs: [2]*netlab.Lab{
		netlab.Open(t, netlab.Stepped(), netlab.NoCoalesce()),
		netlab.Open(t, netlab.Stepped(), netlab.NoCoalesce(), netlab.NoCache()),
	}}
	for _, l := range w.labs {
		l.FDB("n").SetLimits(l2switch.Limits{Age: 5 * time.Second, MACs: 10, PerPort: 4})
	}
	for range 4 {
		w.addPort()
	}
	return w
}

func (w *twins) close() {
	for _, c := range w.labs[0].Path().WorkerCounters() {
		w.hits += c.FlowHits
	}
	for _, l := range w.labs {
		l.Close()
	}
}

func (w *twins) both(what string, do func(l *netlab.Lab)) {
	w.log = append(w.log, what)
	for _, l := range w.labs {
		if l != nil {
			do(l)
		}
	}
}

// pick draws one of the ports that both labs have.
func (w *twins) pick() (name string) {
	ports := w.labs[0].Ports()
	return ports[w.r.IntN(len(ports))].Name
}

func (w *twins) addPort() {
	w.next++
	name, network, options := fmt.Sprint("p", w.next), "n", w.membership()
	if w.r.IntN(8) == 0 {
		network = "other"
	}
	w.both("add port "+name+" to "+network, func(l *netlab.Lab) { l.Port(network, name, options...) })
}

func (w *twins) membership() []netlab.PortOption {
	switch w.r.IntN(6) {
	case 0:
		return []netlab.PortOption{netlab.VLAN(10)}
	case 1:
		return []netlab.PortOption{netlab.VLAN(0), netlab.Trunk(10, 12)}
	case 2:
		return []netlab.PortOption{netlab.VLAN(0), netlab.Trunk(10, 12), netlab.Native(0)}
	case 3:
		return []netlab.PortOption{netlab.VLAN(0), netlab.Trunk(11, 12), netlab.Native(10)}
	}
	return []netlab.PortOption{netlab.VLAN(0)}
}

// change changes the configuration.
func (w *twins) change() {
	n := len(w.labs[0].Ports())
	what := w.r.IntN(15)
	mac := [6]byte{2, 0, 0, 0, 1, byte(w.r.IntN(8))}
	vlan := []uint16{0, 10, 11}[w.r.IntN(3)]
	name := w.pick()
	switch {
	case what == 0 && n < maxTwinPorts:
		w.addPort()
	case what == 1 && n > 2:
		w.both("remove port "+name, func(l *netlab.Lab) { l.Find(name).Remove() })
	case what == 2:
		o := w.membership()
		w.both("other VLANs for "+name, func(l *netlab.Lab) { l.Find(name).Set(o...) })
	case what == 3:
		o := []netlab.PortOption{netlab.Isolated(), netlab.NotIsolated()}[w.r.IntN(2)]
		w.both("isolation of "+name, func(l *netlab.Lab) { l.Find(name).Set(o) })
	case what == 4:
		mtu := []int{300, 1000, 1500}[w.r.IntN(3)]
		w.both(fmt.Sprint("MTU ", mtu, " of "+name), func(l *netlab.Lab) { l.Find(name).Set(netlab.MTU(mtu)) })
	case what == 5:
		on := w.r.IntN(3) > 0
		w.both(fmt.Sprint("icc ", on), func(l *netlab.Lab) { l.ICC("n", on) })
	case what == 6:
		w.both(fmt.Sprintf("static %x in %d at %s", mac, vlan, name), func(l *netlab.Lab) {
			l.FDB("n").AddStatic(vlan, mac, l.ID(name)) // an error in both, or in none
		})
	case what == 7:
		w.both(fmt.Sprintf("delete %x in %d", mac, vlan), func(l *netlab.Lab) { l.FDB("n").DeleteEntry(vlan, mac) })
	case what == 8:
		w.both("flush "+name, func(l *netlab.Lab) { l.FDB("n").Flush(l.ID(name), true) })
	case what == 9:
		limit := w.r.IntN(4)
		w.both(fmt.Sprint("MAC limit ", limit, " of "+name), func(l *netlab.Lab) { l.Find(name).Set(netlab.MACLimit(limit)) })
	case what == 10:
		on := w.r.IntN(3) > 0
		o := map[bool]netlab.PortOption{true: netlab.Guard(), false: netlab.NoGuard()}[on]
		w.both(fmt.Sprint("guard ", on, " of "+name), func(l *netlab.Lab) { l.Find(name).Set(o) })
	case what > 13:
		w.rule("n", "p1", "p2", name)
	case what == 11:
		kind, rate := flow.StormKind(w.r.IntN(3)), []int{0, 1, 2, 3}[w.r.IntN(4)]
		w.both(fmt.Sprint("storm ", kind, rate, " of "+name), func(l *netlab.Lab) { l.Find(name).Set(netlab.Storm(kind, rate)) })
	default:
		// Use is told to entries once a second: a clock that moves by whole seconds shows the same ages in both.
		d := time.Duration(1+w.r.IntN(4)) * time.Second
		w.both(fmt.Sprint("wait ", d), func(l *netlab.Lab) { l.Advance(d); l.Sweep() })
	}
}

// send draws who sends what: mostly the same as a moment ago, or the reply to it, else a frame of few addresses.
func (w *twins) send() sending {
	if n := len(w.recent); n > 0 && w.r.IntN(4) > 0 {
		if s := w.recent[w.r.IntN(n)]; w.has(s.name) {
			return s
		}
	}
	name := w.pick()
	s := sending{name, w.frame(name)}
	if p := w.labs[0].Find(name); p.Guarded() && w.r.IntN(8) > 0 {
		s.f = w.guardedFrame(p)
	}
	if w.recent = append(w.recent, s); len(w.recent) > 4 {
		w.recent = w.recent[1:]
	}
	return s
}

func (w *twins) has(name string) bool {
	for _, p := range w.labs[0].Ports() {
		if p.Name == name {
			return true
		}
	}
	return false
}

// frame draws a frame. Addresses mostly stay with a port.
func (w *twins) frame(name string) *packet.Frame {
	from := fmt.Sprintf("02:00:00:00:01:%02x", name[len(name)-1]%8)
	if w.r.IntN(6) == 0 {
		from = fmt.Sprintf("02:00:00:00:01:%02x", w.r.IntN(8))
	}
	to := w.pick()
	to = fmt.Sprintf("02:00:00:00:01:%02x", to[len(to)-1]%8)
	if w.r.IntN(40) == 0 {
		from = "03:00:00:00:00:01"
	}
	switch w.r.IntN(12) {
	case 0:
		to = "ff:ff:ff:ff:ff:ff"
	case 1:
		to = "01:00:5e:00:00:07"
	case 2:
		to = []string{"01:80:c2:00:00:01", "00:00:00:00:00:00"}[w.r.IntN(2)]
	}
	src, dst := w.endpoints()
	o := []packettest.Option{packettest.From(from, src.addr, src.port), packettest.To(to, dst.addr, dst.port)}
	if w.r.IntN(4) == 0 {
		o = append(o, packettest.VLAN([]uint16{0xa000, 0x200a, 11, 13}[w.r.IntN(4)]))
	}
	if w.r.IntN(12) == 0 {
		o = append(o, packettest.ServiceVLAN(10))
	}
	o = append(o, packettest.Size([]int{10, 10, 10, 500, 1200, 1473}[w.r.IntN(6)]))
	switch w.r.IntN(12) {
	case 0:
		return packettest.ARPReply(o...)
	case 1:
		return packettest.TCP(append(o, packettest.GSO([]int{200, 1400}[w.r.IntN(2)]), packettest.Size(4000))...)
	case 2:
		return packettest.ICMPEcho(o...)
	case 3:
		return packettest.TCP(append(o, packettest.Flags([]uint8{packet.TCPSyn, packet.TCPSyn | packet.TCPAck, packet.TCPAck, packet.TCPRst}[w.r.IntN(4)]))...)
	case 4:
		return packettest.UDP(append(o, packettest.Fragment(0, true))...)
	}
	return packettest.UDP(o...)
}

// step sends a frame into both labs, or changes both, and compares.
func (w *twins) step() {
	if w.r.IntN(4) == 0 {
		w.change()
		return
	}
	w.exchange(w.send(), 1+w.r.IntN(3))
}

// exchange sends a frame n times into both labs and compares.
func (w *twins) exchange(s sending, n int) {
	f, name := s.f, s.name
	g := f.Clone()
	if g.Parse() == packet.DropNone {
		w.log = append(w.log, fmt.Sprintf("%s sends %d x %x>%x %x, %d %v:%d>%v:%d, flags %x", name, n, g.Key.SrcMAC, g.Key.DstMAC, g.Key.VLAN,
			g.Key.Proto, g.Key.SrcAddr(), g.Key.SrcPort, g.Key.DstAddr(), g.Key.DstPort, g.Flags))
	}
	for _, l := range w.labs {
		for range n {
			l.Find(name).Send(f)
		}
	}
	w.compare()
}

func (w *twins) compare() {
	a, b := w.labs[0], w.labs[1]
	if b == nil {
		return // it is not compared with anything
	}
	a.Settle()
	b.Settle()
	q := b.Ports()
	for i, p := range a.Ports() {
		x, y := p.Raw(), q[i].Raw()
		same := len(x) == len(y)
		for j := 0; same && j < len(x); j++ {
			same = bytes.Equal(x[j].WithVnet(), y[j].WithVnet())
		}
		if !same {
			w.fail("port %s got %d frames with the cache, %d without, or not the same:\n%s%s", p.Name, len(x), len(y), dump(x), dump(y))
		}
		if w.note != nil {
			w.note(p.Name, x)
		}
	}
	x, y := a.Drops(), b.Drops()
	for r := range packet.DropReasons {
		if x[r] != y[r] {
			w.fail("%d packets dropped as %s with the cache, %d without", x[r], r, y[r])
		}
	}
	if len(w.log)%8 == 0 {
		w.compareHits()
	}
	m, n := a.FDB("n").Entries(), b.FDB("n").Entries()
	for i := range max(len(m), len(n)) {
		if i >= len(m) || i >= len(n) || m[i] != n[i] {
			w.fail("the FDBs differ:\n%+v\n%+v", m, n)
		}
	}
}

// dump writes frames as hex, for people.
func dump(frames []*packet.Frame) (s string) {
	for _, f := range frames {
		b := f.WithVnet()
		s += fmt.Sprintf("  %x (%d bytes)\n", b[:min(len(b), 100)], len(b))
	}
	return s + "\n"
}

func (w *twins) fail(format string, args ...any) {
	w.t.Helper()
	for _, s := range w.log[max(0, len(w.log)-40):] {
		format = "%s\n" + format
		args = append([]any{s}, args...)
	}
	w.t.Fatalf(format, args...)
}

// With the cache and without it, the same frames come out and the same are dropped, whatever changes between frames.
func TestCacheChangesNothing(t *testing.T) {
	seeds, steps := uint64(60), 500
	if testing.Short() {
		seeds = 30
	}
	hits, counted := uint64(0), 0
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newTwins(t, rand.New(rand.NewPCG(seed, 1)))
			defer func() { w.close(); hits += w.hits; counted += w.counted }()
			for range steps {
				w.step()
			}
		})
	}
	if hits < seeds*uint64(steps)/20 || counted < int(seeds) {
		t.Errorf("%d cache hits in %d steps, %d packets by rules: this proves nothing", hits, seeds*uint64(steps), counted)
	}
}

// fuzzed draws from a fuzzer's bytes; when they have run out it says zero, and done.
type fuzzed struct {
	bytes []byte
	done  bool
}

func (f *fuzzed) IntN(n int) int {
	if len(f.bytes) == 0 {
		f.done = true
		return 0
	}
	v := int(f.bytes[0]) % n
	f.bytes = f.bytes[1:]
	return v
}

func FuzzCacheChangesNothing(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzed{bytes: b[:min(len(b), 4000)]}
		w := newTwins(t, s)
		defer w.close()
		for !s.done {
			w.step()
		}
	})
}
