package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vswitch/bench/lab"
	"vswitch/bench/result"
)

// describeMachine collects what a reader needs to judge the numbers.
func describeMachine(ctx context.Context) (result.Machine, error) {
	m := result.Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	m.Kernel = "Linux " + unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Machine[:])
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("read the CPU's model: %w", err)
	}
	m.CPU, m.Virtual = cpuModel(string(text))
	if text, err = os.ReadFile("/proc/meminfo"); err != nil {
		return m, fmt.Errorf("read the size of memory: %w", err)
	}
	if fields := strings.Fields(string(text)); len(fields) > 1 { // "MemTotal: N kB" comes first
		kib, _ := strconv.ParseInt(fields[1], 10, 64) // 0 says that it is unknown
		m.MemoryMiB = kib / 1024
	}
	if m.CongestionControl, m.CongestionControls, err = lab.CongestionControls(); err != nil {
		return m, err
	}
	m.Iperf3 = firstLine(ctx, "iperf3", "--version")
	m.Iproute2 = firstLine(ctx, "ip", "-V")
	return m, nil
}

// cpuModel finds the model's name and whether a hypervisor is present in the text of /proc/cpuinfo. Not every architecture
// tells either.
func cpuModel(text string) (model string, virtual bool) {
	model = "unknown CPU"
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			break // the end of the first CPU's part
		}
		switch strings.TrimSpace(key) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			virtual = strings.Contains(value+" ", " hypervisor ")
		}
	}
	return model, virtual
}

func firstLine(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
