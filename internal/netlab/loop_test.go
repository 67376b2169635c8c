package netlab_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

// goRound joins the ports outside of the switch until nothing goes round any more, for at most so many rounds of a millisecond
// each, and returns what was told and how many rounds it took.
func goRound(lab *netlab.Lab, rounds int, ports ...*netlab.Port) (news []l2switch.LoopNews, n int) {
	for ; n < rounds; n++ {
		if lab.Join(ports...) == 0 {
			return news, n
		}
		lab.Advance(time.Millisecond)
		news = append(news, lab.Tend()...)
	}
	return news, n
}

// retries steps the clock until something is told.
func retries(lab *netlab.Lab, ports ...*netlab.Port) (news []l2switch.LoopNews, after time.Duration) {
	for ; len(news) == 0 && after < 5*time.Minute; after += 50 * time.Millisecond {
		lab.Advance(50 * time.Millisecond)
		news = lab.Tend()
		if len(ports) > 0 {
			lab.Join(ports...)
			news = append(news, lab.Tend()...)
		}
	}
	return news, after
}

func wantBlocked(t *testing.T, news []l2switch.LoopNews, port, peer *netlab.Port) {
	t.Helper()
	if len(news) != 1 || !news[0].Blocked || news[0].Port != port.ID() || news[0].Peer != peer.ID() {
		t.Fatalf("told %+v, want that %s is blocked because of %s", news, port.Name, peer.Name)
	}
}

// A container joins two of its ports: a broadcast of c1 goes round until the one that was added later is blocked. Then c1
// and c2 reach each other and the container, and nothing goes round. Without the bridge the port carries frames again.
func TestLoop(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, a, b := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "a"), lab.Port("n", "b")
		hello(lab, c1, c2, a)
		c1.Send(packettest.ARPRequest(c1.From(0), c2.To(0)))
		news, rounds := goRound(lab, 1000, a, b)
		wantBlocked(t, news, b, a)
		if rounds > 20 {
			t.Errorf("the storm lasted %d rounds", rounds)
		}
		lab.Discard()
		for range 3 {
			f, g := packettest.UDP(c1.From(1), c2.To(1)), packettest.UDP(a.From(1), c1.To(1))
			c1.Send(f)
			c2.Expect(t, f)
			a.Send(g)
			c1.Expect(t, g)
			b.Send(packettest.ARPRequest(b.From(0), c2.To(0)))
		}
		lab.ExpectNothing(t)
		if n := b.Counters().Drops[packet.DropPortBlocked]; n < 3 {
			t.Errorf("%d frames of the blocked port were dropped as such", n)
		}
		news, after := retries(lab)
		want := []l2switch.LoopNews{{Port: b.ID(), Peer: a.ID()}}
		if diff := cmp.Diff(want, news); diff != "" || after < 4*time.Second || after > 8*time.Second {
			t.Errorf("after %v (-want +told):\n%s", after, diff)
		}
		lab.Discard()
		f := packettest.UDP(b.From(1), c1.To(1))
		b.Send(f)
		c1.Expect(t, f)
	})
}

// While the loop is there, the blocked port is tried again less and less often, and nothing goes round meanwhile.
func TestLoopStays(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1, a, b := lab.Port("n", "c1"), lab.Port("n", "a"), lab.Port("n", "b")
	c1.Send(packettest.ARPRequest(c1.From(0), a.To(0)))
	news, _ := goRound(lab, 1000, a, b)
	wantBlocked(t, news, b, a)
	lab.Discard()
	if news, after := retries(lab, a, b); len(news) > 0 {
		t.Fatalf("told %+v after %v", news, after)
	}
	probes := a.Counters().Drops[packet.DropLoopProbe] + b.Counters().Drops[packet.DropLoopProbe]
	if probes < 8 || probes > 40 { // 5, 10, 20, 40, 60, 60, 60 s, up to three probes from both ends
		t.Errorf("%d probes came back in 5 minutes", probes)
	}
	news, _ = retries(lab)
	if len(news) != 1 || news[0].Blocked {
		t.Errorf("told %+v, want that the loop is gone", news)
	}
}

