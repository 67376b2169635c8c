package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"vswitch/bench/lab"
	"vswitch/bench/load"
	"vswitch/bench/result"
)

// TestMain lets this test binary stand in for bench itself, which runs its generators and the naive pump as children.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "load" || os.Args[1] == "naive-pump" || os.Args[1] == "bare-pump" || os.Args[1] == "naive-relay") {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestHighestRate(t *testing.T) {
	// A switch that carries up to capacity and drops the rest; a sender that gets at most 1 000 000 out of the door.
	const fastest = 1e6
	tests := []struct {
		name     string
		capacity float64
		share    float64 // of its capacity that is left under overload: sending more may cost the receiver CPU
		want     float64
	}{
		{"no loss at all", 2e6, 1, fastest},
		{"drops the rest for free", 600_000, 1, 600_000},
		{"collapses under overload", 600_000, 0.3, 600_000},
		{"slow", 20_000, 0.5, 20_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			probes := 0
			got, err := highestRate(func(rate float64) (outcome, error) {
				probes++
				sent := min(rate, fastest)
				if rate == 0 {
					sent = fastest
				}
				received := sent
				if sent > test.capacity {
					received = test.capacity * test.share
				}
				return outcome{sent: sent, received: received, loss: 1 - received/sent}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-test.want) > 0.04*test.want {
				t.Errorf("found %.0f, want %.0f", got, test.want)
			}
			if probes > probeLimit {
				t.Errorf("%d probes, want at most %d", probes, probeLimit)
			}
		})
	}
}

func TestHighestRateForgivesAGlitch(t *testing.T) {
	probes := 0
	got, err := highestRate(func(rate float64) (outcome, error) {
		probes++
		switch {
		case rate == 0:
			return outcome{sent: 1000, received: 800, loss: 0.2}, nil
		case rate > 800:
			return outcome{sent: rate, received: 800, loss: 1 - 800/rate}, nil
		case probes == 2:
			return outcome{sent: rate, received: 0.97 * rate, loss: 0.03}, nil
		default:
			return outcome{sent: rate, received: rate}, nil
		}
	})
	if err != nil || got < 790 {
		t.Errorf("found %.0f, %v, want 800", got, err)
	}
}

