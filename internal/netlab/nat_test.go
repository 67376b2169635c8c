package netlab_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// translated is routed, with a masqueraded towards b, and a1's TCP port 80 published at 8080.
func translated(t testing.TB, o ...netlab.Option) (lab *netlab.Lab, a1, a2, b1 *netlab.Port) {
	t.Helper()
	lab, a1, a2, b1 = routed(t, o...)
	meet(t, a1, b1)
	meet(t, b1, a1)
	meet(t, b1, a2)
	lab.NAT("a", pipeline.MasqueradeOn)
	lab.NAT("b", pipeline.MasqueradeOff)
	if err := lab.Published().Add(&nat.Publication{
		Owner: "a1", Zone: 1, Proto: packet.ProtoTCP, Low: 8080, High: 8080, ToPort: 80, To: []netip.Addr{a1.IP4, a1.IP6},
		From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}); err != nil {
		t.Fatal(err)
	}
	return lab, a1, a2, b1
}

// leg sends frames from one port and expects them at the other, from and to what is told, one hop further.
type leg struct {
	from, to  *netlab.Port
	src, dst  string // as sent
	src2      string // as received
	dst2      string
	port, at  uint16 // source and destination port, as sent
	port2     uint16
	at2       uint16
	identical uint16 // of echoes: the identifier, as sent and received
	echo2     uint16
}

func (p leg) sent(o ...Option) []Option {
	return append(o, From(macOf(p.from.MAC), p.src, p.port), To(macOf(p.from.Net().Gateway().If.MAC), p.dst, p.at), Echo(p.identical, 1))
}

func (p leg) received(o ...Option) []Option {
	return append(o, From(macOf(p.to.Net().Gateway().If.MAC), p.src2, p.port2), To(macOf(p.to.MAC), p.dst2, p.at2), Echo(p.echo2, 1), TTL(63))
}

func (p leg) check(t *testing.T, build func(...Option) *packet.Frame, o ...Option) {
	t.Helper()
	p.from.Send(build(p.sent(o...)...))
	p.to.Expect(t, build(p.received(o...)...))
}

// natWays are masqueraded ones of a1 to b1, there and back, IPv4 and IPv6. A source port in the pool's range stays.
func natWays(a1, b1 *netlab.Port) [][2]leg {
	var all [][2]leg
	for _, c := range [][3]string{{"10.1.0.2", "10.2.0.2", "10.2.0.1"}, {"fd01::2", "fd02::2", "fd02::1"}} {
		in, out, gw := c[0], c[1], c[2]
		all = append(all, [2]leg{
			{from: a1, to: b1, src: in, dst: out, src2: gw, dst2: out, port: 61007, at: 9, port2: 61007, at2: 9, identical: 61007, echo2: 61007},
			{from: b1, to: a1, src: out, dst: gw, src2: out, dst2: in, port: 9, at: 61007, port2: 9, at2: 61007, identical: 61007, echo2: 61007},
		})
	}
	return all
}

// Masqueraded connections work both ways, super-frames whole, checksums right, later frames by the cache; nobody else gets in.
func TestMasquerade(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	for _, way := range natWays(a1, b1) {
		there, back := way[0], way[1]
		there.check(t, ICMPEcho)
		back.check(t, ICMPEchoReply)
		there.check(t, TCP, Flags(packet.TCPSyn))
		back.check(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
		there.check(t, TCP)
		back.check(t, TCP)
		before := lab.Path().WorkerCounters()[0].FlowHits
		for range 3 {
			there.check(t, UDP, Size(1200))
			back.check(t, UDP, Size(12), NoChecksum())
			there.check(t, TCP, GSO(1200), Size(20000))
			back.check(t, TCP, Partial(), Size(100))
		}
		if hits := lab.Path().WorkerCounters()[0].FlowHits - before; hits != 10 {
			t.Errorf("%d of 12 frames hit the cache, want 10: all but the first of each UDP flow", hits)
		}
		stranger := back
		stranger.port = 10
		b1.Send(UDP(stranger.sent()...))
		a1.ExpectNothing(t)
		b1.ExpectNothing(t) // nor an answer (RFC 5382 REQ-4)
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNATFiltered: 2})
	lab.ExpectNothing(t)
}

