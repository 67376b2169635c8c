package vswitch_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"vswitch/internal/netnstest"
	"vswitch/internal/packettest"
)

// TestMillionNewFlows: one container sends a million datagrams as fast as it can, each of another flow. The flow table keeps within its
// limit, memory stays as it is, and the others' frames arrive.
//
//	evil (guarded: its flows are decided one by one) ---1,000,000 flows---> net1 ---> sink
//	   c ---------------------4000 datagrams/s----------------------------> net1 ---> d
func TestMillionNewFlows(t *testing.T) {
	const all, most, queue = 1000000, 65536, 8192
	lab := netnstest.New(t)
	daemon := lab.NewDaemon("--max-flows", fmt.Sprint(most))
	daemon.Env = []string{"GOGC=20"}
	daemon.Start()
	daemon.Must("add-network", "net1", "--subnet", subnet4)
	c, d, sink, evil := lab.Container("c"), lab.Container("d"), lab.Container("sink"), lab.Container("evil")
	daemon.Join("net1", "c", c)
	daemon.Join("net1", "d", d)
	daemon.Join("net1", "sink", sink)
	daemon.Join("net1", "evil", evil, "--source-guard")
	ping(lab, c, b4)
	frame := packettest.UDP(packettest.From(evil.MAC(), "10.9.0.5", 0), packettest.To(sink.MAC(), "10.9.0.200", 0),
		packettest.Size(18), packettest.NoChecksum()).Bytes()
	socket, sent := evil.PacketSocket("eth0"), uint32(0)
	workers := func() (misses, flows uint64) {
		stats, err := daemon.Client.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range stats.Workers {
			misses, flows = misses+w.FlowMisses, max(flows, uint64(w.FlowEntries))
		}
		return misses, flows
	}
	flood := func(n uint64) { // the queue to the switch is never empty, but little is wasted on a full one
		for before, _ := workers(); ; {
			if now, _ := workers(); now >= before+n {
				return
			}
			socket.Blast(queue/2, len(frame), func(_ int, f []byte) {
				copy(f, frame)
				binary.BigEndian.PutUint32(f[34:], sent*2654435761) // both ports: each pair once, in no order
				sent++
			})
			time.Sleep(10 * time.Millisecond)
		}
	}
	flood(2 * most) // the table is full, and what grows with it has grown
	before := vitalsOf(t, daemon)
	others := startBystander(t, c, d, b4)
	start := time.Now()
	flood(all)
	others.end()
	took := time.Since(start)
	misses, flows := workers()
	t.Logf("%d of %d flows decided, the last million in %v; %d are cached", misses, sent, took, flows)
	if flows > most || flows < most/2 {
		t.Errorf("%d flows in a table for %d", flows, most)
	}
	before.wantBack(t, lab, daemon)
	ping(lab, sink, b4)
}
