package bpf

import (
	"time"

	"github.com/cilium/ebpf"
)

// Run lets the program judge a frame once.
func (p Program) Run(frame []byte) (int32, error) {
	verdict, err := p.p.Run(&ebpf.RunOptions{Data: frame})
	return int32(verdict), err
}

// Bench lets it judge a frame n times, and tells what once takes.
func (p Program) Bench(frame []byte, n int) (time.Duration, error) {
	_, d, err := p.p.Benchmark(frame, n, nil)
	return d, err
}
