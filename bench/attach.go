package main

import (
	"context"
	"slices"
	"time"

	"vswitch/bench/lab"
)

// attach connects and disconnects a container for as long as a sample lasts, twice at least.
func (s *session) attach(ctx context.Context, p *lab.Peer) (values, error) {
	var times []float64 // milliseconds
	for start := time.Now(); len(times) < 2 || time.Since(start) < duration(s.seconds); {
		took, err := s.lab.Attach(ctx, p)
		if err != nil {
			return nil, err
		}
		times = append(times, float64(took)/float64(time.Millisecond))
	}
	slices.Sort(times)
	return values{"p50": times[len(times)/2], "p90": times[len(times)*9/10], "n": float64(len(times))}, nil
}
