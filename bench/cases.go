package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"vswitch/bench/iperf"
	"vswitch/bench/lab"
	"vswitch/bench/result"
)

// benchCase is a case and how it is measured.
type benchCase struct {
	result.Case
	main     bool // part of --quick
	cubic    bool // needs cubic beside the machine's default congestion control
	cores    int  // needs so many cores
	attaches bool // connects more containers: not for peers that can't
	many     bool // connects to many addresses: for peers whose servers have them
	v6       bool // not for peers without IPv6
	udp      bool // not for peers that carry nothing but TCP
	switches bool // measures the process that switches: not for peers without one
	cost     func(seconds float64) float64
	run      func(s *session, ctx context.Context, p *lab.Peer) (values, error)
}

// catalogue holds all cases in the order in which they are measured and reported.
var catalogue = []benchCase{
	tcpCase("tcp1", "TCP, one stream", transfer{streams: 1}, true),
	tcpCase("tcp4", "TCP, four streams", transfer{streams: 4}, true),
	tcpCase("tcp-bidir", "TCP, a stream each way", transfer{streams: 1, both: true}, false),
	tcpCase("tcp1-v6", "TCP over IPv6, one stream", transfer{streams: 1, v6: true}, false),
	tcpCase("tcp1-cubic", "TCP, one stream", transfer{streams: 1, cubic: true}, true),
	tcpCase("tcp4-cubic", "TCP, four streams", transfer{streams: 4, cubic: true}, false),
	tcpCase("tcp-bidir-cubic", "TCP, a stream each way", transfer{streams: 1, both: true, cubic: true}, false),
	tcpCase("tcp1-v6-cubic", "TCP over IPv6, one stream", transfer{streams: 1, v6: true, cubic: true}, false),
	rrCase("rr", "TCP request/response of one byte", exchange{}, true),
	rrCase("rr-v6", "TCP request/response over IPv6", exchange{v6: true}, false),
	rrCase("rr-2cores", "TCP request/response, client and server pinned to a core each", exchange{pins: 2}, false),
	rrCase("rr-1core", "TCP request/response, client and server pinned to the same core", exchange{pins: 1}, false),
	rrCase("rr-sparse", "TCP request/response with 0.5 ms between transactions", exchange{sparse: true}, true),
	connCase("conn", 1, "TCP connections, one after the other: connect, a byte each way, reset"),
	connCase("conn8", 8, "the same by 8 clients at once"),
	conn16Case,
	floodCase("udp64", "64-byte frames as fast as the sender can", flood{payload: 18}, true),
	floodCase("udp64-v6", "18 bytes of UDP payload over IPv6 as fast as the sender can", flood{payload: 18, v6: true}, false),
	floodCase("udp1400", "1400 bytes of UDP payload as fast as the sender can", flood{payload: 1400}, true),
	gsoCase,
	searchCase("udp64-1pct", "64-byte frames at the highest rate with at most 1 % loss", 18),
	searchCase("udp1400-1pct", "1400 bytes of UDP payload at the highest rate with at most 1 % loss", 1400),
	rateCase("udp64-300k", "64-byte frames at 300 kpps", 300_000, false),
	rateCase("udp64-100k", "64-byte frames at 100 kpps", 100_000, true),
	rateCase("udp64-10k", "64-byte frames at 10 kpps, one by one", 10_000, true),
	idleCase,
	sprayCase("flows-1", "one flow, by the sender of the cases below, as fast as it can,", spray{flows: 1, macs: 1}),
	sprayCase("flows-1k", "1000 flows, as fast as the sender can,", spray{flows: 1000, macs: 1}),
	sprayCase("flows-100k", "100,000 flows, as fast as the sender can,", spray{flows: 100_000, macs: 1}),
	sprayCase("flows-1-60k", "one flow, at 60 kpps,", spray{flows: 1, macs: 1, rate: 60_000}),
	sprayCase("flows-1k-60k", "1000 flows, at 60 kpps,", spray{flows: 1000, macs: 1, rate: 60_000}),
	sprayCase("flows-100k-60k", "100,000 flows, at 60 kpps,", spray{flows: 100_000, macs: 1, rate: 60_000}),
	sprayCase("macs-100", "100 flows, each from its own MAC address, as fast as the sender can,", spray{flows: 100, macs: 100}),
	sprayCase("macs-16k", "16,000 flows, each from its own MAC address, as fast as the sender can,", spray{flows: 16_000, macs: 16_000}),
	attachCase,
}

// list prints the cases and the peers.
func list(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CASE\tQUICK\tWHAT")
	for _, c := range catalogue {
		quick := ""
		if c.main {
			quick = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.Name, quick, c.About)
	}
	fmt.Fprintln(t, "\nPEER\t\tWHAT")
	for _, kind := range lab.Kinds {
		fmt.Fprintf(t, "%s\t\t%s\n", kind.Name, kind.About)
	}
	return t.Flush()
}

// transfer describes a TCP case.
type transfer struct {
	streams         int
	both, v6, cubic bool
}

func tcpCase(name, about string, tr transfer, main bool) benchCase {
	if tr.cubic {
		about += ", cubic, not paced"
	} else {
		about += ", the machine's congestion control"
	}
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "rate", Unit: "Gbit/s", About: "received", Better: result.Higher, Plot: true},
			{Name: "machine", Unit: "ms/Gbit", About: "CPU of the whole machine per Gbit", Better: result.Lower},
			{Name: "switch", Unit: "ms/Gbit", About: "CPU of the switching process per Gbit", Better: result.Lower},
		}},
		main:  main,
		cubic: tr.cubic,
		v6:    tr.v6,
		cost:  func(seconds float64) float64 { return float64(iperf.WholeSeconds(seconds)) + 0.2 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.transfer(ctx, p, tr)
		},
	}
}