// A container reflects what it gets.
func TestLoopOfOnePort(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, a := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "a")
		hello(lab, c1, c2)
		c1.Send(packettest.ARPRequest(c1.From(0), c2.To(0)))
		news, _ := goRound(lab, 1000, a)
		wantBlocked(t, news, a, a)
		lab.Discard()
		f := packettest.ARPRequest(c1.From(0), c2.To(0))
		c1.Send(f)
		c2.Expect(t, f)
		lab.ExpectNothing(t)
	})
}

// Three ports joined multiply frames in each round, until all queues are full. Two of them are blocked.
func TestLoopOfThreePorts(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
	var in []*netlab.Port
	for _, name := range []string{"a", "b", "c"} {
		in = append(in, lab.Port("n", name, netlab.Queue(50)))
	}
	hello(lab, c1, c2)
	c1.Send(packettest.ARPRequest(c1.From(0), c2.To(0)))
	news, rounds := goRound(lab, 900, in...)
	blocked := map[packet.PortID]bool{}
	for _, n := range news {
		blocked[n.Port] = n.Blocked
	}
	if diff := cmp.Diff(map[packet.PortID]bool{in[1].ID(): true, in[2].ID(): true}, blocked); diff != "" {
		t.Errorf("after %d ms (-want +blocked):\n%s", rounds, diff)
	}
	lab.Discard()
	f := packettest.UDP(c1.From(1), c2.To(1))
	c1.Send(f)
	c2.Expect(t, f)
}

// A storm that has filled all queues before anybody looked lets no probe through, until the ports are silenced to listen.
func TestLoopFullQueues(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1 := lab.Port("n", "c1")
	a, b := lab.Port("n", "a"), lab.Port("n", "b")
	full := func(from, to *netlab.Port) { // what the storm left no room for is lost
		for _, f := range from.Raw() {
			if f.Ethernet().EtherType() != packet.EtherTypeARP || f.Len() < 90 {
				to.Send(f)
			}
		}
	}
	silenced := func() bool {
		s := lab.Bridge("n").Snapshot()
		return s.Port(a.ID()).Blocked || s.Port(b.ID()).Blocked
	}
	for range 5 {
		c1.Send(packettest.ARPRequest(c1.From(0), a.To(0)))
	}
	var news []l2switch.LoopNews
	ms := 0
	for ; len(news) == 0 && ms < 1000; ms++ {
		if silenced() {
			lab.Join(a, b)
		} else {
			full(a, b)
			full(b, a)
		}
		lab.Advance(time.Millisecond)
		news = lab.Tend()
	}
	wantBlocked(t, news, b, a)
	if ms < 100 {
		t.Errorf("found after %d ms: the test is no test", ms)
	}
	if lab.Advance(time.Second); len(lab.Tend()) > 0 || lab.Bridge("n").Snapshot().Port(a.ID()).Blocked {
		t.Error("a is still silenced")
	}
}

// Two networks joined at two places are a loop, although each of them sees but one port of it at each place.
func TestLoopThroughAnotherNetwork(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1 := lab.Port("n", "c1")
	a1, a2 := lab.Port("n", "a1"), lab.Port("n", "a2")
	b1, b2 := lab.Port("m", "b1"), lab.Port("m", "b2")
	c1.Send(packettest.ARPRequest(c1.From(0), a1.To(0)))
	var news []l2switch.LoopNews
	for ms := 0; ms < 900; ms++ {
		if lab.Join(a1, b1)+lab.Join(a2, b2) == 0 {
			break
		}
		lab.Advance(time.Millisecond)
		news = append(news, lab.Tend()...)
	}
	if len(news) == 0 || !news[0].Blocked {
		t.Fatalf("told %+v", news)
	}
	if lab.Join(a1, b1)+lab.Join(a2, b2) > 0 {
		t.Error("frames still go round")
	}
	// One of these alone is how networks are joined on purpose.
	lab = netlab.New(t, netlab.Stepped())
	c1, a1, b1 = lab.Port("n", "c1"), lab.Port("n", "a1"), lab.Port("m", "b1")
	far := lab.Port("m", "far")
	a1.Send(b1.Probe())
	b1.Send(a1.Probe())
	c1.Send(packettest.ARPRequest(c1.From(0), far.To(0)))
	if news, _ := goRound(lab, 500, a1, b1); len(news) > 0 {
		t.Errorf("told %+v", news)
	}
	if len(far.Take()) == 0 {
		t.Error("the networks are not joined")
	}
}

