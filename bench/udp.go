package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"vswitch/bench/lab"
	"vswitch/bench/load"
)

// stream describes one run of numbered datagrams from A to B.
type stream struct {
	payload  int
	segments int     // datagrams to a send, 0 or 1: one
	rate     float64 // datagrams a second, 0: as fast as it goes
	v6       bool
	flows    int // sprayed over so many flows; 0: one, by an ordinary socket
	macs     int // and from so many MAC addresses; with flows
	seconds  float64
	// during is called while the stream runs, once it does.
	during func() error
}

// outcome is what became of a stream.
type outcome struct {
	sent, received float64 // datagrams a second
	loss           float64 // share, 0 to 1
	arrived        uint64  // different datagrams
	cpu            used    // from the first datagram's leaving until the sender's end
}

// datagrams sends a stream and accounts for every datagram of it.
func (s *session) datagrams(ctx context.Context, p *lab.Peer, st stream) (outcome, values, error) {
	m := s.meet(p, st.v6)
	flow := []string{"--flow", strconv.Itoa(int(m.at.Port())), "--payload", strconv.Itoa(st.payload)}
	at := m.at
	if st.servers(p) > 1 {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	}
	receive := append([]string{"udp-recv", "--listen", at.String()}, flow...)
	if st.segments > 1 {
		receive = append(receive, "--gro")
	}
	receiver, err := s.generate(ctx, p.B, receive...)
	if err != nil {
		return outcome{}, nil, err
	}
	defer receiver.Kill()
	send := append(st.sender(p), append(flow, "--to", m.to.String(), "--seconds", seconds(st.seconds))...)

	var sent load.UDPSent
	var got load.UDPReceived
	sender, err := s.generate(ctx, p.A, send...)
	if err != nil {
		return outcome{}, nil, err
	}
	defer sender.Kill()
	cpu, err := metered(p, func() error {
		if st.during != nil {
			if err := st.during(); err != nil {
				return err
			}
		}
		return awaitReport(sender, &sent)
	})
	if err != nil {
		return outcome{}, nil, err
	}
	receiver.Stop()
	if err := awaitReport(receiver, &got); err != nil {
		return outcome{}, nil, err
	}
	o, v, err := account(sent, got)
	if err == nil {
		o.cpu = cpu
		cpu.put(v, p)
	}
	return o, v, err
}

// sender returns the generator and its own flags.
func (st *stream) sender(p *lab.Peer) []string {
	if st.flows > 0 {
		args := []string{
			"spray", "--flows", strconv.Itoa(st.flows), "--macs", strconv.Itoa(st.macs), "--servers", strconv.Itoa(st.servers(p)),
			"--rate", rate(st.rate),
		}
		if p.Routed {
			args = append(args, "--via", p.Gateway().String())
		}
		return args
	}
	return []string{"udp-send", "--segments", strconv.Itoa(max(1, st.segments)), "--rate", rate(st.rate)}
}

func rate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'f', 1, 64) }

// servers is to how many addresses a stream is sprayed. What translates has too few ports for 100,000 flows to one.
func (st *stream) servers(p *lab.Peer) int {
	if st.flows > 0 && p.Many {
		return lab.ManyAddresses
	}
	return 1
}

// account compares the two ends' reports.
func account(sent load.UDPSent, got load.UDPReceived) (outcome, values, error) {
	if sent.Datagrams == 0 {
		return outcome{}, nil, errors.New("the sender sent nothing")
	}
	if got.Unique == 0 {
		return outcome{}, nil, fmt.Errorf("none of %d datagrams arrived (%d strangers, %d dropped by the socket)", sent.Datagrams, got.Strangers, got.SocketDrops)
	}
	// Datagrams still queued when the sender ended arrive later: the longer of the two times is theirs.
	o := outcome{
		sent:     float64(sent.Datagrams) / sent.Seconds,
		received: float64(got.Unique) / max(sent.Seconds, got.Seconds),
		loss:     max(0, 1-float64(got.Unique+got.Ancient)/float64(sent.Datagrams)),
		arrived:  got.Unique,
	}
	return o, values{
		"sent":         o.sent / 1000,
		"received":     o.received / 1000,
		"loss":         100 * o.loss,
		"duplicates":   float64(got.Duplicates),
		"reordered":    float64(got.Reordered),
		"strangers":    float64(got.Strangers),
		"socket_drops": float64(got.SocketDrops),
		"missed":       float64(sent.Missed),
	}, nil
}

// spray measures a stream of many flows, and the CPU time that a datagram of it takes which arrives.
func (s *session) spray(ctx context.Context, p *lab.Peer, st stream) (values, error) {
	o, v, err := s.datagrams(ctx, p, st)
	if err != nil {
		return nil, err
	}
	if o.sent < 0.95*st.rate {
		return nil, fmt.Errorf("the sender reached only %.0f of %.0f datagrams a second", o.sent, st.rate)
	}
	o.cpu.perFrame(v, p, o.arrived)
	return v, nil
}

// segments measures senders that leave the segmentation to the kernel.
func (s *session) segments(ctx context.Context, p *lab.Peer) (values, error) {
	const payload, segments = 1400, 46
	o, v, err := s.datagrams(ctx, p, stream{payload: payload, segments: segments, seconds: s.seconds})
	if err != nil {
		return nil, err
	}
	v["sent"] = o.sent * payload * 8 / 1e9
	v["received"] = o.received * payload * 8 / 1e9
	return v, nil
}

// settle is how long a stream runs before and after the part that is measured.
const settle = 200 * time.Millisecond

// fixedRate measures CPU use at a rate that every peer carries. The clocks are read while the stream runs, so that starting
// the generators does not count.
func (s *session) fixedRate(ctx context.Context, p *lab.Peer, rate float64) (values, error) {
	var cpu used
	st := stream{payload: 18, rate: rate, seconds: s.seconds + 2*settle.Seconds()}
	st.during = func() error {
		if err := pause(ctx, settle); err != nil {
			return err
		}
		var err error
		cpu, err = metered(p, func() error { return pause(ctx, duration(s.seconds)) })
		return err
	}
	o, v, err := s.datagrams(ctx, p, st)
	if err != nil {
		return nil, err
	}
	if o.sent < 0.95*rate {
		return nil, fmt.Errorf("the sender reached only %.0f of %.0f datagrams a second", o.sent, rate)
	}
	cpu.put(v, p)
	v["machine"] = cpu.machine
	if p.Switch != nil {
		v["switch"] = cpu.sw
	}
	return v, nil
}

// idle measures the CPU use of a switch without traffic.
func (s *session) idle(ctx context.Context, p *lab.Peer) (values, error) {
	cpu, err := metered(p, func() error { return pause(ctx, duration(s.seconds)) })
	return values{"switch": 100 * cpu.sw}, err
}
