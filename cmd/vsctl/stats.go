package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) stats() *cobra.Command {
	return &cobra.Command{
		Use:     "stats",
		GroupID: groupLook,
		Short:   "Counters of ports, networks, connections and workers",
		Long: `Prints the counters of ports and of workers. RX is what came from a container, TX what went to it; packets count the segments of
super-frames, frames count reads and writes. DROPS are all losses; KERNEL-RX and KERNEL-TX are those of them that the kernel counted on
the way to and from us. Ports that were deleted are counted together. Of networks it tells what their MAC
tables did: EVICTED entries made room at a --mac-limit, DAMPED ones moved too often and were HELD. Of connections: those that made room are EVICTED,
for those REFUSED there was none; NO-PORT ones found no external port, SHARED ones use one that others have too.
A port marked "slow" takes long to be written to: a worker marked so serves it apart from others.`,
		Example: `  vsctl stats
  vsctl stats -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			s, err := c.Stats(ctx)
			if err != nil {
				return err
			}
			return a.print(s, func() {
				if s.Deleted.RxPackets+s.Deleted.TxPackets > 0 {
					s.Ports = append(s.Ports, s.Deleted)
				}
				a.portStats(s.Ports)
				fmt.Fprintln(a.out)
				a.networkStats(s.Networks)
				fmt.Fprintln(a.out)
				a.routerStats(s.Routers)
				fmt.Fprintln(a.out)
				a.table([]string{"DATAGRAMS-IN-FRAGMENTS", "BYTES"}, [][]string{counts(nil, uint64(s.Fragments.Datagrams), uint64(s.Fragments.Bytes))})
				fmt.Fprintln(a.out)
				a.connectionStats(&s.Connections)
				fmt.Fprintln(a.out)
				a.workerStats(s.Workers)
			})
		}),
	}
}

func (a *app) portStats(list []api.PortStats) {
	var rows [][]string
	for _, p := range list {
		var dropped uint64
		for _, n := range p.Drops {
			dropped += n
		}
		row := []string{p.Port, p.Network}
		rows = append(rows, counts(row, p.RxPackets, p.RxBytes, p.RxFrames, p.TxPackets, p.TxBytes, p.TxFrames, dropped,
			p.KernelRxDropped, p.KernelTxDropped))
		rows[len(rows)-1] = append(rows[len(rows)-1], workerName(p.Worker, p.Slow))
	}
	a.table([]string{"PORT", "NETWORK", "RX-PACKETS", "RX-BYTES", "RX-FRAMES", "TX-PACKETS", "TX-BYTES", "TX-FRAMES", "DROPS",
		"KERNEL-RX", "KERNEL-TX", "WORKER"}, rows)
}

func workerName(n int, slow bool) string {
	if slow {
		return strconv.Itoa(n) + " (slow)"
	}
	return strconv.Itoa(n)
}

func (a *app) workerStats(list []api.WorkerStats) {
	var rows [][]string
	for _, w := range list {
		row := []string{workerName(w.Worker, w.Quarantine), strconv.Itoa(w.Ports)}
		rows = append(rows, counts(row, w.Turns, w.Sleeps, w.SpinWins, w.FlowHits, w.FlowMisses, w.FlowInvalid, uint64(w.FlowEntries),
			w.Coalesced))
	}
	a.table([]string{"WORKER", "PORTS", "TURNS", "SLEEPS", "SPIN-WINS", "HITS", "MISSES", "INVALID", "FLOWS", "COALESCED"}, rows)
}

func (a *app) networkStats(list []api.NetworkStats) {
	var rows [][]string
	for _, n := range list {
		row := []string{n.Network, strconv.Itoa(n.MACs)}
		rows = append(rows, counts(row, n.Learned, n.Moved, n.Expired, n.EvictedPort, n.EvictedTable, n.RefusedStatic, n.Damped, n.Held, uint64(n.Rules), n.RuleAllowed, n.RuleDenied, n.RuleRejected))
	}
	a.table([]string{"NETWORK", "MACS", "LEARNED", "MOVED", "EXPIRED", "EVICTED-PORT", "EVICTED-NETWORK", "REFUSED-STATIC", "DAMPED",
		"HELD", "RULES", "ALLOWED", "DENIED", "REJECTED"}, rows)
}

func (a *app) routerStats(list []api.RouterStats) {
	var rows [][]string
	for _, r := range list {
		rows = append(rows, counts([]string{r.Router}, r.ErrorsSent, r.ErrorsHeld))
	}
	a.table([]string{"ROUTER", "ICMP-ERRORS", "HELD-BACK"}, rows)
}

func (a *app) connectionStats(c *api.ConnectionStats) {
	a.table([]string{"CONNECTIONS", "BYTES", "OPENED", "EXPIRED", "EVICTED", "REFUSED", "NO-PORT", "SHARED", "REPLACED"},
		[][]string{counts(nil, uint64(c.Connections), uint64(c.Bytes), c.Opened, c.Expired, c.Evicted, c.Refused, c.NoPort, c.Shared, c.Replaced)})
}

// counts appends numbers to a row of a table.
func counts(row []string, numbers ...uint64) []string {
	for _, n := range numbers {
		row = append(row, strconv.FormatUint(n, 10))
	}
	return row
}