// A loop in one VLAN of trunks.
func TestLoopInVLAN(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1 := lab.Port("n", "c1", netlab.VLAN(20))
	a, b := lab.Port("n", "a", netlab.Trunk(10, 20)), lab.Port("n", "b", netlab.VLAN(20))
	c1.Send(packettest.ARPRequest(c1.From(0), a.To(0)))
	var news []l2switch.LoopNews
	for range 500 {
		for _, f := range a.Raw() { // the container has eth0.20 and eth1 in its bridge
			f.PopVLAN()
			b.Send(f)
		}
		for _, f := range b.Raw() {
			f.PushVLAN(20)
			a.Send(f)
		}
		lab.Advance(time.Millisecond)
		news = append(news, lab.Tend()...)
	}
	wantBlocked(t, news, b, a)
	if news[0].VLAN != 20 {
		t.Errorf("in VLAN %d", news[0].VLAN)
	}
}

// What a container heard does not help it to get another's port blocked.
func TestForgedProbes(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	old, evil, victim := lab.Port("n", "old"), lab.Port("n", "evil"), lab.Port("n", "victim")
	probe := evil.Probe()
	change := func(at int, b byte) *packet.Frame {
		f := probe.Clone()
		f.Bytes()[at] ^= b
		return f
	}
	const magic, bridge, port, vlan, nonce = 42, 54, 70, 74, 76
	evil.Send(change(magic, 1), change(bridge, 1), change(port+3, 1), change(vlan+1, 1), change(nonce, 1))
	evil.Send(change(port+3, byte(evil.ID()^victim.ID())))
	if news := lab.Tend(); len(news) > 0 {
		t.Errorf("told %+v", news)
	}
	// Late, it is worth nothing.
	lab.Discard()
	lab.Advance(3 * time.Second)
	evil.Send(probe)
	if news := lab.Tend(); len(news) > 0 {
		t.Errorf("told %+v", news)
	}
	lab.ExpectNothing(t) // and is heard by nobody
	// In time, it says that evil's own port loops, which it can bring about anyhow.
	lab.Advance(time.Second)
	evil.Send(evil.Probe())
	wantBlocked(t, lab.Tend(), evil, evil)
	f := packettest.ARPRequest(old.From(0), victim.To(0))
	old.Send(f)
	victim.Expect(t, f)
}

// A machine that moves is suspected and cleared: both ports are probed, and nothing else happens.
func TestMoveIsNoLoop(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1, a, b := lab.Port("n", "c1"), lab.Port("n", "a"), lab.Port("n", "b")
	hello(lab, c1, a)
	b.Send(packettest.ARPRequest(a.From(0), c1.To(0)))
	for range 3000 {
		lab.Advance(time.Millisecond)
		if news := lab.Tend(); len(news) > 0 {
			t.Fatalf("told %+v", news)
		}
	}
	loopFrames := func(p *netlab.Port) (n int) {
		for _, f := range p.Take() {
			if f[12] == 8 && f[13] == 6 && f[21] == 24 {
				n++
			}
		}
		return n
	}
	if na, nb, n1 := loopFrames(a), loopFrames(b), loopFrames(c1); na != 3 || nb != 3 || n1 != 0 {
		t.Errorf("%d, %d and %d probes to a, b and c1", na, nb, n1)
	}
	to := packettest.UDP(c1.From(1), a.To(1))
	c1.Send(to)
	b.Expect(t, to)
}
