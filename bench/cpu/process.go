package cpu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one line of the process table.
type Process struct {
	PID, Parent int
	Own         time.Duration // CPU time of the process itself, to 10 ms
	Reaped      time.Duration // CPU time of children that it has waited for, to 10 ms
}

// kthreadd is the parent of all kernel threads.
const kthreadd = 2

// Processes reads the process table. Processes that end meanwhile are left out.
func Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("read the process table: %w", err)
	}
	var table []Process
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it ended
		}
		p, err := parseProcess(string(text))
		if err != nil {
			return nil, err
		}
		table = append(table, p)
	}
	return table, nil
}

// parseProcess parses /proc/PID/stat. The second field, the command's name in parentheses, may itself hold spaces and
// parentheses, so that fields are counted from the last closing one.
func parseProcess(text string) (Process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("parse process line %q: no command name", text)
	}
	fields := strings.Fields(text[end+1:]) // fields[0] is field 3, the state
	if len(fields) < 15 {
		return Process{}, fmt.Errorf("parse process line %q: %d fields after the name, want 15", text, len(fields))
	}
	var numbers [6]int64
	raw := []string{strings.TrimSpace(text[:open]), fields[1], fields[11], fields[12], fields[13], fields[14]}
	for i, field := range raw {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Process{}, fmt.Errorf("parse process line %q: %w", text, err)
		}
		numbers[i] = n
	}
	return Process{
		PID:    int(numbers[0]),
		Parent: int(numbers[1]),
		Own:    fromTicks(numbers[2] + numbers[3]),
		Reaped: fromTicks(numbers[4] + numbers[5]),
	}, nil
}

// Tree returns the processes that descend from root, root included.
func Tree(table []Process, root int) map[int]bool {
	tree := map[int]bool{root: true}
	for grown := true; grown; { // a table is a few hundred lines and a tree a few levels deep
		grown = false
		for _, p := range table {
			if tree[p.Parent] && !tree[p.PID] {
				tree[p.PID], grown = true, true
			}
		}
	}
	return tree
}

// Foreign is the CPU time that processes outside a tree have used so far. Kernel threads do not count: they work for us as
// well as for others.
//
// The time of children that were waited for is part of it. When a process ends, its time moves to its parent's, so that
// the sum of the whole table also catches a compiler run that started and ended between two readings.
type Foreign struct {
	At    time.Time
	Total time.Duration
	alive map[int]time.Duration // own time by process
}

// ReadForeign reads the CPU time of all processes outside the tree of root.
func ReadForeign(root int) (Foreign, error) {
	table, err := Processes()
	if err != nil {
		return Foreign{}, err
	}
	return foreign(table, root, time.Now()), nil
}

func foreign(table []Process, root int, at time.Time) Foreign {
	ours := Tree(table, root)
	f := Foreign{At: at, alive: map[int]time.Duration{}}
	for _, p := range table {
		if ours[p.PID] || p.PID == kthreadd || p.Parent == kthreadd {
			continue
		}
		f.Total += p.Own + p.Reaped
		f.alive[p.PID] = p.Own
	}
	return f
}

// ForeignShare returns the share of the machine that others used between two readings.
func ForeignShare(from, to Foreign, cores int) float64 {
	wall := to.At.Sub(from.At).Seconds() * float64(cores)
	if wall <= 0 {
		return 0
	}
	used := to.Total - from.Total
	// A parent that ignores SIGCHLD drops the time of its children, which makes the sum shrink. What is sure in any case is
	// the time of the processes that live at the end.
	var sure time.Duration
	for pid, own := range to.alive {
		if before := from.alive[pid]; own > before { // 0 for a process that was not there
			sure += own - before
		}
	}
	return max(used, sure).Seconds() / wall
}

// OfTree returns the CPU time of a process and its living descendants, to the nanosecond.
func OfTree(root int) (time.Duration, error) {
	table, err := Processes()
	if err != nil {
		return 0, err
	}
	own, err := clock(root)
	if err != nil {
		return 0, err
	}
	for pid := range Tree(table, root) {
		if pid == root {
			continue
		}
		if t, err := clock(pid); err == nil { // a child that ended meanwhile counts no longer
			own += t
		}
	}
	return own, nil
}

// clock reads the CPU clock of a process: user and system time of all its threads, also of those that ended. It is what
// utime + stime of /proc/PID/stat hold in units of 10 ms, too coarse for a switch that idles.
func clock(pid int) (time.Duration, error) {
	// The encoding of clock_getcpuclockid(3): the complement of the pid above three bits, of which 2 is CPUCLOCK_SCHED.
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}