// exchange describes a request/response case.
type exchange struct {
	v6     bool
	pins   int // 0: neither is pinned; 1: both to the same core; 2: to a core each
	sparse bool
}

func rrCase(name, about string, ex exchange, main bool) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "p50", Unit: "us", About: "median time of a transaction", Better: result.Lower, Plot: true},
			{Name: "p99", Unit: "us", About: "99th percentile", Better: result.Lower, Plot: true},
		}},
		main:  main,
		cores: ex.pins,
		v6:    ex.v6,
		cost:  func(seconds float64) float64 { return seconds + 0.4 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.exchange(ctx, p, ex)
		},
	}
}

func connCase(name string, clients int, about string) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "rate", Unit: "1/s", About: "connections a second", Better: result.Higher, Plot: true},
		}},
		main: true,
		cost: func(seconds float64) float64 { return seconds + 0.4 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.connections(ctx, p, clients, 1)
		},
	}
}

// conn16Case is about what translates: whether a port that is in use towards one destination serves another one.
var conn16Case = benchCase{
	Case: result.Case{Name: "conn-16to", About: "the same by one client to sixteen addresses in turn", Metrics: []result.Metric{
		{Name: "rate", Unit: "1/s", About: "connections a second", Better: result.Higher, Plot: true},
	}},
	many: true,
	cost: func(seconds float64) float64 { return seconds + 0.4 },
	run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
		return s.connections(ctx, p, 1, lab.ManyAddresses)
	},
}

// flood describes a UDP case at full rate.
type flood struct {
	payload int
	v6      bool
}

func floodCase(name, about string, fl flood, main bool) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "received", Unit: "kpps", About: "different datagrams received", Better: result.Higher, Plot: true},
			{Name: "sent", Unit: "kpps", About: "datagrams sent", Better: result.Neither},
		}},
		main: main,
		udp:  true,
		v6:   fl.v6,
		cost: func(seconds float64) float64 { return seconds + 0.4 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			_, v, err := s.datagrams(ctx, p, stream{payload: fl.payload, v6: fl.v6, seconds: s.seconds})
			return v, err
		},
	}
}

// spray describes datagrams of many flows in turn.
type spray struct {
	flows, macs int
	rate        float64 // 0: as fast as the sender can
}

func sprayCase(name, about string, sp spray) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: "64-byte frames of " + about + " in turn", Metrics: []result.Metric{
			{Name: "received", Unit: "kpps", About: "different datagrams received", Better: result.Higher, Plot: sp.rate == 0},
			{Name: "sent", Unit: "kpps", About: "datagrams sent", Better: result.Neither},
			{Name: "loss", Unit: "%", About: "datagrams lost", Better: result.Lower},
			{Name: "machine", Unit: "ns/frame", About: "CPU of the whole machine, generators too, per datagram received", Better: result.Lower},
			{Name: "switch", Unit: "ns/frame", About: "CPU of the switching process per datagram received", Better: result.Lower},
		}},
		udp:  true,
		cost: func(seconds float64) float64 { return seconds + 0.4 + float64(sp.flows)/30_000 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.spray(ctx, p, stream{payload: 18, flows: sp.flows, macs: sp.macs, rate: sp.rate, seconds: s.seconds})
		},
	}
}

var gsoCase = benchCase{
	Case: result.Case{Name: "udp-gso", About: "46 datagrams of 1400 bytes to a send (UDP_SEGMENT), received by UDP_GRO", Metrics: []result.Metric{
		{Name: "received", Unit: "Gbit/s", About: "payload received", Better: result.Higher, Plot: true},
		{Name: "sent", Unit: "Gbit/s", About: "payload sent", Better: result.Neither},
	}},
	udp:  true,
	cost: func(seconds float64) float64 { return seconds + 0.4 },
	run:  (*session).segments,
}

func searchCase(name, about string, payload int) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "received", Unit: "kpps", About: "datagrams received", Better: result.Higher, Plot: true},
		}},
		udp:  true,
		cost: func(seconds float64) float64 { return 8 * (probeSeconds(seconds) + 0.4) },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.search(ctx, p, payload)
		},
	}
}

func rateCase(name, about string, rate float64, main bool) benchCase {
	return benchCase{
		Case: result.Case{Name: name, About: about, Metrics: []result.Metric{
			{Name: "machine", Unit: "cores", About: "CPU of the whole machine, generators too", Better: result.Lower, Plot: true},
			{Name: "switch", Unit: "cores", About: "CPU of the switching process", Better: result.Lower},
			{Name: "loss", Unit: "%", About: "datagrams lost", Better: result.Lower},
		}},
		main: main,
		udp:  true,
		cost: func(seconds float64) float64 { return seconds + 2*settle.Seconds() + 0.4 },
		run: func(s *session, ctx context.Context, p *lab.Peer) (values, error) {
			return s.fixedRate(ctx, p, rate)
		},
	}
}

var attachCase = benchCase{
	Case: result.Case{Name: "attach", About: "a third container is connected, again and again: from the command to its answer, address and route in place", Metrics: []result.Metric{
		{Name: "p50", Unit: "ms", About: "median", Better: result.Lower},
		{Name: "p90", Unit: "ms", About: "90th percentile", Better: result.Lower},
	}},
	attaches: true,
	cost:     func(seconds float64) float64 { return seconds + 0.2 },
	run:      (*session).attach,
}

var idleCase = benchCase{
	Case: result.Case{Name: "idle", About: "two ports without traffic", Metrics: []result.Metric{
		{Name: "switch", Unit: "% of a core", About: "CPU of the switching process", Better: result.Lower},
	}},
	main:     true,
	switches: true,
	cost:     func(seconds float64) float64 { return seconds },
	run:      (*session).idle,
}
