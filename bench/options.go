package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/bench/lab"
)

// options are what the command line asks for.
type options struct {
	programs lab.Programs
	rounds   int
	seconds  float64
	cases    []string
	peers    []string
	quick    bool
	list     bool
	foreign  float64
	retries  int
	json     string
	svg      string
	markdown string
	underlay string
}

func defaults() *options {
	o := &options{rounds: 9, seconds: 2, foreign: 0.08, retries: 2}
	if self, err := os.Executable(); err == nil {
		o.programs = lab.Programs{
			Bench:    self,
			Vswitchd: filepath.Join(filepath.Dir(self), "vswitchd"),
			Vsctl:    filepath.Join(filepath.Dir(self), "vsctl"),
		}
	}
	return o
}

func (o *options) programFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.programs.Vswitchd, "vswitchd", o.programs.Vswitchd, "the daemon to measure")
	cmd.Flags().StringVar(&o.programs.Vsctl, "vsctl", o.programs.Vsctl, "its client")
	// The default is an absolute path of whoever asks for help; say where it comes from instead.
	cmd.Flags().Lookup("vswitchd").DefValue = "vswitchd beside bench"
	cmd.Flags().Lookup("vsctl").DefValue = "vsctl beside bench"
}

// quickPeers are the peers of --quick: those whose comparison answers the first question.
var quickPeers = []string{"bridge", "veth", "naive", "vswitch", "vswitch-veth"}

// hurry sets what --quick means, except what was given on the command line.
func (o *options) hurry(given func(flag string) bool) {
	if !given("rounds") {
		o.rounds = 3
	}
	if !given("seconds") {
		o.seconds = 1
	}
	if !given("cases") {
		for _, c := range catalogue {
			if c.main {
				o.cases = append(o.cases, c.Name)
			}
		}
	}
}

func (o *options) check() error {
	switch {
	case o.rounds < 1:
		return fmt.Errorf("--rounds %d: at least 1 is needed", o.rounds)
	case o.seconds < 0.2 || o.seconds > 60:
		return fmt.Errorf("--seconds %v: must lie between 0.2 and 60", o.seconds)
	case o.underlay != "" && o.underlay != "raw" && o.underlay != "nic":
		return fmt.Errorf("--underlay %q: use raw or nic", o.underlay)
	case o.retries < 0:
		return fmt.Errorf("--retries %d: must not be negative", o.retries)
	case os.Geteuid() != 0:
		return errors.New("bench makes network namespaces: run it as root")
	}
	o.programs.NIC = o.underlay == "nic"
	return lab.CheckTools()
}

// chooseCases returns the cases asked for, in the catalogue's order.
func (o *options) chooseCases() ([]benchCase, error) {
	if len(o.cases) == 0 {
		return catalogue, nil
	}
	return choose("case", catalogue, o.cases, func(c benchCase) string { return c.Name })
}

// choosePeers returns the kinds of peers to build, and a note for each that was left out. A peer that was asked for by name
// and cannot be built is an error.
func (o *options) choosePeers() (kinds []lab.Kind, notes []string, err error) {
	if len(o.peers) > 0 {
		kinds, err = choose("peer", lab.Kinds, o.peers, func(k lab.Kind) string { return k.Name })
		for _, kind := range kinds {
			err = errors.Join(err, kind.Available(o.programs))
		}
		return kinds, nil, err
	}
	for _, kind := range lab.Kinds {
		if kind.Special() || o.quick && !slices.Contains(quickPeers, kind.Name) {
			continue
		}
		if err := kind.Available(o.programs); err != nil {
			notes = append(notes, fmt.Sprintf("skipped: %v", err))
			continue
		}
		kinds = append(kinds, kind)
	}
	return kinds, notes, nil
}

// choose picks the named ones of all, in their own order.
func choose[T any](what string, all []T, names []string, name func(T) string) ([]T, error) {
	known := make([]string, 0, len(all))
	var chosen []T
	for _, item := range all {
		known = append(known, name(item))
		if slices.Contains(names, name(item)) {
			chosen = append(chosen, item)
		}
	}
	for _, asked := range names {
		if !slices.Contains(known, asked) {
			return nil, fmt.Errorf("no %s %q: there are %s", what, asked, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
