package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"vswitch/bench/lab"
	"vswitch/bench/load"
	"vswitch/bench/patch"
	"vswitch/bench/pump"
	"vswitch/bench/relay"
)

// The generators are commands of this program, so that they can run as processes of their own inside a container. They say
// "ready" when they are, and print their report as one line of JSON when they end. A server ends when its input is closed,
// which also happens when its parent dies.

// target is an address and port as a flag.
type target struct{ netip.AddrPort }

func (t *target) Set(text string) (err error) {
	t.AddrPort, err = netip.ParseAddrPort(text)
	return err
}
func (t *target) Type() string { return "ADDR:PORT" }
func (t *target) String() string {
	if !t.IsValid() {
		return ""
	}
	return t.AddrPort.String()
}

// generator is what the load commands share.
type generator struct {
	at    target
	core  int
	limit time.Duration
}

func newLoad() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "load",
		Short:   "Generate or receive traffic (run by bench inside its containers)",
		Example: "  ip netns exec A bench load udp-send --to 10.0.0.2:9000 --payload 18 --seconds 2",
		Hidden:  true,
	}
	cmd.AddCommand(newUDPSend(), newUDPReceive(), newSpray(), newRRClient(), newRRServer(), newConnClient(), newConnServer(), newSysctl())
	return cmd
}

// command makes a load command around a function that gets the flags' values and returns a report.
func (g *generator) command(use, short, example, address string, loops int, do func(stop *atomic.Bool) (any, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  bench load " + use + " " + example, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			load.Setup(loops, g.limit)
			if err := load.Hot(g.core); err != nil {
				return err
			}
			report, err := do(closed(os.Stdin))
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(report)
		},
	}
	cmd.Flags().Var(&g.at, address, "the address and port")
	cmd.Flags().DurationVar(&g.limit, "limit", time.Minute, "exit after this time, whatever happens")
	if err := cmd.MarkFlagRequired(address); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

func (g *generator) coreFlag(cmd *cobra.Command) {
	cmd.Flags().IntVar(&g.core, "core", -1, "pin to this core")
}

// closed returns a flag that is set when the input ends.
func closed(r io.Reader) *atomic.Bool {
	var stop atomic.Bool
	go func() { // lives as long as the process
		io.Copy(io.Discard, bufio.NewReader(r))
		stop.Store(true)
	}()
	return &stop
}

func ready() { fmt.Println("ready") }

func newUDPSend() *cobra.Command {
	g, send := &generator{core: -1}, load.UDPSend{}
	var seconds float64
	cmd := g.command("udp-send", "Send numbered datagrams", "--to 10.0.0.2:9000 --payload 1400 --rate 100000 --seconds 2", "to", 1,
		func(*atomic.Bool) (any, error) {
			send.To, send.Duration = g.at.AddrPort, duration(seconds)
			return send.Run(ready)
		})
	cmd.Flags().Float64Var(&seconds, "seconds", 2, "how long to send")
	cmd.Flags().Uint32Var(&send.Flow, "flow", 1, "number of the run")
	cmd.Flags().IntVar(&send.Payload, "payload", 18, "bytes of payload")
	cmd.Flags().IntVar(&send.Segments, "segments", 1, "datagrams to a send (UDP_SEGMENT)")
	cmd.Flags().Float64Var(&send.Rate, "rate", 0, "datagrams a second; 0: as fast as it goes")
	return cmd
}

func newUDPReceive() *cobra.Command {
	g, receive := &generator{core: -1}, load.UDPReceive{}
	cmd := g.command("udp-recv", "Receive and count numbered datagrams until the input is closed", "--listen 10.0.0.2:9000 --payload 1400", "listen", 1,
		func(stop *atomic.Bool) (any, error) {
			receive.Listen, receive.Limit = g.at.AddrPort, g.limit
			return receive.Run(ready, stop)
		})
	cmd.Flags().Uint32Var(&receive.Flow, "flow", 1, "number of the run")
	cmd.Flags().IntVar(&receive.Payload, "payload", 18, "bytes of payload")
	cmd.Flags().BoolVar(&receive.GRO, "gro", false, "take several datagrams at once (UDP_GRO)")
	return cmd
}

func newSpray() *cobra.Command {
	g, spray := &generator{core: -1}, load.Spray{}
	var seconds float64
	cmd := g.command("spray", "Send numbered datagrams of many flows or from many MAC addresses", "--to 10.0.0.2:9000 --flows 100000 --seconds 2", "to", 1,
		func(*atomic.Bool) (any, error) {
			spray.To, spray.Duration = g.at.AddrPort, duration(seconds)
			return spray.Run(ready)
		})
	cmd.Flags().Float64Var(&seconds, "seconds", 2, "how long to send")
	cmd.Flags().TextVar(&spray.Via, "via", netip.Addr{}, "neighbor that routes to the address")
	cmd.Flags().StringVar(&spray.Device, "device", "eth0", "where to send")
	cmd.Flags().Uint32Var(&spray.Flow, "flow", 1, "number of the run")
	cmd.Flags().IntVar(&spray.Payload, "payload", 18, "bytes of payload")
	cmd.Flags().IntVar(&spray.Flows, "flows", 1, "different flows, in turn")
	cmd.Flags().Float64Var(&spray.Rate, "rate", 0, "datagrams a second; 0: as fast as it goes")
	cmd.Flags().IntVar(&spray.Servers, "servers", 1, "different destinations, in turn: the address and those that follow it")
	cmd.Flags().IntVar(&spray.MACs, "macs", 1, "different source MAC addresses, in turn; 1: the device's own")
	return cmd
}