// A reset is passed on and ends nothing; a connection that both sides closed is opened again by a SYN.
func TestMasqueradeResets(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	for _, way := range natWays(a1, b1) {
		there, back := way[0], way[1]
		for range 2 {
			there.check(t, TCP, Flags(packet.TCPSyn))
			back.check(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
			there.check(t, TCP)
			back.check(t, TCP)
			back.check(t, TCP, Flags(packet.TCPRst), Seq(0xdeadbeef)) // whoever forged it
			expectState(t, lab, there, nat.Aborted, nat.DefaultAborted)
			there.check(t, TCP, Size(10))
			expectState(t, lab, there, nat.Established, nat.DefaultTCPEstablished)
			back.check(t, TCP, Size(10))
			there.check(t, TCP, Flags(packet.TCPFin|packet.TCPAck))
			back.check(t, TCP, Flags(packet.TCPFin|packet.TCPAck))
			there.check(t, TCP)
		}
	}
	if n := lab.Connections().Len(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	lab.Connections().RemovePort(a1.ID())
	way := natWays(a1, b1)[0]
	b1.Send(TCP(way[1].sent(Flags(packet.TCPAck))...)) // the flow is in the cache, and its connection is no more
	a1.ExpectNothing(t)
	lab.Discard()
}

// expectState fails unless the connection of the leg's frames is in the state, and lives for as long if nothing comes.
func expectState(t *testing.T, lab *netlab.Lab, way leg, state nat.State, expires time.Duration) {
	t.Helper()
	n := 0
	f := &nat.Filter{SrcPort: way.port, DstPort: way.at, Src: netip.PrefixFrom(netip.MustParseAddr(way.src), netip.MustParseAddr(way.src).BitLen())}
	lab.Connections().List(f, lab.Now(), func(e *nat.Entry) bool {
		if n++; e.State != state || e.Expires != expires {
			t.Errorf("%v is %v for %v, want %v for %v", &e.Orig, e.State, e.Expires, state, expires)
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d connections of %s:%d", n, way.src, way.port)
	}
}

// An ICMP error about a masqueraded datagram comes to who sent that, and quotes it as it was sent.
func TestMasqueradeErrors(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	for i, way := range natWays(a1, b1) {
		there, back := way[0], way[1]
		kind := [2]uint8{3, 1}[i]
		original := UDP(there.sent()...)
		quoted := bytes.Clone(original.Bytes()[14:])
		a1.Send(original)
		got := b1.Take()
		if len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
		b1.Send(ICMP(kind, append(back.sent(), Payload(got[0][14:]))...))
		errors := a1.Take()
		if len(errors) != 1 {
			t.Fatalf("%d errors arrived", len(errors))
		}
		// The hop took one from the TTL of what b1 quotes.
		quote := errors[0][len(errors[0])-len(quoted):]
		f := packet.NewFrame(make([]byte, packet.BufSize))
		f.Load(nil, errors[0])
		if f.Parse() != packet.DropNone || !f.VerifyTransport() || f.Key.DstAddr() != netip.MustParseAddr(there.src) {
			t.Errorf("error %x", errors[0])
		}
		ttl, from := 8, 8+2+2
		if i == 1 {
			ttl, from = 7, 8
		}
		quote[ttl]++
		if i == 0 {
			copy(quote[10:12], quoted[10:12])
		}
		if !bytes.Equal(quote[:ttl+1], quoted[:ttl+1]) || !bytes.Equal(quote[from:], quoted[from:]) {
			t.Errorf("quoted\n%x\nand sent was\n%x", quote, quoted)
		}
		b1.Send(ICMP(kind, append(back.sent(), Payload(got[0][14:40]))...)) // cut off: it is for the gateway itself, which has no use for it
		a1.ExpectNothing(t)
	}
	if n := lab.Connections().Len(); n != 2 {
		t.Errorf("%d connections", n)
	}
	lab.Discard()
}

// Who connects to a masqueraded network directly is answered by who it spoke to: answers are not taken for connections.
func TestIntoMasqueraded(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	for _, c := range [][2]string{{"10.2.0.2", "10.1.0.2"}, {"fd02::2", "fd01::2"}} {
		there := leg{from: b1, to: a1, src: c[0], dst: c[1], src2: c[0], dst2: c[1], port: 5000, at: 80, port2: 5000, at2: 80, identical: 3, echo2: 3}
		back := leg{from: a1, to: b1, src: c[1], dst: c[0], src2: c[1], dst2: c[0], port: 80, at: 5000, port2: 80, at2: 5000, identical: 3, echo2: 3}
		handshake(t, there, back)
		there.check(t, UDP)
		back.check(t, UDP)
		there.check(t, ICMPEcho)
		back.check(t, ICMPEchoReply)
		there.check(t, UDP, Size(2))
		quoted := UDP(there.received(Size(2))...).Bytes()[14:]
		kind := map[string]uint8{"10.2.0.2": 3, "fd02::2": 1}[c[0]]
		back.check(t, func(o ...Option) *packet.Frame { return ICMP(kind, append(o, Payload(quoted))...) })
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{})
}

// A published port is reached by any address of the router, with the client's own address; from its own network by a hairpin.
func TestPublishedPort(t *testing.T) {
	lab, a1, a2, b1 := translated(t)
	for _, c := range [][4]string{{"10.1.0.2", "10.2.0.2", "10.2.0.1", "10.1.0.1"}, {"fd01::2", "fd02::2", "fd02::1", "fd01::1"}} {
		server, client, gwb, gwa := c[0], c[1], c[2], c[3]
		for _, at := range []string{gwb, gwa} {
			port := uint16(5000)
			if at == gwa {
				port++
			}
			there := leg{from: b1, to: a1, src: client, dst: at, src2: client, dst2: server, port: port, at: 8080, port2: port, at2: 80}
			back := leg{from: a1, to: b1, src: server, dst: client, src2: at, dst2: client, port: 80, at: port, port2: 8080, at2: port}
			handshake(t, there, back)
		}
		// a2 to a1 by the gateway's address: a1 sees the gateway, so that its answers come back there.
		in := map[bool]string{true: a2.IP4.String(), false: a2.IP6.String()}[server == "10.1.0.2"]
		there := leg{from: a2, to: a1, src: in, dst: gwa, src2: gwa, dst2: server, port: 61005, at: 8080, port2: 61005, at2: 80}
		back := leg{from: a1, to: a2, src: server, dst: gwa, src2: gwa, dst2: in, port: 80, at: 61005, port2: 8080, at2: 61005}
		handshake(t, there, back)
		// And a1 to itself.
		there.from, there.src, back.to, back.dst2 = a1, server, a1, server
		there.port, there.port2, back.at, back.at2 = 61006, 61006, 61006, 61006
		handshake(t, there, back)
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{})
	lab.ExpectNothing(t)
}

func handshake(t *testing.T, there, back leg) {
	t.Helper()
	there.check(t, TCP, Flags(packet.TCPSyn))
	back.check(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
	for range 2 {
		there.check(t, TCP, Size(100))
		back.check(t, TCP, GSO(1000), Size(10000))
	}
}

// Who may not is refused by name, and unpublishing ends nothing.
func TestPublishedPortRefuses(t *testing.T) {
	for _, c := range [][3]string{{"10.2.0.2", "10.2.0.1", "10.1.0.2"}, {"fd02::2", "fd02::1", "fd01::2"}} {
		lab, a1, _, b1 := translated(t)
		p := lab.Published().All()[0]
		there := leg{from: b1, to: a1, src: c[0], dst: c[1], src2: c[0], dst2: c[2], port: 5000, at: 8080, port2: 5000, at2: 80}
		there.check(t, TCP, Flags(packet.TCPSyn))
		lab.Published().Remove(p)
		there.check(t, TCP)
		other := there
		other.port = 5001
		b1.Send(TCP(other.sent(Flags(packet.TCPSyn))...))
		a1.ExpectNothing(t)
		strict := *p
		strict.From = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		if err := lab.Published().Add(&strict); err != nil {
			t.Fatal(err)
		}
		b1.Send(TCP(other.sent(Flags(packet.TCPSyn))...))
		a1.ExpectNothing(t)
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNoService: 1, packet.DropPublishFrom: 1})
		lab.Discard()
	}
}

// A frame that is not forwarded moves no connection on: a reset from where its source does not belong, and one without a connection.
func TestForgedReset(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	for _, way := range natWays(a1, b1) {
		handshake(t, way[0], way[1])
		forged := leg{from: b1, src: way[0].src, dst: way[0].dst, port: way[0].port, at: way[0].at}
		b1.Send(TCP(forged.sent(Flags(packet.TCPRst))...))
		other := way[0]
		other.port++
		a1.Send(TCP(other.sent(Flags(packet.TCPRst))...))
		b1.ExpectNothing(t)
	}
	lab.Connections().List(&nat.Filter{}, lab.Now(), func(e *nat.Entry) bool {
		if e.State != nat.Established {
			t.Errorf("%v is %v", &e.Orig, e.State)
		}
		return true
	})
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropReversePath: 2, packet.DropConnInvalid: 2})
}

// What there is no room for, and no port, is dropped by name; what was there before goes on.
func TestConnectionLimits(t *testing.T) {
	for family := range 2 {
		lab, a1, _, b1 := routed(t)
		meet(t, a1, b1)
		meet(t, b1, a1)
		lab.LimitConnections(nat.Limits{PerNetwork: 1001})
		lab.NAT("a", pipeline.MasqueradeOn)
		lab.NAT("b", pipeline.MasqueradeOff)
		way := natWays(a1, b1)[family]
		there, back := way[0], way[1]
		for port := uint16(61000); port < 62000; port++ { // all of the pool
			there.port, there.port2, back.at, back.at2 = port, port, port, port
			there.check(t, TCP, Flags(packet.TCPSyn))
			back.check(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
			there.check(t, TCP)
		}
		other := there
		other.port = 5000
		a1.Send(TCP(other.sent(Flags(packet.TCPSyn))...))
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNATPorts: 1})
		elsewhere := there // towards another port of b1 they are free
		elsewhere.at, elsewhere.at2 = 10, 10
		elsewhere.check(t, UDP)
		elsewhere.port, elsewhere.port2 = 61001, 61001
		elsewhere.check(t, UDP) // takes the place of the one before, which was not answered
		answer := back
		answer.port, answer.at, answer.port2, answer.at2 = 10, 61001, 10, 61001
		answer.check(t, UDP)
		elsewhere.port = 61002
		a1.Send(UDP(elsewhere.sent()...))
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNATPorts: 1, packet.DropConnFull: 1})
		there.check(t, TCP, Size(10))
		back.check(t, TCP, Size(10))
		lab.ExpectNothing(t)
	}
}

// What is too long for the way out is translated, then cut into fragments; a connection in use by the cache alone does not expire.
func TestMasqueradeFragmentsAndAges(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	there := natWays(a1, b1)[0][0]
	a1.Send(UDP(there.sent(Size(1460), ID(7, false))...))
	got := b1.Take()
	if len(got) != 2 || netip.AddrFrom4([4]byte(got[0][26:30])) != netip.MustParseAddr("10.2.0.1") || !bytes.Equal(got[0][26:34], got[1][26:34]) {
		t.Fatalf("%d fragments: %x", len(got), got)
	}
	lab.ExpectDrops(t, nil)
	for range 5 {
		lab.Advance(100 * time.Second)
		lab.Connections().Sweep(1000, lab.Now())
		there.check(t, UDP)
	}
	lab.Advance(121 * time.Second)
	lab.Connections().Sweep(1000, lab.Now())
	if n := lab.Connections().Len(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
