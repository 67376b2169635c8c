package l2switch_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vswitch/internal/packet"
	l2switch "vswitch/switch"
)

// loopBridge is a bridge with ports, of which some are joined outside: what is sent out of one comes in by the others.
type loopBridge struct {
	*l2switch.Bridge
	t      *testing.T
	now    int64
	joined []packet.PortID
	deaf   bool // probes are lost on the way
	sent   map[packet.PortID]int
}

func newLoopBridge(t *testing.T, ports int, joined ...packet.PortID) *loopBridge {
	b := &loopBridge{Bridge: l2switch.NewBridge(l2switch.Limits{}), t: t, now: int64(time.Hour), joined: joined, sent: map[packet.PortID]int{}}
	for id := 1; id <= ports; id++ {
		b.SetPort(l2switch.PortConf{ID: packet.PortID(id), Name: fmt.Sprint(id), MTU: 1500})
	}
	return b
}

// tend does what is due until nothing is, at one moment.
func (b *loopBridge) tend() (news []l2switch.LoopNews, next int64) {
	b.t.Helper()
	for range 100 {
		var some []l2switch.LoopNews
		heard := false
		some, next = b.Tend(b.now, func(id packet.PortID, frame []byte) {
			b.sent[id]++
			p, ok := l2switch.ParseProbe(frame[14:])
			if !ok || p.Port != id || !b.Loops().Owns(&p) {
				b.t.Fatalf("probe of port %d: %+v % x", id, p, frame)
			}
			for _, at := range b.joined {
				if (at != id || len(b.joined) == 1) && !b.deaf && b.has(id) {
					heard = b.Loops().Heard(&p, at, b.now) || heard
				}
			}
		})
		news = append(news, some...)
		if !heard && next > b.now {
			return news, next
		}
	}
	b.t.Fatal("there is always more to do")
	return nil, 0
}

func (b *loopBridge) has(id packet.PortID) bool {
	for _, j := range b.joined {
		if j == id {
			return true
		}
	}
	return false
}

// run lets the time pass for d, or until something is told.
func (b *loopBridge) run(d time.Duration) (news []l2switch.LoopNews) {
	b.t.Helper()
	for end := b.now + int64(d); ; {
		news, next := b.tend()
		if len(news) > 0 || next > end {
			if len(news) == 0 {
				b.now = end
			}
			return news
		}
		b.now = next
	}
}

func (b *loopBridge) expect(news []l2switch.LoopNews, port, peer packet.PortID, blocked bool) {
	b.t.Helper()
	if len(news) != 1 || news[0].Port != port || news[0].Peer != peer || news[0].Blocked != blocked {
		b.t.Fatalf("told %+v, want port %d, peer %d, blocked %v", news, port, peer, blocked)
	}
	if b.Snapshot().Port(port).Blocked != blocked {
		b.t.Fatalf("port %d is blocked: %v", port, !blocked)
	}
}

// The later one is blocked, whoever is asked first, and tried again after 5, 10, 20, 40, 60, 60... s, a quarter more or less.
func TestLoopBackoff(t *testing.T) {
	b := newLoopBridge(t, 3, 3, 2)
	if !b.Loops().Suspect(0, 2, 1, b.now) {
		t.Fatal("a suspicion leaves nothing to do")
	}
	b.expect(b.run(0), 3, 2, true)
	if peer, ok := b.Loops().Blocked(3); !ok || peer != 2 {
		t.Errorf("blocked because of %d, %v", peer, ok)
	}
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60, 60} {
		start, probes := b.now, b.sent[3]
		for b.sent[3] == probes {
			news, next := b.tend()
			if len(news) > 0 {
				t.Fatalf("told %+v", news)
			}
			if b.sent[3] == probes {
				b.now = next
			}
		}
		if wait := time.Duration(b.now - start); wait < want*time.Second*3/4 || wait > want*time.Second*5/4 {
			t.Fatalf("tried again after %v, want some %d s", wait, want)
		}
	}
	if n := b.sent[3] + b.sent[2]; n > 4*7+6 {
		t.Errorf("%d probes", n)
	}
	b.joined = nil
	b.expect(b.run(100*time.Second), 3, 2, false)
	// A loop that is back soon waits for longer at once.
	b.joined = []packet.PortID{2, 3}
	b.PortUp(2, b.now)
	b.expect(b.run(0), 3, 2, true)
	probes := b.sent[3]
	if news := b.run(40 * time.Second); len(news) > 0 || b.sent[3] != probes {
		t.Errorf("tried again within 40 s, told %+v", news)
	}
}

