package datapath

import (
	"testing"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// network is a Datapath with many ports that hear each other's group frames; unicast goes to the last of them.
type network struct {
	d    *Datapath
	in   []*mem.Port // the first few: they send
	last *mem.Port
	ids  []packet.PortID
}

func newNetwork(t testing.TB, cfg Config, ports, senders int, tag func(i int) flow.TagOp) *network {
	set := &flow.FloodSet{VLAN: 5}
	n := new(network)
	n.d = newTest(t, cfg, classifierFunc(func(f *packet.Frame, _ int64, v *flow.Verdict) {
		if f.Flags&packet.FlagGroup != 0 {
			v.Add(flow.Action{Op: flow.OpFlood, Set: set})
		} else {
			v.Add(flow.Action{Op: flow.OpOutput, Port: n.ids[len(n.ids)-1]})
		}
	}))
	for i := range ports {
		p := newPort(t, "p", mem.Queue(2048))
		id := add(t, n.d, p)
		n.ids = append(n.ids, id)
		set.Members = append(set.Members, flow.FloodMember{Port: id, Tag: tag(i)})
		if i < senders {
			n.in = append(n.in, p)
		}
		n.last = p
	}
	return n
}

func (n *network) written() (sum uint64) {
	for _, c := range n.d.PortCounters() {
		sum += c.TxPackets
	}
	return sum
}

func untagged(int) flow.TagOp { return flow.Untagged }

var group = packettest.To("ff:ff:ff:ff:ff:ff", "10.255.255.255", 1)

// However large the network, however many ports flood, a turn writes so many copies and no more, each port's frame is served in
// the turn after it came, and all floods are finished.
func TestFloodsComeInSlices(t *testing.T) {
	const ports, senders = 1000, 20
	n := newNetwork(t, Config{Workers: 1, NoCoalesce: true}, ports, senders, untagged)
	for range 3 {
		for _, p := range n.in {
			p.Inject(nil, packettest.UDP(group).Bytes())
		}
	}
	turn := func() (wrote int) {
		before := n.written()
		if err := n.d.Turn(); err != nil {
			t.Fatal(err)
		}
		return int(n.written() - before)
	}
	whisper := newPort(t, "whisper")
	from := add(t, n.d, whisper)
	for range 50 {
		whisper.Inject(nil, packettest.UDP().Bytes())
		before := n.d.PortCounters()[from].RxFrames
		if wrote := turn(); wrote > 2*floodSlice+1 {
			t.Fatalf("%d writes in a turn", wrote)
		}
		if n.d.PortCounters()[from].RxFrames != before+1 {
			t.Fatal("a port's frame was not served in the next turn")
		}
	}
	for turn() > 0 {
	}
	if sum, want := n.written(), uint64(3*senders*(ports-1)+50); sum != want {
		t.Errorf("%d frames were written, want %d", sum, want)
	}
}

// A port's floods and what it sends after them reach a receiver in the order sent, tagged or not, and while the port moves between
// workers, though the receiver is slow and all waits in queues.
func TestFloodsKeepOrder(t *testing.T) {
	const ports, senders, frames = 300, 3, 200
	for _, cfg := range []Config{{Workers: 1}, {Workers: 2}, {Workers: 3, NoCoalesce: true}} {
		n := newNetwork(t, cfg, ports, senders, func(i int) flow.TagOp { return flow.TagOp(i % 2) })
		running(t, n.d)
		receiver := n.ids[ports-1]
		n.d.tell(Notice{Kind: PortSlow, Port: receiver})
		waitFor(t, "the receiver's move", func() bool { return n.d.PortState(receiver).Slow })
		for i := range frames {
			for j, p := range n.in {
				f := numbered(j, i)
				if i%3 == 0 {
					f.Bytes()[0] = 1 // a group
				}
				if p.Inject(f.Vnet(), f.Bytes()) != nil {
					t.Fatal("the queue is too short")
				}
			}
		}
		for range 5 {
			n.d.tell(Notice{Kind: PortSlow, Port: n.ids[0]})
			waitFor(t, "the move", func() bool { return n.d.PortState(n.ids[0]).Slow })
			n.d.tell(Notice{Kind: PortFast, Port: n.ids[0], move: n.d.PortState(n.ids[0]).Moves})
		}
		floods := (frames + 2) / 3
		want := uint64(senders * (floods*(ports-1) + frames - floods))
		waitFor(t, "all is written", func() bool { return n.written() == want })
		var next [senders]int
		for _, f := range n.last.Sent() {
			from, i := number(f)
			if i != next[from] {
				t.Fatalf("frame %d of sender %d, want %d", i, from, next[from])
			}
			next[from]++
			if tagged := f.Bytes()[12] == 0x81; tagged != (i%3 == 0) {
				t.Errorf("frame %d is tagged: %v", i, tagged)
			}
		}
		if next != [senders]int{frames, frames, frames} {
			t.Errorf("%d frames came", next)
		}
	}
}

// More floods than the queue holds are lost, and counted.
func TestFloodQueueFull(t *testing.T) {
	const ports = 100
	n := newNetwork(t, Config{Workers: 1}, ports, 1, untagged)
	b := packettest.UDP(group).Bytes()
	for range ringFrames + 5 {
		n.d.Inject(n.ids[0], b) // comes by the mailbox, past the rule that a port has one flood waiting
	}
	for range 2 * ringFrames * ports / floodSlice {
		if err := n.d.Turn(); err != nil {
			t.Fatal(err)
		}
	}
	if lost := n.d.PortCounters()[n.ids[0]].Drops[packet.DropQueueFull]; lost != 5 || n.written() != ringFrames*(ports-1) {
		t.Errorf("%d floods were lost, want 5; %d frames were written, want %d", lost, n.written(), ringFrames*(ports-1))
	}
}

// A port that goes while floods from it or to it wait is no trouble, and they come to an end.
func TestRemoveWhileFlooding(t *testing.T) {
	n := newNetwork(t, Config{Workers: 2}, 400, 2, untagged)
	running(t, n.d)
	for i := len(n.ids) - 1; i >= 0; i-- {
		n.in[i%2].Inject(nil, packettest.UDP(group).Bytes())
		if _, err := n.d.Remove(n.ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the queues are empty", func() bool {
		empty := true
		for _, w := range n.d.workers {
			w.call(func() { empty = empty && w.floods.empty() })
		}
		return empty
	})
}
