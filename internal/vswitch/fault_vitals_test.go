package vswitch_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"vswitch/internal/netnstest"
)

// overSocket returns a client of the daemon's HTTP that keeps no connection.
func overSocket(d *netnstest.Daemon) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
		},
	}, Timeout: netnstest.Patience}
}

// metric reads one of the daemon's metrics that has no labels.
func metric(t *testing.T, d *netnstest.Daemon, name string) float64 {
	t.Helper()
	answer, err := overSocket(d).Get("http://vswitch/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// vitals are what a daemon holds of the machine.
type vitals struct{ goroutines, files, memory float64 }

func vitalsOf(t *testing.T, d *netnstest.Daemon) vitals {
	t.Helper()
	return vitals{metric(t, d, "go_goroutines"), float64(d.FDs()), metric(t, d, "go_memstats_heap_inuse_bytes")}
}

// wantBack waits until the daemon holds no more than before; of memory, which the collector gives back late (less so with a low
// GOGC), not much more.
func (v vitals) wantBack(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon) {
	t.Helper()
	const slack = 8 << 20
	var now vitals
	defer func() { t.Logf("before %v, after %v", v, now) }()
	lab.Eventually("goroutines, files and memory are back to where they were", func() bool {
		now = vitalsOf(t, d)
		return now.goroutines <= v.goroutines && now.files <= v.files && now.memory <= v.memory+slack
	})
}

func (v vitals) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.0f MiB", v.goroutines, v.files, v.memory/(1<<20))
}