func TestLoopOfItself(t *testing.T) {
	b := newLoopBridge(t, 2, 2)
	b.PortUp(2, b.now)
	b.expect(b.run(0), 2, 2, true)
	b.joined = nil
	b.expect(b.run(10*time.Second), 2, 2, false)
}

// Frames that go round in one direction only are a loop too.
func TestLoopOneWay(t *testing.T) {
	for _, way := range [][2]packet.PortID{{1, 2}, {2, 1}} {
		b := newLoopBridge(t, 2)
		oneWay := func() (news []l2switch.LoopNews, next int64) {
			news, next = b.Tend(b.now, func(id packet.PortID, frame []byte) {
				if p, _ := l2switch.ParseProbe(frame[14:]); id == way[0] {
					b.Loops().Heard(&p, way[1], b.now)
				}
			})
			return news, next
		}
		b.Loops().Suspect(0, way[1], 3, b.now)
		b.Loops().Suspect(0, 1, 2, b.now+int64(time.Second))
		var all []l2switch.LoopNews
		for b.now < int64(time.Hour+5*time.Minute) {
			news, next := oneWay()
			all = append(all, news...)
			if b.now = max(next, b.now+1); next == math.MaxInt64 {
				break
			}
		}
		b.expect(all, 2, 1, true)
	}
}

// When the port that carried the loop's traffic goes, another one takes its place.
func TestLoopPeerGoes(t *testing.T) {
	b := newLoopBridge(t, 3, 1, 2, 3)
	b.PortUp(2, b.now)
	b.expect(b.run(0), 2, 1, true)
	b.Loops().Suspect(0, 3, 1, b.now)
	news := b.run(0)
	if len(news) != 1 || news[0].Port != 3 || !news[0].Blocked {
		t.Fatalf("told %+v", news)
	}
	b.RemovePort(1)
	b.joined = []packet.PortID{2, 3}
	b.expect(b.run(2*time.Second), 2, 1, false)
	if news := b.run(10 * time.Minute); len(news) > 0 {
		t.Errorf("told %+v", news)
	}
	if !b.Snapshot().Port(3).Blocked || b.Snapshot().Port(2).Blocked {
		t.Error("not exactly one of the two is blocked")
	}
}

// The one that misplaced frames come in by is silenced for a moment when probes do not get through, and then spared.
func TestLoopListens(t *testing.T) {
	b := newLoopBridge(t, 3, 2, 3)
	b.deaf = true
	start, silenced, rounds := b.now, time.Duration(0), 0
	was := false
	for b.now < start+int64(time.Minute) {
		for range 10 {
			b.Loops().Suspect(0, 3, 1, b.now)
		}
		if news, _ := b.tend(); len(news) > 0 {
			t.Fatalf("told %+v", news)
		}
		is := b.Snapshot().Port(3).Blocked
		if b.Snapshot().Port(1).Blocked {
			t.Fatal("the victim was silenced")
		}
		if is {
			silenced += time.Millisecond
		}
		if is && !was {
			rounds++
			if d := time.Duration(b.now - start); rounds == 1 && d > 400*time.Millisecond {
				t.Errorf("silenced after %v", d)
			}
		}
		was = is
		b.now += int64(time.Millisecond)
	}
	if rounds < 4 || rounds > 6 || silenced > 2*time.Second {
		t.Errorf("silenced %d times, for %v of a minute", rounds, silenced)
	}
	b.deaf = false
	b.Loops().Suspect(0, 3, 1, b.now)
	b.expect(b.run(time.Second), 3, 2, true)
}