func newRRClient() *cobra.Command {
	g, rr := &generator{}, load.RR{}
	var seconds float64
	cmd := g.command("rr-client", "Exchange single bytes over a TCP connection", "--to 10.0.0.2:9000 --seconds 2 --core 0", "to", 1,
		func(*atomic.Bool) (any, error) {
			rr.To, rr.Duration = g.at.AddrPort, duration(seconds)
			return rr.Run(ready)
		})
	g.coreFlag(cmd)
	cmd.Flags().Float64Var(&seconds, "seconds", 2, "how long")
	cmd.Flags().DurationVar(&rr.Gap, "gap", 0, "pause between transactions")
	return cmd
}

func newRRServer() *cobra.Command {
	g := &generator{}
	cmd := g.command("rr-server", "Answer rr-client until the input is closed", "--listen 10.0.0.2:9000 --core 1", "listen", 1,
		func(stop *atomic.Bool) (any, error) { return nil, load.ServeRR(g.at.AddrPort, ready, stop) })
	g.coreFlag(cmd)
	return cmd
}

func newConnClient() *cobra.Command {
	g, conn := &generator{core: -1}, load.Conn{}
	var seconds float64
	cmd := g.command("conn-client", "Open and close TCP connections", "--to 10.0.0.2:9000 --clients 8 --seconds 2", "to", 16,
		func(*atomic.Bool) (any, error) {
			conn.To, conn.Duration = g.at.AddrPort, duration(seconds)
			return conn.Run(ready)
		})
	cmd.Flags().Float64Var(&seconds, "seconds", 2, "how long")
	cmd.Flags().IntVar(&conn.Clients, "clients", 8, "connections at the same time, 16 at most")
	cmd.Flags().IntVar(&conn.Addresses, "addresses", 1, "servers' addresses in turn, from the given one on, 64 at most")
	return cmd
}

func newConnServer() *cobra.Command {
	g := &generator{core: -1}
	var threads int
	cmd := g.command("conn-server", "Answer conn-client until the input is closed", "--listen 10.0.0.2:9000 --threads 8", "listen", 16,
		func(stop *atomic.Bool) (any, error) { return nil, load.ServeConn(g.at.AddrPort, threads, ready, stop) })
	cmd.Flags().IntVar(&threads, "threads", 8, "connections served at the same time, 16 at most")
	return cmd
}

func newSysctl() *cobra.Command {
	return &cobra.Command{
		Use: "sysctl KEY=VALUE...", Short: "Change kernel settings of the namespace", Args: cobra.MinimumNArgs(1),
		Example: "  ip netns exec A bench load sysctl net.ipv4.tcp_congestion_control=cubic",
		RunE: func(_ *cobra.Command, settings []string) error {
			for _, setting := range settings {
				key, value, ok := strings.Cut(setting, "=")
				if !ok {
					return fmt.Errorf("setting %q: want KEY=VALUE", setting)
				}
				if err := lab.WriteSysctl(key, value); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newPump() *cobra.Command {
	cmd := pumpCommand(func(names []string) (runner, error) { return pump.Open(names...) })
	cmd.Use, cmd.Short = "naive-pump NAME NAME...", "Switch between new TAPs as one would at first (run by bench)"
	cmd.Example, cmd.Args = "  bench naive-pump tap0 tap1", cobra.MinimumNArgs(2)
	return cmd
}

func newBarePump() *cobra.Command {
	cmd := pumpCommand(func(names []string) (runner, error) { return pump.OpenBare(names[0], names[1]) })
	cmd.Use, cmd.Short = "bare-pump NAME NAME", "Read from each of two new TAPs and write to the other (run by bench)"
	cmd.Example, cmd.Args = "  bench bare-pump tap0 tap1", cobra.ExactArgs(2)
	return cmd
}

type runner interface{ Run() error }

// pumpCommand runs a pump until the input is closed.
func pumpCommand(open func(names []string) (runner, error)) *cobra.Command {
	return &cobra.Command{
		Hidden: true,
		RunE: func(_ *cobra.Command, names []string) error {
			p, err := open(names)
			if err != nil {
				return err
			}
			go func() { // lives as long as the process
				io.Copy(io.Discard, os.Stdin)
				os.Exit(0)
			}()
			ready()
			return p.Run()
		},
	}
}

func newPatch() *cobra.Command {
	return &cobra.Command{
		Use: "patch NAME NAME", Short: "Join two interfaces within the kernel until the input is closed (run by bench)", Hidden: true,
		Example: "  bench patch p0 p1", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, names []string) error {
			p, err := patch.Join(names[0], names[1])
			if err != nil {
				return err
			}
			defer p.Close()
			ready()
			_, err = io.Copy(io.Discard, os.Stdin)
			return err
		},
	}
}

func newRelay() *cobra.Command {
	var first, last uint16
	cmd := &cobra.Command{
		Use: "naive-relay FROM=TO...", Short: "Relay TCP ports between two sockets (run by bench)", Hidden: true,
		Example: "  bench naive-relay --first 8000 --last 8010 192.0.2.1=10.0.0.2", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var ways []relay.Way
			for _, arg := range args {
				from, to, _ := strings.Cut(arg, "=")
				way := relay.Way{}
				var errFrom, errTo error
				way.From, errFrom = netip.ParseAddr(from)
				way.To, errTo = netip.ParseAddr(to)
				if err := errors.Join(errFrom, errTo); err != nil {
					return fmt.Errorf("relay %q: want FROM=TO: %w", arg, err)
				}
				ways = append(ways, way)
			}
			go func() { // lives as long as the process
				io.Copy(io.Discard, os.Stdin)
				os.Exit(0)
			}()
			return relay.Listen(ways, first, last, ready)
		},
	}
	cmd.Flags().Uint16Var(&first, "first", lab.FirstPort, "first port")
	cmd.Flags().Uint16Var(&last, "last", lab.LastPort, "last port")
	return cmd
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
