package machine

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemoryLimit returns the limit of memory in bytes of the cgroup that the process is in, the least of its own and its parents';
// math.MaxInt64 when there is none or none is seen.
func MemoryLimit() int64 {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return math.MaxInt64
	}
	return memoryLimit("/sys/fs/cgroup", string(groups))
}

// memoryLimit looks below root for the groups, which are as /proc/PID/cgroup lists them: ID:CONTROLLERS:PATH, without an ID and
// controllers for cgroup v2.
func memoryLimit(root, groups string) int64 {
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		var dirs []string
		file := "memory.max"
		switch f[1] {
		case "":
			dirs = []string{root, filepath.Join(root, "unified")}
		case "memory":
			dirs, file = []string{filepath.Join(root, "memory")}, "memory.limit_in_bytes"
		}
		for _, dir := range dirs {
			for path := filepath.Clean("/" + f[2]); ; path = filepath.Dir(path) {
				limit = min(limit, readLimit(filepath.Join(dir, path, file)))
				if path == "/" {
					break
				}
			}
		}
	}
	return limit
}

// readLimit reads a file that holds a number of bytes or "max".
func readLimit(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}
