package netnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// prefix starts the names of all namespaces; the process id and a number follow.
const prefix = "vswt-"

// base is where this process keeps binaries, states, sockets and logs: short, because a socket's path has 107 bytes.
var base = filepath.Join("/tmp", fmt.Sprintf("%s%d", prefix, os.Getpid()))

var mainRuns bool

// Main runs a package's tests and fails when they leave processes or namespaces behind. To be called by TestMain.
func Main(m *testing.M) {
	mainRuns = true
	if raceEnabled && os.Getenv("GORACE") == "" { // else each daemon and each vsctl sleeps for a second before it ends
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	sweep()
	if l, err := net.Listen("tcp", "[::]:0"); err == nil { // net finds out once whether there is IPv6: not in a namespace without ::1
		l.Close()
	}
	code := m.Run()
	if err := os.RemoveAll(base); err != nil {
		fmt.Fprintln(os.Stderr, "netnstest:", err)
		code = max(code, 1)
	}
	for _, left := range leftovers() {
		fmt.Fprintln(os.Stderr, "netnstest: left behind:", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Root skips the test without root; where root is required (VSWITCH_REQUIRE_ROOT=1), it fails.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("VSWITCH_REQUIRE_ROOT") == "1" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

// binaries returns the folder with vswitchd and vsctl: VSWITCH_BIN, or one where they are built once, with the race detector
// when the test has it.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("VSWITCH_BIN"); dir != "" {
		return dir, nil
	}
	dir := filepath.Join(base, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "vswitch/cmd/vswitchd", "vswitch/cmd/vsctl")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// sweep removes what test processes left that were killed. Their keepers end by themselves once their folder is gone.
func sweep() {
	dirs, _ := filepath.Glob("/tmp/" + prefix + "*")
	names, _ := filepath.Glob("/run/netns/" + prefix + "*")
	for _, path := range append(names, dirs...) {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		if n, err := strconv.Atoi(pid); err != nil || alive(n) {
			continue
		}
		if strings.HasPrefix(path, "/run/netns/") {
			_ = exec.Command("ip", "netns", "del", filepath.Base(path)).Run()
		} else {
			_ = os.RemoveAll(path)
		}
	}
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// leftovers lists this test process's namespaces, and the processes that were started for it, after giving keepers the
// time to end.
func leftovers() []string {
	var left []string
	for deadline := time.Now().Add(15 * time.Second); ; {
		left, _ = filepath.Glob(fmt.Sprintf("/run/netns/%s%d-*", prefix, os.Getpid()))
		for pid, line := range processes(base + "/") {
			left = append(left, fmt.Sprintf("process %d: %s", pid, line))
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// processes returns the command lines of those whose arguments contain the path.
func processes(path string) map[int]string {
	found := make(map[int]string)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, err := os.ReadFile(dir + "/cmdline")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if err == nil && pid != os.Getpid() && strings.Contains(string(line), path) {
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
