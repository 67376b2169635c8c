package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vswitch/bench/lab"
)

// needRoot skips a test without root, unless the environment says that it must run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := lab.CheckTools(); err == nil {
			return
		} else if os.Getenv("VSWITCH_REQUIRE_ROOT") == "1" {
			t.Fatal(err)
		} else {
			t.Skip(err)
		}
	}
	if os.Getenv("VSWITCH_REQUIRE_ROOT") == "1" {
		t.Fatal("this test needs root, and VSWITCH_REQUIRE_ROOT=1 says that it must run")
	}
	t.Skip("needs root")
}

// ours lists the namespaces of this process.
func ours(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return nil // no namespace was ever made
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), fmt.Sprintf("vswbench-%d-", os.Getpid())) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// TestRealPeers runs short cases of every sort over the peers that need nothing but the kernel:
//
//	A eth0 ==== p0 br0 p1 ==== eth0 B      A eth0 ==== eth0 B      A eth0 -- pump, two of them -- eth0 B
func TestRealPeers(t *testing.T) {
	needRoot(t)
	others, _ := filepath.Glob("/run/vswbench-*") // another run of bench or of this test
	allowed, err := lab.ReadSysctl("net.ipv4.tcp_allowed_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	o := defaults()
	o.rounds, o.seconds, o.retries, o.foreign = 1, 0.2, 0, 1
	o.peers = []string{"bridge", "veth", "naive", "bare"}
	o.cases = []string{"rr", "rr-sparse", "conn", "udp64", "udp64-v6", "udp-gso", "flows-1k", "idle"}
	cases, err := o.chooseCases()
	if err != nil {
		t.Fatal(err)
	}
	kinds, _, err := o.choosePeers()
	if err != nil {
		t.Fatal(err)
	}
	run, err := campaignOver(t.Context(), o, cases, kinds, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range run.Samples {
		if s.Error != "" && !s.Retired {
			t.Errorf("%s over %s: %s", s.Case, s.Peer, s.Error)
		}
		for _, never := range []string{"duplicates", "strangers"} {
			if s.Values[never] != 0 {
				t.Errorf("%s over %s: %v %s", s.Case, s.Peer, s.Values[never], never)
			}
		}
	}
	if want := 7*4 + 2; len(run.Samples) < want { // idle is for the pumps only
		t.Errorf("%d samples, want %d", len(run.Samples), want)
	}
	for _, row := range run.Rows {
		for _, cell := range row.Cells {
			if cell.Spread.N > 0 && cell.Spread.Median <= 0 && row.Case != "idle" && row.Metric.Name != "loss" {
				t.Errorf("%s over %s: median %v", row.Name(), cell.Peer, cell.Spread.Median)
			}
		}
	}
	if left := ours(t); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	if now, _ := lab.ReadSysctl("net.ipv4.tcp_allowed_congestion_control"); now != allowed && len(others) == 0 {
		t.Errorf("allowed congestion controls are %q, were %q", now, allowed)
	}
}

// TestRealTCP runs iperf3 under both congestion controls over a veth pair.
func TestRealTCP(t *testing.T) {
	needRoot(t)
	o := defaults()
	o.rounds, o.seconds, o.retries, o.foreign = 1, 1, 0, 1
	o.peers, o.cases = []string{"veth"}, []string{"tcp-bidir", "tcp1-v6-cubic"}
	cases, _ := o.chooseCases()
	kinds, _, _ := o.choosePeers()
	run, err := campaignOver(t.Context(), o, cases, kinds, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Samples) == 0 || run.Failed() > 0 {
		t.Errorf("samples %+v", run.Samples)
	}
}

// TestInterruptCleansUp cuts a run off in the middle of a sample.
func TestInterruptCleansUp(t *testing.T) {
	needRoot(t)
	o := defaults()
	o.rounds, o.seconds, o.retries = 1, 30, 0
	o.peers, o.cases = []string{"veth"}, []string{"udp64"}
	cases, _ := o.chooseCases()
	kinds, _, _ := o.choosePeers()
	ctx, cancel := context.WithCancel(t.Context())
	cut := make(chan time.Time, 1)
	// The progress line is written just before the sample starts.
	run, err := campaignOver(ctx, o, cases, kinds, nil, writer(func(p []byte) {
		if strings.HasPrefix(string(p), "round") {
			time.AfterFunc(100*time.Millisecond, func() {
				cut <- time.Now()
				cancel()
			})
		}
	}))
	if err == nil || run == nil || !run.Cut || len(run.Samples) != 0 {
		t.Errorf("error %v, run %+v; want a run that was cut and has no sample", err, run)
	}
	if took := time.Since(<-cut); took > 15*time.Second { // of the sample's 30
		t.Errorf("took %v to stop", took)
	}
	if left := ours(t); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
