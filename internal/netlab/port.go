package netlab

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/flow"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/internal/port"
	"vswitch/internal/port/mem"
	l2switch "vswitch/switch"
)

// Port is a port of the switch, and the container at its other end.
type Port struct {
	Name     string
	MAC      [6]byte // 02:00:00:00:xx:yy by the order in which the lab's ports were made
	IP4, IP6 netip.Addr

	lab  *Lab
	net  *pipeline.Network
	mem  *mem.Port
	id   packet.PortID
	conf portConf
	sent atomic.Int64
	in   []segment // what it got and was not taken yet
	dead bool      // what it sends is not read any more
	gone bool      // removed
}

// segment is a frame as the container's applications get it.
type segment []byte

// portConf is what the options of a port say.
type portConf struct {
	access   uint16
	trunk    []api.VLANRange
	native   *uint16
	isolated bool
	mtu      int
	macLimit int
	guard    bool
	storm    flow.Meters
	offload  port.Offload
	mem      []mem.Option
}

// PortOption changes how a port is.
type PortOption func(*portConf)

// VLAN makes it an access port of the VLAN.
func VLAN(vid uint16) PortOption {
	return func(c *portConf) { c.access, c.trunk, c.native = vid, nil, nil }
}

// Trunk makes it a trunk of the VLANs from first to last; given more than once it carries all of them.
func Trunk(first, last uint16) PortOption {
	return func(c *portConf) {
		c.access, c.trunk = 0, append(c.trunk[:len(c.trunk):len(c.trunk)], api.VLANRange{First: first, Last: last})
	}
}

// Native sets the VLAN of a trunk's untagged frames.
func Native(vid uint16) PortOption { return func(c *portConf) { c.native = &vid } }

// Isolated keeps it from the network's other isolated ports.
func Isolated() PortOption { return func(c *portConf) { c.isolated = true } }

// NotIsolated undoes Isolated.
func NotIsolated() PortOption { return func(c *portConf) { c.isolated = false } }

// MTU sets it; 1500 unless set.
func MTU(n int) PortOption { return func(c *portConf) { c.mtu = n } }

// MACLimit sets how many addresses are learned on it.
func MACLimit(n int) PortOption { return func(c *portConf) { c.macLimit = n } }

// Guard pins it to its own addresses, by a source guard.
func Guard() PortOption { return func(c *portConf) { c.guard = true } }

// NoGuard undoes Guard.
func NoGuard() PortOption { return func(c *portConf) { c.guard = false } }

// Storm gives it a new storm meter of this many packets per second; 0: none.
func Storm(kind flow.StormKind, rate int) PortOption {
	return func(c *portConf) {
		c.storm[kind] = nil
		if rate > 0 {
			c.storm[kind] = flow.NewMeter(kind, rate)
		}
	}
}

// Meter gives it this storm meter, for it alone.
func Meter(m *flow.Meter) PortOption { return func(c *portConf) { c.storm[m.Kind] = m } }

// Offload says what its device does with frames; all unless set. Only when the port is made.
func Offload(o port.Offload) PortOption { return func(c *portConf) { c.offload = o } }

// Queue sets how many frames it holds in each direction. Only when the port is made.
func Queue(n int) PortOption { return func(c *portConf) { c.mem = append(c.mem, mem.Queue(n)) } }

// Lending makes the port lend its memory to the switch. Only when the port is made.
func Lending() PortOption { return func(c *portConf) { c.mem = append(c.mem, mem.Lending()) } }

// Port adds a port to a network.
func (l *Lab) Port(network, name string, options ...PortOption) *Port {
	l.t.Helper()
	n := len(l.ports) + 1
	p := &Port{
		Name: name, MAC: [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)},
		IP4: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}),
		IP6: netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n >> 8), 15: byte(n)}),
		lab: l, net: l.Network(network), conf: portConf{mtu: 1500, offload: port.OffloadAll},
	}
	for _, o := range options {
		o(&p.conf)
	}
	var err error
	if p.mem, err = mem.New(name, p.conf.mem...); err != nil {
		l.t.Fatalf("netlab: %v", err)
	}
	l.ports = append(l.ports, p)
	p.mem.SetOffload(p.conf.offload)
	if p.id, err = l.path.Add(p.mem, p.conf.mtu); err != nil {
		l.t.Fatalf("netlab: %v", err)
	}
	p.configure()
	l.line.Bind(p.id, p.net)
	if err := l.path.Start(p.id); err != nil {
		l.t.Fatalf("netlab: %v", err)
	}
	return p
}

func (p *Port) configure() {
	p.lab.t.Helper()
	c := &p.conf
	member, err := l2switch.NewMembership(c.access, c.trunk, c.native)
	if err != nil {
		p.lab.t.Fatalf("netlab: port %s: %v", p.Name, err)
	}
	p.lab.path.SetMTU(p.id, c.mtu)
	var guard *l2switch.Guard
	if c.guard {
		guard = l2switch.NewGuard(p.MAC, []netip.Addr{p.IP4, p.IP6})
	}
	p.net.Bridge.SetPort(l2switch.PortConf{
		ID: p.id, Name: p.Name, Member: member, Isolated: c.isolated, MTU: c.mtu, MACLimit: c.macLimit, Guard: guard, Storm: c.storm,
	})
}

// Set changes the port's configuration.
func (p *Port) Set(options ...PortOption) {
	p.lab.t.Helper()
	for _, o := range options {
		o(&p.conf)
	}
	p.configure()
}