// An address that two machines have is no storm: nobody is silenced for it.
func TestDuplicateAddress(t *testing.T) {
	b := newLoopBridge(t, 3)
	for range 60000 {
		b.Loops().Suspect(0, 3, 1, b.now)
		b.tend()
		if b.Snapshot().Port(3).Blocked || b.Snapshot().Port(1).Blocked {
			t.Fatal("a port was silenced")
		}
		b.now += int64(time.Millisecond)
	}
}

// A thousand ports that nobody suspects ask for nothing.
func TestLoopsIdle(t *testing.T) {
	b := newLoopBridge(t, 1000)
	for id := packet.PortID(1); id <= 1000; id++ {
		b.PortUp(id, b.now)
	}
	if news := b.run(time.Minute); len(news) > 0 {
		t.Errorf("told %+v", news)
	}
	if _, next := b.tend(); next != math.MaxInt64 {
		t.Errorf("something is due in %v", time.Duration(next-b.now))
	}
	if len(b.sent) != 1000 || b.sent[1] != 1 {
		t.Errorf("%d ports were probed", len(b.sent))
	}
}

// A port that has just come up is open to suspicion.
func TestLoopRightAfterUp(t *testing.T) {
	b := newLoopBridge(t, 3)
	for id := packet.PortID(1); id <= 3; id++ {
		b.PortUp(id, b.now)
	}
	b.tend()
	b.joined = []packet.PortID{2, 3}
	b.Loops().Suspect(0, 3, 1, b.now)
	b.expect(b.run(0), 3, 2, true)
}

// A change of a port's configuration leaves it blocked.
func TestSetPortKeepsBlocked(t *testing.T) {
	b := newLoopBridge(t, 2, 1, 2)
	b.PortUp(2, b.now)
	b.expect(b.run(0), 2, 1, true)
	b.SetPort(l2switch.PortConf{ID: 2, Name: "2", MTU: 9000})
	b.SetPort(l2switch.PortConf{ID: 1, Name: "1", MTU: 9000, Blocked: true})
	if s := b.Snapshot(); !s.Port(2).Blocked || s.Port(2).MTU != 9000 || s.Port(1).Blocked {
		t.Error("SetPort changed who is blocked")
	}
	if n := len(b.Snapshot().Flood(0, false).Members); n != 1 {
		t.Errorf("%d receivers of a flood", n)
	}
}

func TestSuspectCostsNothing(t *testing.T) {
	b := newLoopBridge(t, 2)
	if n := testing.AllocsPerRun(1000, func() {
		b.now += int64(time.Microsecond)
		b.Loops().Suspect(0, 1, 2, b.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Workers, verbs and the one who tends at once: for the race detector, and it ends.
func TestLoopsConcurrently(t *testing.T) {
	b := newLoopBridge(t, 8)
	var workers, others sync.WaitGroup
	probes := make(chan l2switch.Probe, 16)
	stop := make(chan struct{})
	for range 2 {
		workers.Go(func() {
			for i := range 20000 {
				now := int64(time.Hour) + int64(i)*int64(time.Millisecond)
				b.Loops().Suspect(0, packet.PortID(1+rand.IntN(8)), packet.PortID(1+rand.IntN(8)), now)
				select {
				case p := <-probes:
					b.Loops().Heard(&p, packet.PortID(1+rand.IntN(8)), now)
				default:
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := packet.PortID(1 + rand.IntN(8))
			b.RemovePort(id)
			b.SetPort(l2switch.PortConf{ID: id})
			b.PortUp(id, int64(time.Hour)+int64(i)*int64(time.Millisecond))
			b.Loops().Blocked(id)
		}
	})
	others.Go(func() {
		for now := int64(time.Hour); ; now += int64(10 * time.Millisecond) {
			select {
			case <-stop:
				return
			default:
			}
			b.Tend(now, func(_ packet.PortID, frame []byte) {
				p, _ := l2switch.ParseProbe(frame[14:])
				select {
				case probes <- p:
				default:
				}
			})
		}
	})
	workers.Wait()
	close(stop)
	others.Wait()
}
