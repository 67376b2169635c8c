package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"vswitch/bench/report"
	"vswitch/bench/result"
	"vswitch/bench/stat"
)

// dimension is something that grows: what is measured small and large, each a case over a peer.
type dimension struct {
	about        string
	small, large place
	metric       string
	peers        pair
}

// place is where a value comes from. The peer's name starts with the switch's, which is put before it.
type place struct{ suffix, test string }

// pair is the kernel and vswitch as something that forwards.
type pair [2]string

var (
	switching    = pair{"bridge", "vswitch"}
	masquerading = pair{"kernel-masquerade", "vswitch-masquerade"}

	// Without the coalescer a lone flow costs what one of many does.
	uncoalesced     = pair{"", "vswitch-nocoalesce"}
	masqUncoalesced = pair{"", "vswitch-masquerade-nocoalesce"}
)

// dimensions of growth.
var dimensions = slices.Concat(
	flows("flow", switching),
	flows("masqueraded connection", masquerading),
	flows("flow, --coalesce=off", uncoalesced),
	flows("masqueraded connection, --coalesce=off", masqUncoalesced),
	[]dimension{
		{"one to 100 MAC addresses", place{"", "flows-1"}, place{"", "macs-100"}, "received", switching},
		{"one to 16,000 MAC addresses", place{"", "flows-1"}, place{"", "macs-16k"}, "received", switching},
		{"100,000 flows to 16,000 MAC addresses and flows", place{"", "flows-100k"}, place{"", "macs-16k"}, "received", switching},
		{"two to 102 ports: 64-byte frames", place{"", "udp64"}, place{"-100", "udp64"}, "received", switching},
		{"two to 1002 ports: 64-byte frames", place{"", "udp64"}, place{"-1000", "udp64"}, "received", switching},
		{"two to 102 ports: TCP", place{"", "tcp1"}, place{"-100", "tcp1"}, "rate", switching},
		{"two to 1002 ports: TCP", place{"", "tcp1"}, place{"-1000", "tcp1"}, "rate", switching},
		{"two to 102 ports: request/response", place{"", "rr"}, place{"-100", "rr"}, "p50", switching},
		{"two to 1002 ports: request/response", place{"", "rr"}, place{"-1000", "rr"}, "p50", switching},
	},
)

// flows returns how a frame's cost grows with flows, at full rate and at one that all carry. At full rate both cores are busy all the time: what a
// frame takes of the whole machine is the inverse of their number, a frame that is lost takes its sender's time all the same, and whose threads come
// to lie on which core decides more than what they do.
func flows(what string, peers pair) []dimension {
	var ds []dimension
	for _, cost := range []struct{ about, metric, rate string }{
		{"time at full rate", "received", ""},
		{"CPU of the switch at full rate", "switch", ""},
		{"CPU of the switch at 60 kpps", "switch", "-60k"},
		{"CPU of the machine at 60 kpps", "machine", "-60k"},
	} {
		for _, step := range []struct{ about, small, large string }{
			{"one to 1000", "flows-1", "flows-1k"},
			{"one to 100,000", "flows-1", "flows-100k"},
			{"1000 to 100,000", "flows-1k", "flows-100k"},
		} {
			ds = append(ds, dimension{
				fmt.Sprintf("%s, %s: %s", what, cost.about, step.about),
				place{"", step.small + cost.rate}, place{"", step.large + cost.rate}, cost.metric, peers,
			})
		}
	}
	return ds
}

func newGrowth() *cobra.Command {
	o := defaults()
	o.seconds = 1
	o.peers = []string{"bridge", "vswitch", "bridge-100", "vswitch-100", "bridge-1000", "vswitch-1000", "kernel-masquerade", "vswitch-masquerade",
		"vswitch-nocoalesce", "vswitch-masquerade-nocoalesce"}
	o.cases = []string{"tcp1", "rr", "udp64", "flows-1", "flows-1k", "flows-100k", "flows-1-60k", "flows-1k-60k", "flows-100k-60k",
		"macs-100", "macs-16k"}
	cmd := &cobra.Command{
		Use:   "growth",
		Short: "Show what more flows, MAC addresses and ports cost a frame",
		Long: `Growth measures with 1 and with 100,000 flows, from one MAC address and from 16,000, with two ports and with 1002, over
the kernel bridge and over vswitch, and prints by what factor the time of a frame grows, and the CPU time that it takes. It lasts about twenty minutes.`,
		Example: "  bench growth --rounds 3",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return growth(cmd, o) },
	}
	o.programFlags(cmd)
	cmd.Flags().IntVar(&o.rounds, "rounds", o.rounds, "how often every case is measured on every peer")
	cmd.Flags().Float64Var(&o.seconds, "seconds", o.seconds, "length of a sample")
	cmd.Flags().Float64Var(&o.foreign, "foreign", o.foreign, "share of the machine that others may use before a sample is thrown away")
	cmd.Flags().StringVar(&o.json, "json", "", "write everything, raw samples too, to this file")
	cmd.Flags().StringSliceVar(&o.peers, "peers", o.peers, "over whom to measure")
	cmd.Flags().StringSliceVar(&o.cases, "cases", o.cases, "what to measure")
	return cmd
}

func growth(cmd *cobra.Command, o *options) error {
	run, err := campaignOf(cmd.Context(), o)
	if err != nil {
		return err
	}
	if err := publish(run, o); err != nil {
		return err
	}
	return growthTable(cmd.OutOrStdout(), run)
}

// growthTable prints a line for each dimension that was measured: by what factor the time of a frame, or the CPU
// time that it takes, grows, median of the rounds, lowest and highest.
func growthTable(w io.Writer, run *result.Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "\nTime of a frame\t")
	fmt.Fprintln(t, "the kernel\tvswitch\t")
	for _, d := range dimensions {
		cells, measured := "", false
		for _, peer := range d.peers {
			s := d.growth(run, peer)
			if s.N == 0 {
				cells += "-\t"
				continue
			}
			measured = true
			cells += fmt.Sprintf("%s (%s..%s)\t", report.Ratio(s.Median), report.Ratio(s.Min), report.Ratio(s.Max))
		}
		if measured {
			fmt.Fprintf(t, "%s\t%s\n", d.about, cells)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// growth returns by what factor the time of a frame grew in each round.
func (d *dimension) growth(run *result.Run, peer string) stat.Spread {
	small, better := run.Values(d.small.test, peer+d.small.suffix, d.metric)
	large, _ := run.Values(d.large.test, peer+d.large.suffix, d.metric)
	if better == result.Higher { // a rate: its inverse is a time
		small, large = large, small
	}
	return stat.Of(stat.PairedRatios(large, small))
}
