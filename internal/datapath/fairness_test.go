package datapath

import (
	"slices"
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port/mem"
)

// spring is a port that always has another frame.
type spring struct {
	*mem.Port
	frame *packet.Frame
	given int
}

func (s *spring) Read(f *packet.Frame) error {
	s.given++
	s.frame.CopyInto(f)
	return nil
}

// However many ports send all they can, a quiet one is served as often as each of them: at once when it is among those that fit a
// turn, else with the rest of them. The others get equal shares, whatever the size of their frames up to a budget of bytes.
func TestFairShares(t *testing.T) {
	for _, flooders := range []int{1, 10, 63, 200} {
		var to packet.PortID
		d := newTest(t, Config{Workers: 1}, outputTo(&to))
		to = add(t, d, newPort(t, "out"))
		var noisy []*spring
		for i := range flooders {
			s := &spring{Port: newPort(t, "noisy"), frame: packettest.UDP(packettest.Size(18 + i%1400))}
			s.Inject(nil, s.frame.Bytes()) // readable for ever
			noisy = append(noisy, s)
			add(t, d, s)
		}
		quiet := newPort(t, "quiet")
		id := add(t, d, quiet)
		rounds := (flooders + maxEvents) / maxEvents // turns in which every port is served once
		for range 20 {
			quiet.Inject(nil, packettest.UDP().Bytes())
			before := d.PortCounters()[id].RxFrames
			for turns := 1; ; turns++ {
				if err := d.Turn(); err != nil {
					t.Fatal(err)
				}
				if d.PortCounters()[id].RxFrames > before {
					break
				}
				if turns > rounds {
					t.Fatalf("beside %d ports a quiet one was not served in %d turns", flooders, turns)
				}
			}
		}
		least, most := noisy[0].given, noisy[0].given
		for _, s := range noisy {
			least, most = min(least, s.given), max(most, s.given)
		}
		if most-least > budgetFrames {
			t.Errorf("%d ports that send all they can were read %d to %d times", flooders, least, most)
		}
		if _, err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
}

// turnstile is a port that lets less in while it is not read fast enough.
type turnstile struct {
	*mem.Port
	drained []bool
}

func (p *turnstile) Served(drained bool) { p.drained = append(p.drained, drained) }

// A port is told whether it was drained.
func TestThrottle(t *testing.T) {
	var to packet.PortID
	d := newTest(t, Config{Workers: 1}, outputTo(&to))
	defer d.Close()
	to = add(t, d, newPort(t, "out"))
	p := &turnstile{Port: newPort(t, "in")}
	id := add(t, d, p)
	for range budgetFrames + 1 {
		p.Inject(nil, packettest.UDP().Bytes())
	}
	for range 2 {
		if err := d.Turn(); err != nil {
			t.Fatal(err)
		}
	}
	if want := []bool{false, true}; !slices.Equal(p.drained, want) {
		t.Errorf("drained: %v, want %v", p.drained, want)
	}
	if _, err := d.Remove(id); err != nil {
		t.Fatal(err)
	}
}
