package vswitch_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// goroutines asks the daemon's metrics.
func goroutines(t *testing.T, d *netnstest.Daemon) int {
	t.Helper()
	return int(metric(t, d, "go_goroutines"))
}

// resident returns the daemon's memory in KiB.
func resident(t *testing.T, d *netnstest.Daemon) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	_, _ = fmt.Sscan(after, &kib)
	return kib
}

// TestNothingLeaks: ports that come and go leave nothing in the daemon.
func TestNothingLeaks(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := pairOf(lab, d, "tap", "veth")
	c := lab.Container("c")
	ctx := context.Background()
	var adding, deleting [2]time.Duration
	cycles := func(n int) {
		for i := range n {
			start := time.Now()
			r := api.PortRequest{Name: "c", Network: "net1", Netns: c.Name, Type: portTypes[i%2]}
			if _, err := d.Client.AddPort(ctx, r); err != nil {
				t.Fatal(err)
			}
			middle := time.Now()
			if err := d.Client.DeletePort(ctx, "c"); err != nil {
				t.Fatal(err)
			}
			adding[i%2] += middle.Sub(start)
			deleting[i%2] += time.Since(middle)
		}
	}
	cycles(60)
	d.Client.Close()
	ping(lab, a, b4)
	adding, deleting = [2]time.Duration{}, [2]time.Duration{}
	fds, routines, memory := d.FDs(), goroutines(t, d), resident(t, d)
	const n = 200
	cycles(n)
	d.Client.Close()
	for i, typ := range portTypes {
		t.Logf("%s: add-port %v, del-port %v", typ, (adding[i] / (n / 2)).Round(10*time.Microsecond), (deleting[i] / (n / 2)).Round(10*time.Microsecond))
	}
	var now string
	lab.Eventually("file descriptors and goroutines are what they were", func() bool {
		f, g := d.FDs(), goroutines(t, d)
		if s := fmt.Sprintf("%d fds, %d goroutines; before %d and %d", f, g, fds, routines); s != now {
			now = s
			t.Log(s)
		}
		return f <= fds && g <= routines
	})
	if grown := resident(t, d) - memory; grown > 16<<10 {
		t.Errorf("memory grew by %d KiB, from %d", grown, memory)
	}
	ping(lab, a, b4)
}
