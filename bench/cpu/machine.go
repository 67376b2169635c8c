// Package cpu measures CPU time: of the whole machine, of one process with its children, and of everybody else.
package cpu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of /proc/stat and /proc/PID/stat. It is 100 on every Linux port that Go supports.
const ticksPerSecond = 100

// Machine is a reading of the whole machine's CPU clocks.
type Machine struct {
	At    time.Time
	Cores int
	Idle  time.Duration // idle and waiting for I/O, summed over cores
	Steal time.Duration // taken away by the hypervisor, summed over cores
}

// ReadMachine reads /proc/stat.
func ReadMachine() (Machine, error) {
	at := time.Now()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("read the machine's CPU clocks: %w", err)
	}
	m, err := parseMachine(string(text))
	m.At = at
	return m, err
}

func parseMachine(text string) (Machine, error) {
	var m Machine
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		if fields[0] != "cpu" {
			m.Cores++
			continue
		}
		// cpu user nice system idle iowait irq softirq steal ...
		var ticks [3]int64
		for i, field := range []int{4, 5, 8} {
			n, err := strconv.ParseInt(fields[field], 10, 64)
			if err != nil {
				return Machine{}, fmt.Errorf("parse /proc/stat line %q: %w", line, err)
			}
			ticks[i] = n
		}
		m.Idle = fromTicks(ticks[0] + ticks[1])
		m.Steal = fromTicks(ticks[2])
	}
	if m.Cores == 0 {
		return Machine{}, fmt.Errorf("parse /proc/stat: no line of a CPU in %d bytes", len(text))
	}
	return m, nil
}

func fromTicks(n int64) time.Duration { return time.Duration(n) * (time.Second / ticksPerSecond) }

// BusyCores returns how many cores were busy on average between two readings.
//
// It is what idle time leaves of wall-clock time. The kernel keeps idle time exactly, while user, system and softirq time
// are guessed from who runs at the timer tick on most kernels; a load of short bursts hides from that guess.
func BusyCores(from, to Machine) float64 {
	wall := to.At.Sub(from.At).Seconds()
	if wall <= 0 {
		return 0
	}
	idle := (to.Idle - from.Idle + to.Steal - from.Steal).Seconds()
	return max(0, float64(to.Cores)-idle/wall)
}

// StealShare returns the share of the machine that the hypervisor took away between two readings.
func StealShare(from, to Machine) float64 {
	wall := to.At.Sub(from.At).Seconds() * float64(to.Cores)
	if wall <= 0 {
		return 0
	}
	return (to.Steal - from.Steal).Seconds() / wall
}