func TestHighestRateStopsAtAnError(t *testing.T) {
	broken := errors.New("broken")
	if _, err := highestRate(func(float64) (outcome, error) { return outcome{}, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestAccount(t *testing.T) {
	o, v, err := account(load.UDPSent{Datagrams: 1000, Seconds: 1}, load.UDPReceived{Datagrams: 755, Unique: 750, Duplicates: 5, Reordered: 3, Seconds: 1.5})
	if err != nil {
		t.Fatal(err)
	}
	if o.sent != 1000 || o.received != 500 || o.loss != 0.25 {
		t.Errorf("%+v, want 1000 sent, 500 received (the tail came late), a quarter lost", o)
	}
	if v["duplicates"] != 5 || v["reordered"] != 3 || v["loss"] != 25 {
		t.Errorf("values %v", v)
	}
	if _, _, err := account(load.UDPSent{Datagrams: 10, Seconds: 1}, load.UDPReceived{Strangers: 3}); err == nil {
		t.Error("nothing arrived and no error")
	}
	if _, _, err := account(load.UDPSent{Seconds: 1}, load.UDPReceived{}); err == nil {
		t.Error("nothing sent and no error")
	}
}

func TestPerFrame(t *testing.T) {
	u := used{wall: 2, machine: 1.5, sw: 0.5} // seconds, cores
	for _, test := range []struct {
		peer *lab.Peer
		want values
	}{
		{&lab.Peer{Switch: &lab.Child{}}, values{"machine": 30_000, "switch": 10_000}},
		{&lab.Peer{}, values{"machine": 30_000}}, // the kernel switches
	} {
		got := values{}
		u.perFrame(got, test.peer, 100_000)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOrderAlternates(t *testing.T) {
	a, b, c := &lab.Peer{A: "a"}, &lab.Peer{A: "b"}, &lab.Peer{A: "c"}
	first := map[*lab.Peer]int{}
	for round := range 6 {
		ordered := order([]*lab.Peer{a, b, c}, round)
		if len(ordered) != 3 || !slices.Contains(ordered, a) || !slices.Contains(ordered, b) || !slices.Contains(ordered, c) {
			t.Fatalf("round %d has not every peer once", round)
		}
		first[ordered[0]]++
	}
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 2, "c": 2}, map[string]int{"a": first[a], "b": first[b], "c": first[c]}); diff != "" {
		t.Errorf("who comes first over six rounds: %s", diff)
	}
}

func TestQuieter(t *testing.T) {
	clean, noisy := &result.Sample{Foreign: 0.01}, &result.Sample{Foreign: 0.2}
	failed := &result.Sample{Error: "x"}
	if !quieter(clean, noisy) || quieter(noisy, clean) || !quieter(noisy, failed) || quieter(failed, noisy) {
		t.Error("want clean before noisy before failed")
	}
}

func TestChoosePeers(t *testing.T) {
	there := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(there, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "") // no Open vSwitch, wherever the test runs
	missing := lab.Programs{Vswitchd: there + "-missing", Vsctl: there}
	tests := []struct {
		name     string
		peers    []string
		programs lab.Programs
		want     string
		notes    int
		fails    string
	}{
		{"asked for", []string{"veth", "bridge"}, missing, "bridge veth", 0, ""},
		{"unknown", []string{"ovs"}, missing, "", 0, `no peer "ovs"`},
		{"asked for and missing", []string{"bridge", "vswitch"}, missing, "", 0, "program-missing"},
		{"all, some missing", nil, missing, "bridge veth naive", 9, ""},
		{"quick, some missing", nil, missing, "bridge veth naive", 2, ""},
		{"all there", []string{"bridge", "vswitch-nospin"}, lab.Programs{Vswitchd: there, Vsctl: there}, "bridge vswitch-nospin", 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := &options{peers: test.peers, programs: test.programs, quick: strings.HasPrefix(test.name, "quick")}
			kinds, notes, err := o.choosePeers()
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v, want one with %q", err, test.fails)
				}
				return
			}
			var names []string
			for _, kind := range kinds {
				names = append(names, kind.Name)
			}
			if got := strings.Join(names, " "); err != nil || got != test.want || len(notes) != test.notes {
				t.Errorf("peers %q, %d notes, error %v; want %q, %d notes", got, len(notes), err, test.want, test.notes)
			}
		})
	}
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range catalogue {
		if seen[c.Name] || c.Name == "" || c.About == "" || len(c.Metrics) == 0 || c.run == nil || c.cost == nil {
			t.Errorf("case %q is incomplete or there twice", c.Name)
		}
		seen[c.Name] = true
		for _, metric := range c.Metrics {
			if metric.Name == "" || metric.Unit == "" || metric.About == "" || metric.Better == "" {
				t.Errorf("case %s: metric %+v is incomplete", c.Name, metric)
			}
		}
	}
	for _, name := range compareCases {
		if !seen[name] {
			t.Errorf("compare wants case %q, which is not there", name)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no description", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			check(child)
		}
	}
	check(newRoot())
}

func TestCPUModel(t *testing.T) {
	text := "processor\t: 0\nmodel name\t: Good CPU @ 2 GHz\nflags\t\t: fpu %s avx\n\nprocessor\t: 1\nmodel name\t: Other\n"
	for flag, want := range map[string]bool{"hypervisor": true, "sse": false} {
		model, virtual := cpuModel(fmt.Sprintf(text, flag))
		if model != "Good CPU @ 2 GHz" || virtual != want {
			t.Errorf("flag %s: %q, virtual %v", flag, model, virtual)
		}
	}
	if model, _ := cpuModel(""); model != "unknown CPU" {
		t.Errorf("no text gives %q", model)
	}
}
