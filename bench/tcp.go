package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"vswitch/bench/iperf"
	"vswitch/bench/lab"
	"vswitch/bench/load"
)

// transfer measures bulk TCP with iperf3.
func (s *session) transfer(ctx context.Context, p *lab.Peer, tr transfer) (values, error) {
	congestion := s.preset
	if tr.cubic {
		congestion = "cubic"
	}
	if err := s.lab.SetCongestion(ctx, p, congestion); err != nil {
		return nil, err
	}
	m := s.meet(p, tr.v6)
	server, err := s.lab.Start(ctx, p.B, nil, append([]string{"iperf3"}, iperf.ServerArgs(m.at)...)...)
	if err != nil {
		return nil, err
	}
	defer server.Kill()
	if err := awaitListener(ctx, server, m.at); err != nil {
		return nil, err
	}
	client := iperf.Transfer{To: m.to, Streams: tr.streams, Both: tr.both, Seconds: s.seconds}
	var got iperf.Report
	cpu, err := metered(p, func() error {
		out, failed := s.lab.Output(ctx, p.A, append([]string{"iperf3"}, client.Args()...)...)
		var err error
		if got, err = iperf.Parse(out); err != nil {
			return errors.Join(err, failed) // the report of a failed client says more than its exit status
		}
		return failed
	})
	if err != nil {
		return nil, err
	}
	v := values{"rate": got.GbitPerS, "retransmits": got.Retransmits}
	cpu.put(v, p)
	if got.Gbits > 0 {
		v["machine"] = 1000 * cpu.machine * cpu.wall / got.Gbits
		if p.Switch != nil {
			v["switch"] = 1000 * cpu.sw * cpu.wall / got.Gbits
		}
	}
	return v, nil
}

// awaitListener waits until a server listens, by looking at the sockets of its namespace: iperf3 has no other way to tell.
func awaitListener(ctx context.Context, server *lab.Child, at netip.AddrPort) error {
	want := fmt.Sprintf(":%04X ", at.Port())
	deadline := time.Now().Add(3 * time.Second)
	for {
		for _, table := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", server.PID(), table))
			if err != nil {
				return fmt.Errorf("iperf3's server has ended: %s", server.Stderr())
			}
			for line := range strings.Lines(string(text)) {
				// "  sl  local_address rem_address   st ...": state 0A is LISTEN
				if fields := strings.Fields(line); len(fields) > 3 && strings.HasSuffix(fields[1]+" ", want) && fields[3] == "0A" {
					return nil
				}
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("iperf3's server does not listen on %v: %s", at, server.Stderr())
		}
		if err := pause(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
}

// exchange measures request/response.
func (s *session) exchange(ctx context.Context, p *lab.Peer, ex exchange) (values, error) {
	clientCore, serverCore := "-1", "-1"
	if ex.pins > 0 {
		clientCore = fmt.Sprint(s.cores[0])
		serverCore = fmt.Sprint(s.cores[ex.pins-1])
	}
	args := []string{"--seconds", seconds(s.seconds), "--core", clientCore}
	if ex.sparse {
		args = append(args, "--gap", "500us")
	}
	var got load.RRReport
	if err := s.pair(ctx, p, "rr", s.meet(p, ex.v6), []string{"--core", serverCore}, args, &got); err != nil {
		return nil, err
	}
	return values{"p50": got.P50, "p90": got.P90, "p99": got.P99, "transactions": float64(got.Transactions)}, nil
}

// connections measures connections a second, of so many clients at once, to so many addresses of the server.
func (s *session) connections(ctx context.Context, p *lab.Peer, clients, addresses int) (values, error) {
	m := s.meet(p, false)
	if addresses > 1 {
		m.at = netip.AddrPortFrom(netip.IPv4Unspecified(), m.at.Port())
	}
	var got load.ConnReport
	args := []string{"--seconds", seconds(s.seconds), "--clients", strconv.Itoa(clients), "--addresses", strconv.Itoa(addresses)}
	if err := s.pair(ctx, p, "conn", m, nil, args, &got); err != nil {
		return nil, err
	}
	if got.Connections == 0 {
		return nil, fmt.Errorf("no connection succeeded, %d failed", got.Failed)
	}
	return values{"rate": float64(got.Connections) / got.Seconds, "failed": float64(got.Failed)}, nil
}

// pair runs KIND-server in B and KIND-client in A under the machine's default congestion control.
func (s *session) pair(ctx context.Context, p *lab.Peer, kind string, m meeting, serverArgs, clientArgs []string, into any) error {
	if err := s.lab.SetCongestion(ctx, p, s.preset); err != nil {
		return err
	}
	server, err := s.generate(ctx, p.B, append([]string{kind + "-server", "--listen", m.at.String()}, serverArgs...)...)
	if err != nil {
		return err
	}
	defer server.Kill()
	client, err := s.generate(ctx, p.A, append([]string{kind + "-client", "--to", m.to.String()}, clientArgs...)...)
	if err != nil {
		return err
	}
	defer client.Kill()
	return awaitReport(client, into)
}