// Remove takes the port out of the switch, as the daemon does.
func (p *Port) Remove() {
	p.lab.t.Helper()
	p.lab.line.Unbind(p.id)
	var lost *flow.Made
	frames := p.lab.line.Abandon(p.id)
	for _, r := range p.lab.routers {
		frames = append(frames, r.Neighbors().Abandon(p.id)...)
	}
	for _, f := range frames {
		lost = &flow.Made{Next: lost, Frame: f, Drop: packet.DropPortDown}
	}
	p.lab.path.Do(lost)
	p.lab.path.Quiesce()
	p.net.Bridge.RemovePort(p.id)
	c, err := p.lab.path.Remove(p.id)
	if err != nil {
		p.lab.t.Fatalf("netlab: %v", err)
	}
	if p.lab.conns != nil {
		p.lab.conns.RemovePort(p.id)
	}
	p.dead, p.gone = true, true
	for r, n := range c.Drops {
		p.lab.removed.Drops[r] += n
	}
	p.mem.Close()
}

// Kill lets the port's device die under the switch.
func (p *Port) Kill() {
	p.lab.Settle()
	p.dead = true
	p.mem.Kill()
}

// SetDown takes the container's interface down or up.
func (p *Port) SetDown(down bool) { p.mem.SetDown(down) }

// ID returns the port's number in the switch.
func (p *Port) ID() packet.PortID { return p.id }

// From makes the port the sender of a frame that packettest builds, by IPv4.
func (p *Port) From(srcPort uint16) packettest.Option {
	return packettest.From(p.mac(), p.IP4.String(), srcPort)
}

// To makes the port the receiver of a frame that packettest builds, by IPv4.
func (p *Port) To(dstPort uint16) packettest.Option {
	return packettest.To(p.mac(), p.IP4.String(), dstPort)
}

// From6 and To6 are the same by IPv6.
func (p *Port) From6(srcPort uint16) packettest.Option {
	return packettest.From(p.mac(), p.IP6.String(), srcPort)
}

// To6 is From6's twin.
func (p *Port) To6(dstPort uint16) packettest.Option {
	return packettest.To(p.mac(), p.IP6.String(), dstPort)
}

func (p *Port) mac() string { return net.HardwareAddr(p.MAC[:]).String() }

// Send lets the container send frames. It returns at once, and is safe for concurrent use.
func (p *Port) Send(frames ...*packet.Frame) {
	p.lab.t.Helper()
	for _, f := range frames {
		if err := p.TrySend(f.Vnet(), f.Bytes()); err != nil {
			p.lab.t.Fatalf("netlab: port %s: send: %v", p.Name, err)
		}
	}
}

// TrySend is Send for what may fail, such as a full queue.
func (p *Port) TrySend(vnet, frame []byte) error {
	p.sent.Add(1)
	err := p.mem.Inject(vnet, frame)
	if err != nil {
		p.sent.Add(-1)
	}
	return err
}

// Take returns what the container got since the last call: super-frames cut and checksums made, as its kernel would.
func (p *Port) Take() [][]byte {
	p.lab.t.Helper()
	p.lab.Settle()
	p.collect()
	var all [][]byte
	for _, s := range p.in {
		all = append(all, s)
	}
	p.in = nil
	return all
}

func (p *Port) collect() {
	for _, f := range p.mem.Sent() {
		for _, b := range packettest.Resegment(f.Vnet(), f.Bytes()) {
			p.in = append(p.in, b)
		}
	}
}

// Raw returns the frames that the switch wrote to the port since the last call, super-frames and all.
func (p *Port) Raw() []*packet.Frame {
	p.lab.t.Helper()
	p.lab.Settle()
	return p.mem.Sent()
}

// Expect fails the test unless these frames are the next that the container got.
func (p *Port) Expect(t TB, frames ...*packet.Frame) {
	t.Helper()
	p.lab.Settle()
	p.collect()
	for _, f := range frames {
		for _, want := range packettest.Resegment(f.Vnet(), f.Bytes()) {
			if len(p.in) == 0 {
				t.Fatalf("port %s got nothing, want %s; dropped in all: %v", p.Name, text(want), p.lab.Drops())
			}
			if got := p.in[0]; !bytes.Equal(got, want) {
				t.Fatalf("port %s got  %s\nwant %s", p.Name, text(got), text(want))
			}
			p.in = p.in[1:]
		}
	}
}

// ExpectNothing fails the test if the container got a frame that was not taken yet.
func (p *Port) ExpectNothing(t TB) {
	t.Helper()
	p.lab.Settle()
	p.expectNothing(t)
}

func (p *Port) expectNothing(t TB) {
	t.Helper()
	if p.collect(); len(p.in) > 0 {
		t.Errorf("port %s got %d frames, want none; first: %s", p.Name, len(p.in), text(p.in[0]))
		p.in = nil
	}
}

// Guarded tells whether it has a source guard.
func (p *Port) Guarded() bool { return p.conf.guard }

// Counters returns the port's counters.
func (p *Port) Counters() datapath.Counters {
	p.lab.t.Helper()
	p.lab.Settle()
	return p.lab.path.PortCounters()[p.id]
}

// text shows a frame to people: its flow, when it has one, and its bytes.
func text(b []byte) string {
	f := packet.NewFrame(make([]byte, packet.BufSize))
	f.Load(nil, b)
	if f.Parse() != packet.DropNone {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%s (%d bytes) %x", flowspec.MatchText(&f.Key, false, func(packet.PortID) string { return "" }), len(b), b[:min(len(b), 96)])
}

// SetOffload changes what the port's device takes, without the switch being told.
func (p *Port) SetOffload(o port.Offload) { p.mem.SetOffload(o) }
