// Package bpf holds the small programs that the switch loads into the kernel, written with cilium/ebpf's assembler.
package bpf
