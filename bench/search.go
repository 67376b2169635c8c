package main

import (
	"context"
	"math"

	"vswitch/bench/lab"
)

const (
	lossLimit = 0.01
	// glitch is the loss up to which a probe gets a second chance: in a short run one unlucky moment of the scheduler is
	// enough to lose a few percent.
	glitch     = 0.05
	probeLimit = 10   // probes in all
	precision  = 0.03 // the search ends when the bounds are so close
)

// probeSeconds is the length of a probe in a search, given that of a sample.
func probeSeconds(sample float64) float64 { return math.Min(1, math.Max(0.25, sample/4)) }

// search measures the highest rate at which at most 1 % is lost.
func (s *session) search(ctx context.Context, p *lab.Peer, payload int) (values, error) {
	probes := 0
	rate, err := highestRate(func(rate float64) (outcome, error) {
		probes++
		o, _, err := s.datagrams(ctx, p, stream{payload: payload, rate: rate, seconds: probeSeconds(s.seconds)})
		return o, err
	})
	return values{"received": rate / 1000, "probes": float64(probes)}, err
}

// highestRate finds the highest rate that a probe receives with little loss. A probe at rate 0 sends as fast as it can. The
// first guess is what arrives of that: a switch that drops the rest for free carries just so much.
func highestRate(probe func(rate float64) (outcome, error)) (float64, error) {
	o, err := probe(0)
	if err != nil {
		return 0, err
	}
	if o.loss <= lossLimit {
		return o.received, nil
	}
	low, high, guess, best := 0.0, o.sent, o.received, 0.0
	again := false
	for range probeLimit - 1 {
		if high-low <= precision*high {
			break
		}
		o, err := probe(guess)
		if err != nil {
			return 0, err
		}
		switch {
		case o.loss <= lossLimit:
			low, again = guess, false
			best = max(best, o.received)
		case o.loss <= glitch && !again:
			again = true // the same rate once more
			continue
		default:
			high, again = guess, false
		}
		// The middle by ratio: the precision is relative, and the bounds may be orders of magnitude apart.
		if guess = math.Sqrt(low * high); low == 0 {
			guess = high / 2
		}
	}
	return best, nil
}
