package nat_test

import (
	"encoding/binary"
	"testing"

	"vswitch/internal/packet"
	"vswitch/nat"
)

// spoofed is the i-th SYN of a flood.
func spoofed(i int) nat.Request {
	q := tuple(tcp, "9.0.0.0:1024 > 10.0.0.1:80")
	binary.BigEndian.PutUint32(q.Src[:], 0x09000000+uint32(i))
	return nat.Request{Tuple: q, Signal: nat.Open, Network: 1, Port: 9}
}

// client is the i-th of those who mean it.
func client(i int, port packet.PortID) nat.Request {
	q := tuple(tcp, "10.0.0.5:1024 > 1.1.1.1:80")
	q.SrcPort = uint16(1024 + i)
	return nat.Request{Tuple: q, Signal: nat.Open, Network: 1, Port: port}
}

func establish(t testing.TB, table *nat.Table, r nat.Request, now int64) {
	t.Helper()
	if _, drop := table.Open(&r, now); drop != packet.DropNone {
		t.Fatalf("%v: %v", &r.Tuple, drop)
	}
	track(t, table, r.Tuple.Reverse(), nat.Accept, now)
	track(t, table, r.Tuple, nat.Data, now)
}

// TestFlood: requests with spoofed sources, answered by the server and not: established connections go on, and new ones come about as
// long as their handshake takes less than the flood takes to fill the table anew.
func TestFlood(t *testing.T) {
	for _, answered := range []bool{false, true} {
		table := nat.NewTable(nat.Limits{PerNetwork: 1000}, nat.Timeouts{})
		for i := range 500 {
			establish(t, table, client(i, 1), sec(0))
		}
		for i := range 5000 {
			now := sec(1 + float64(i)/100000)
			r := spoofed(i)
			if _, drop := table.Open(&r, now); drop != packet.DropNone {
				t.Fatal(drop)
			}
			if answered {
				track(t, table, r.Tuple.Reverse(), nat.Accept, now)
			}
			if i%50 == 0 { // a new one of the port under flood: its answer comes 400 requests of the flood later
				r := client(10000+i, 9)
				if _, drop := table.Open(&r, now); drop != packet.DropNone {
					t.Fatal(drop)
				}
			}
			if i >= 400 && i%50 == 0 {
				r := client(10000+i-400, 9)
				track(t, table, r.Tuple.Reverse(), nat.Accept, now)
				track(t, table, r.Tuple, nat.Data, now)
			}
		}
		for i := range 500 {
			q := client(i, 1).Tuple
			if c, ok := table.Peek(&q, sec(2)); !ok || c.State != nat.Established {
				t.Fatalf("answered %v: connection %d did not survive", answered, i)
			}
		}
		if n := table.Len(); n != 1000 {
			t.Errorf("%d connections", n)
		}
	}
}

// TestFullOfLive: connections in use are not ended for new ones, idle ones are, the longest idle first and of who has most.
func TestFullOfLive(t *testing.T) {
	table := nat.NewTable(nat.Limits{PerNetwork: 100}, nat.Timeouts{})
	for i := range 60 {
		establish(t, table, client(i, 1), sec(float64(i)/100))
	}
	for i := range 40 {
		establish(t, table, client(1000+i, 2), sec(float64(i)/100))
	}
	r := client(2000, 3)
	if _, drop := table.Open(&r, sec(30)); drop != packet.DropConnFull || table.Counters().Refused != 1 {
		t.Fatalf("all are in use: %v", drop)
	}
	for i := range 10 { // the first ten of port 1 are used again, by cached flows
		q := client(i, 1).Tuple
		c, _ := table.Peek(&q, sec(50))
		c.Cell.Touch(sec(50))
	}
	for i := range 5 {
		establish(t, table, client(2000+i, 3), sec(70))
	}
	for i := range 60 {
		q := client(i, 1).Tuple
		if _, ok := table.Peek(&q, sec(70)); ok != (i < 10 || i >= 15) {
			t.Errorf("connection %d of the port that has most: %v", i, ok)
		}
	}
	if n := table.Remove(&nat.Filter{Port: 2}); n != 40 {
		t.Errorf("%d left of a port that had less", n)
	}
}

// TestFullTable: the network that has most makes room, and when a network has used up its own limit, it does.
func TestFullTable(t *testing.T) {
	table := nat.NewTable(nat.Limits{Connections: 100, PerNetwork: 80}, nat.Timeouts{})
	for i := range 70 {
		r := spoofed(i)
		table.Open(&r, sec(0))
	}
	for i := range 60 {
		r := client(i, 1)
		r.Network = 2
		if _, drop := table.Open(&r, sec(0)); drop != packet.DropNone {
			t.Fatal(drop)
		}
	}
	one, two := table.Remove(&nat.Filter{Network: 1}), table.Remove(&nat.Filter{Network: 2})
	if one+two != 100 || two < 49 {
		t.Errorf("%d of the first network, %d of the second", one, two)
	}
}

// TestRemove: what goes with a port, a network, a filter; and who leant on it is told.
func TestRemove(t *testing.T) {
	table := newTable()
	keep := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:1 > 1.1.1.1:53"), Peer: 7}, sec(0))
	var versions []nat.Conn
	for i := range 600 {
		r := client(i, packet.PortID(2+i%2))
		r.Peer = 8
		r.Network = 2
		c, _ := table.Open(&r, sec(0))
		versions = append(versions, c)
	}
	if n := table.RemovePort(3); n != 300 {
		t.Errorf("%d of port 3", n)
	}
	if n := table.RemovePort(8); n != 300 {
		t.Errorf("%d towards port 8", n)
	}
	for _, c := range versions {
		if c.Version == c.Cell.Version() {
			t.Fatal("a decision still leans on one")
		}
	}
	if keep.Version != keep.Cell.Version() || table.RemoveNetwork(2) != 0 || table.RemoveNetwork(1) != 1 {
		t.Error("too many went, or one too few")
	}
}
