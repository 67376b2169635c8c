package router_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"vswitch/internal/cputime"
	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/router"
)

// fragment is n bytes at from of the datagram id that comes by the port, parsed.
func fragment(port packet.PortID, id int, from, n int, more bool) *packet.Frame {
	f := packettest.IP(packet.ProtoUDP, packettest.From("02:00:00:00:00:07", "10.1.0.2", 1),
		packettest.To("02:01:00:00:00:00", "10.0.0.2", 1), packettest.ID(uint16(id), false), packettest.Fragment(uint16(from/8), more), packettest.Size(n))
	f.Key.InPort = port
	f.Parse()
	return f
}

// Datagrams of several ports cut at random come in any order: each fragment goes on once, with the ports of the first one, and none before it.
func TestFragmentsInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := router.NewFragments()
	now := second
	for range 300 {
		type piece struct{ port, id, from, n, end int }
		var all []piece
		for k := range 1 + r.IntN(5) {
			end := 64 + 8*r.IntN(2000)
			for from := 0; from < end; {
				n := min(56+8*r.IntN(180), end-from)
				if from == 0 {
					n = 56 // or it would be no fragment
				}
				all = append(all, piece{k % 2, k, from, n, end})
				from += n
			}
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		begun := map[int]bool{}
		passed := 0
		pass := func(f *packet.Frame) {
			passed++
			at, _ := f.Fragment()
			if begun[int(at.ID)] = begun[int(at.ID)] || at.Start == 0; !begun[int(at.ID)] {
				t.Fatal("a fragment went on before the first one")
			}
			if f.Flags&packet.FlagPorts == 0 || f.Key.SrcPort != 0x0001 || f.Key.DstPort != 0x0203 { // as packettest.Size makes them
				t.Fatalf("ports %x %x", f.Key.SrcPort, f.Key.DstPort)
			}
		}
		for _, p := range all {
			f := fragment(packet.PortID(7+p.port), p.id, p.from, p.n, p.from+p.n < p.end)
			got := table.Place(f, now)
			if got.Drop != packet.DropNone {
				t.Fatalf("%+v: %v", p, got.Drop)
			}
			if !got.Held {
				pass(f)
			}
			for _, m := range got.Made {
				pass(m.Frame)
			}
		}
		if n, bytes := table.Len(); passed != len(all) || n != 0 || bytes != 0 {
			t.Fatalf("%d of %d fragments went on; %d datagrams, %d bytes left", passed, len(all), n, bytes)
		}
	}
}

// A million identifications of one port cost no memory and little time, and each fragment comes back in the end; other ports' datagrams stay.
func TestFragmentsFlood(t *testing.T) {
	table := router.NewFragments()
	now, held, lost := second, 0, 0
	count := func(made []*flow.Made) {
		for _, m := range made {
			if m.Drop == packet.DropNone {
				t.Fatal("a fragment without a beginning goes on")
			}
			lost++
		}
	}
	victims := 100
	for i := range victims {
		table.Place(fragment(packet.PortID(100+i), 1, 800, 800, false), now)
	}
	f := fragment(7, 0, 800, 1400, true)
	start := cputime.Used(t)
	for i := range 1000000 {
		f.Key.Src[3] = byte(i >> 16)
		f.IPv4().SetID(uint16(i))
		p := table.Place(f, now)
		if p.Held {
			held++
		}
		count(p.Made)
	}
	if took := cputime.Used(t) - start; took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	if n, bytes := table.Len(); n > router.MaxDatagrams || bytes > router.MaxHeldBytes {
		t.Errorf("%d datagrams, %d bytes", n, bytes)
	}
	for i := range victims {
		first := fragment(packet.PortID(100+i), 1, 0, 800, true)
		p := table.Place(first, now)
		if len(p.Made) != 1 || p.Made[0].Drop != packet.DropNone {
			t.Fatalf("port %d lost its datagram: %+v", 100+i, p)
		}
	}
	count(table.Tend(now + int64(router.FragmentTime)))
	if n, bytes := table.Len(); n != 0 || bytes != 0 || lost != held {
		t.Errorf("%d datagrams and %d bytes are left; %d of %d fragments came back", n, bytes, lost, held)
	}
}

// Memory is bounded by bytes as well, whoever holds them; a port that leaves takes its own.
func TestFragmentsMemory(t *testing.T) {
	table := router.NewFragments()
	for port := range packet.PortID(10) {
		for id := range 100 {
			for k := range 20 {
				table.Place(fragment(port+1, id, 800+1400*k, 1400, true), second)
			}
		}
		if _, bytes := table.Len(); bytes > router.MaxHeldBytes {
			t.Fatalf("%d bytes", bytes)
		}
	}
	before, _ := table.Len()
	if lost := table.Abandon(10); len(lost) == 0 || len(lost)%20 > 19 {
		t.Errorf("port 10 had %d fragments", len(lost))
	}
	after, _ := table.Len()
	if lost := table.Abandon(10); len(lost) != 0 || after >= before {
		t.Errorf("%d fragments of a port that left, %d datagrams, before %d", len(lost), after, before)
	}
}

// FuzzFragments holds the table against a naive twin: a datagram as an array that says who owns each byte.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{0, 4, 1, 4, 4, 0, 2, 2, 1})
	f.Add([]byte{8, 4, 1, 4, 4, 1, 0, 4, 1, 12, 2, 0, 0, 4, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		table := router.NewFragments()
		var owner [1 << 12]int
		parts := map[[3]int]bool{}
		end, dead, got, first := -1, false, 0, false
		for i := 1; len(b) >= 3; i++ {
			from, n, more := 8*int(b[0]), 8+8*int(b[1]%32), b[2]&1 != 0 || b[0] == 0
			b = b[3:]
			if from == 0 {
				n = max(n, 24)
			}
			frame := fragment(1, 1, from, n, more)
			p := table.Place(frame, second)
			key := [3]int{from, n, int(frame.IPv4()[6] & 0x20)}
			overlaps := slices.ContainsFunc(owner[from:from+n], func(o int) bool { return o != 0 })
			last := slices.IndexFunc(owner[from+n:], func(o int) bool { return o != 0 })
			want := packet.DropNone
			switch {
			case dead:
				want = packet.DropFragOverlap
			case parts[key]:
				want = packet.DropFragDuplicate
			case overlaps, end >= 0 && (from+n > end || !more || from+n == end), !more && last >= 0:
				want, dead = packet.DropFragOverlap, true
			case len(parts) >= router.MaxFragments:
				return
			default:
				parts[key] = true
				for j := range n {
					owner[from+j] = i
				}
				got += n
				if !more {
					end = from + n
				}
				if from == 0 {
					first = true
				}
			}
			if p.Drop != want || want == packet.DropNone && p.Held == first {
				t.Fatalf("fragment %d, %d+%d more=%v: %+v, want %v", i, from, n, more, p, want)
			}
			if got == end {
				return
			}
		}
	})
}
