package vswitch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestFlappingMAC: an address is seen at two ports in turn, thousands of times a second. It stays where it was at first, which is
// told once, and what others decided about it is not decided anew all the time. Afterwards it moves at once.
//
//	a ---X---> net1 <---X--- b       and c sends to X
func TestFlappingMAC(t *testing.T) {
	t.Parallel()
	const address = "02:aa:00:00:00:01"
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	ears := lab.Ears()
	for _, label := range []string{"a", "b", "c"} {
		c := lab.Container(label)
		d.Join("net1", label, c)
		ears.Add(label, c, "eth0")
	}
	toX := func() string {
		return netnstest.Who(ears.SendFrom("c", ears.Frame(address, "02:cc:00:00:00:01"), "02:cc:00:00:00:01"))
	}
	invalid := func() uint64 {
		stats, err := d.Client.Stats(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return stats.Workers[0].FlowInvalid
	}
	ears.Send("a", ears.Frame("ff:ff:ff:ff:ff:ff", address))
	frame := ears.Frame("02:cc:00:00:00:01", address)
	before, start, n := invalid(), time.Now(), 0
	for ; time.Since(start) < time.Second; n++ {
		time.Sleep(50 * time.Microsecond) // what all hear has to wait in their sockets
		ears.Socket("a").Send(frame)
		ears.Socket("b").Send(frame)
	}
	if heard := toX(); heard != "a" {
		t.Errorf("frames to it are heard by %q, want a", heard)
	}
	if got := invalid() - before; got > 100 {
		t.Errorf("%d flows were decided anew in %d moves", got, 2*n)
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
	t.Logf("%d moves asked for; told %d times", 2*n, told)
	if told != 1 || n < 500 {
		t.Errorf("told %d times of %d moves", told, 2*n)
	}
	time.Sleep(time.Until(start.Add(6 * time.Second))) // the hold-down ends
	ears.Send("b", ears.Frame("ff:ff:ff:ff:ff:ff", address))
	if heard := toX(); heard != "b" {
		t.Errorf("after it moved frames to it are heard by %q, want b", heard)
	}
}
