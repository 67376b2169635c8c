package bpf

import (
	"slices"
	"time"

	"github.com/cilium/ebpf"
)

// Run lets the program judge a frame once.
func (p Program) Run(frame []byte) (int32, error) {
	verdict, err := p.p.Run(&ebpf.RunOptions{Data: p.received(frame)})
	return int32(verdict), err
}

// Bench lets it judge a frame n times, and tells what once takes.
func (p Program) Bench(frame []byte, n int) (time.Duration, error) {
	_, d, err := p.p.Benchmark(p.received(frame), n, nil)
	return d, err
}

// received is the frame as BPF_PROG_TEST_RUN wants it: it takes an Ethernet header off for a socket filter, which a packet socket does not.
func (p Program) received(frame []byte) []byte {
	if p.p.Type() == ebpf.SocketFilter {
		return slices.Concat(frame[:l3Off], frame)
	}
	return frame
}
