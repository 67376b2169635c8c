package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run executes the command line and returns the exit status: 0 done, 1 something failed, 130 interrupted.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	// After the first signal the network is taken down; a second one ends the program at once, and the next start cleans up.
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bench: interrupted; everything has been removed")
		return 130
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
}

func newRoot() *cobra.Command {
	o := defaults()
	root := &cobra.Command{
		Use:   "bench",
		Short: "Compare vswitch with the kernel bridge and other peers",
		Long: `Bench builds the same little network, two containers and a switch between them, once per peer, measures every case on
every peer in interleaved rounds, and reports medians, ranges and the ratio to the kernel bridge.

It needs root, iproute2 and iperf3. All traffic stays inside network namespaces of its own, which it removes at the end.`,
		Example: `  bench --quick                                    # a few minutes, the main cases
  bench --json run.json --svg run.svg --markdown RESULTS.md
  bench --cases tcp1,rr,udp64 --peers bridge,vswitch --rounds 5
  bench --list                                     # the cases and the peers
  bench compare --seconds 3                        # side by side in 20 seconds
  bench growth                                     # what more flows, MACs and ports cost`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.list {
				return list(cmd.OutOrStdout())
			}
			if o.quick {
				o.hurry(cmd.Flags().Changed)
			}
			return measure(cmd.Context(), o)
		},
	}
	o.programFlags(root)
	flags := root.Flags()
	flags.IntVar(&o.rounds, "rounds", o.rounds, "how often every case is measured on every peer")
	flags.Float64Var(&o.seconds, "seconds", o.seconds, "length of a sample (iperf3 rounds up to whole seconds)")
	flags.StringSliceVar(&o.cases, "cases", nil, "cases to measure (default all), see --list")
	flags.StringSliceVar(&o.peers, "peers", nil, "peers to measure (default all that can be built), see --list")
	flags.BoolVar(&o.quick, "quick", false, "3 rounds of 1 s, the main cases and peers")
	flags.BoolVar(&o.list, "list", false, "list the cases and the peers and do nothing")
	flags.Float64Var(&o.foreign, "foreign", o.foreign, "share of the machine that others may use before a sample is thrown away")
	flags.StringVar(&o.underlay, "underlay", "raw", "cables to an outside: raw, as veths are, or nic, without segmentation offloads")
	flags.IntVar(&o.retries, "retries", o.retries, "how often a sample is taken again because of foreign load")
	flags.StringVar(&o.json, "json", "", "write everything, raw samples too, to this file")
	flags.StringVar(&o.svg, "svg", "", "write a plot of the ratios to this file")
	flags.StringVar(&o.markdown, "markdown", "", "write the tables as Markdown to this file")
	root.AddCommand(newCompare(), newGrowth(), newPump(), newBarePump(), newPatch(), newRelay(), newLoad())
	return root
}
