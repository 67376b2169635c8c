package vswitch_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// rss returns the daemon's resident memory in bytes.
func rss(t *testing.T, d *netnstest.Daemon) (bytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// blaster makes frames from one address after another to a sink.
type blaster struct {
	socket *netnstest.PacketSocket
	prefix byte
	to     []byte
	n      uint32
}

func (b *blaster) send(count int) {
	b.socket.Blast(count, 60, func(_ int, f []byte) {
		copy(f, b.to)
		f[6], f[7] = 2, b.prefix
		binary.BigEndian.PutUint32(f[8:], b.n*2654435761) // each once, in no order
		f[12], f[13] = 0x88, 0xb5
		b.n++
	})
}

// TestMillionMACs: one container makes up a million addresses. The table keeps within its limit and keeps what others need,
// memory stays as it is, the table is listed at once, and the others' frames arrive.
//
//	evil ---1,000,000 sources---> net1 ---> sink
//	   c -------4000 datagrams/s---> net1 ---> d
func TestMillionMACs(t *testing.T) {
	const all, limit, kept, queue = 1000000, 16384, 300, 8192
	lab := netnstest.New(t)
	daemon := lab.Daemon()
	daemon.Must("add-network", "net1", "--subnet", subnet4)
	c, d, sink, evil := lab.Container("c"), lab.Container("d"), lab.Container("sink"), lab.Container("evil")
	daemon.Join("net1", "c", c)
	daemon.Join("net1", "d", d)
	daemon.Join("net1", "sink", sink)
	daemon.Join("net1", "evil", evil, "--mac-limit", fmt.Sprint(limit)) // as many as the network takes
	ping(lab, c, b4)
	quiet := blaster{socket: c.PacketSocket("eth0"), prefix: 1, to: macBytes(sink.MAC())}
	quiet.send(kept)
	loud := blaster{socket: evil.PacketSocket("eth0"), prefix: 2, to: macBytes(sink.MAC())}
	rx := func() uint64 {
		stats, err := daemon.Client.Stats(context.Background())
		i := slices.IndexFunc(stats.Ports, func(p api.PortStats) bool { return p.Port == "evil" })
		if err != nil || i < 0 {
			t.Fatalf("counters: %v", err)
		}
		return stats.Ports[i].RxPackets
	}
	fill := func() { // the queue to the switch is never empty, but little is wasted on a full one
		for before := rx(); rx() < before+queue/2; {
			loud.send(queue / 4)
		}
	}
	list := func() time.Duration {
		start := time.Now()
		daemon.Must("fdb", "net1", "-o", "json")
		return time.Since(start)
	}
	for rx() < all/5 { // the table is full, and what grows with it has grown
		fill()
	}
	for range 3 {
		list()
	}
	memory := rss(t, daemon)

	others := startBystander(t, c, d, b4)
	var listings []time.Duration
	start := time.Now()
	for n := 0; rx() < all; n++ {
		if fill(); n%50 == 0 {
			listings = append(listings, list())
		}
	}
	others.end()
	took := time.Since(start)
	count := make(map[string]int)
	for _, e := range netnstest.Get[[]api.FDBEntry](daemon, "fdb", "net1") {
		count[e.Port]++
	}
	slices.Sort(listings)
	usual := listings[len(listings)/2] // a machine that is busy with other things stalls one now and then
	t.Logf("%d of %d frames in %v; entries by port %v; vsctl fdb %v, at most %v; memory from %d to %d KiB",
		rx(), loud.n, took, count, usual, listings[len(listings)-1], memory>>10, rss(t, daemon)>>10)
	if n := count["c"] + count["d"] + count["sink"] + count["evil"]; n > limit || count["evil"] < limit/2 {
		t.Errorf("%d entries", n)
	}
	if count["c"] < kept {
		t.Errorf("%d of the %d entries of another port are left", count["c"], kept)
	}
	if usual > netnstest.Slack*time.Second {
		t.Errorf("vsctl fdb took %v", listings)
	}
	if grown := rss(t, daemon) - memory; grown > 32<<20 { // of what the listings left behind; the addresses would need 500 MB
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
}
