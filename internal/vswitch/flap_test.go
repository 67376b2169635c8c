package vswitch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
	l2switch "vswitch/switch"
)

// TestFlappingMAC: an address is seen at two ports in turn, more than 10,000 times a second. It stays where it was at first, which is
// told once, what others decided about it is not decided anew all the time, and their frames arrive. Afterwards it moves at once.
//
//	a ---X---> net1 <---X--- b       and c sends to X
//	e ---4000 datagrams/s---> net1 ---> f
func TestFlappingMAC(t *testing.T) {
	t.Parallel()
	const (
		address = "02:aa:00:00:00:01"
		flap    = 65 * time.Microsecond // there and back
		f4      = "10.9.0.9"
	)
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	ears := lab.Ears()
	for _, label := range []string{"a", "b", "c"} {
		c := lab.Container(label)
		d.Join("net1", label, c)
		ears.Add(label, c, "eth0")
	}
	e, f := lab.Container("e"), lab.Container("f")
	d.Join("net1", "e", e)
	d.Join("net1", "f", f, "--ip", f4)
	ping(lab, e, f4)
	toX := func() string {
		return ears.Who("c", ears.Frame(address, "02:cc:00:00:00:01"), 1)
	}
	stats := func() (moved, held uint64) {
		n := netnstest.Get[api.Stats](d, "stats").Networks[0]
		return n.Moved, n.Held
	}
	ears.Send("c", ears.Frame(broadcast, "02:cc:00:00:00:01")) // so that others need not hear what is sent there
	ears.Send("a", ears.Frame(broadcast, address))
	others := startBystander(t, e, f, f4)
	frame := ears.Frame("02:cc:00:00:00:01", address)
	moved0, _ := stats()
	start, moves := time.Now(), 0.0
	for rounds := 0; rounds < 4 && moves < 10000; rounds++ { // a busy machine may not have the time at first
		_, before := stats()
		round := time.Now()
		for sent := 0; time.Since(round) < time.Second; time.Sleep(time.Millisecond) {
			for ; sent < int(time.Since(round)/flap); sent++ {
				ears.Socket("a").Send(frame)
				ears.Socket("b").Send(frame)
			}
		}
		_, held := stats()
		moves = float64(held-before) / time.Since(round).Seconds()
	}
	if moves < 10000 {
		t.Errorf("%.0f moves a second prove nothing", moves)
	}
	others.end()
	if heard := toX(); heard != "a" {
		t.Errorf("frames to it are heard by %q, want a", heard)
	}
	moved, _ := stats()
	ended := time.Now()
	holds := 1 + int(ended.Sub(start)/l2switch.HoldDown) // one, unless it took long
	if moved -= moved0; moved > uint64(holds*(l2switch.MaxMoves+1)) {
		t.Errorf("it moved %d times, and flows to it were decided anew as often", moved)
	}
	told := 0
	for e, err := range d.Client.Events(context.Background(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "mac.flapping" {
			told++
			if !strings.Contains(e.Message, address) || !strings.Contains(e.Message, "between ports ") || !strings.Contains(e.Message, "behind a ") {
				t.Errorf("told %q", e.Message)
			}
		}
		if e.Type == "port.loop" {
			t.Errorf("told of a loop: %s", e.Message)
		}
	}
	t.Logf("%.0f moves a second", moves)
	if told < 1 || told > holds {
		t.Errorf("told %d times", told)
	}
	time.Sleep(time.Until(ended.Add(l2switch.HoldDown + time.Second/2)))
	ears.Send("b", ears.Frame(broadcast, address))
	if heard := toX(); heard != "b" {
		t.Errorf("after it moved frames to it are heard by %q, want b", heard)
	}
}
