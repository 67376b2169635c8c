package vswitch_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// memoryGroup is a cgroup of the test's own, v2 or v1.
type memoryGroup struct {
	t                       *testing.T
	dir, limit, usage, peak string
}

// newMemoryGroup makes one. To be called before netnstest.New, which ends the processes in it.
func newMemoryGroup(t *testing.T) *memoryGroup {
	t.Helper()
	netnstest.Root(t)
	g := &memoryGroup{t, "/sys/fs/cgroup", "memory.max", "memory.current", "memory.peak"}
	controllers, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.controllers"))
	if slices.Contains(strings.Fields(string(controllers)), "memory") {
		if err := os.WriteFile(filepath.Join(g.dir, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			t.Fatal(err)
		}
	} else {
		g.dir, g.limit, g.usage, g.peak = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("vswt-%d-%s", os.Getpid(), t.Name()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatalf("no cgroup for memory can be made: %v", err)
	}
	t.Cleanup(func() {
		var err error
		for range 200 { // a keeper ends a little after its last daemon
			if err = os.Remove(g.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error(err)
	})
	return g
}

func (g *memoryGroup) set(limit int) error {
	return os.WriteFile(filepath.Join(g.dir, g.limit), []byte(strconv.Itoa(limit)), 0)
}

func (g *memoryGroup) read(file string) int {
	g.t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		g.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// enter is the program that starts another one in the group.
func (g *memoryGroup) enter() []string {
	return []string{"sh", "-c", `echo $$ > ` + g.dir + `/cgroup.procs && exec "$0" "$@"`}
}

// TestMemoryHolds: in a cgroup of 96 MiB (more under the race detector) the daemon knows its limit, and no flood of clients gets it killed.
func TestMemoryHolds(t *testing.T) {
	t.Parallel()
	g := newMemoryGroup(t)
	const limit = 96 << 20 * netnstest.Slack
	if err := g.set(limit); err != nil {
		t.Fatal(err)
	}
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.Allow("request failed") // of a client that leaves before its answer
	d.Before = g.enter()
	d.Start()
	if want := fmt.Sprint(`"memory is limited by the cgroup" bytes=`, limit/10*9); !strings.Contains(d.Log(), want) {
		t.Errorf("the log lacks %s", want)
	}
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	for _, tt := range abuses[4:8] { // those that send much
		end := abuse(t, d.Socket, tt.text, tt.clients)
		d.Must("show")
		end()
	}
	s.goesOn(lab)
	t.Logf("%d MiB of memory were used at most", g.read(g.peak)>>20)
	if heap := metric(t, d, "go_memstats_heap_inuse_bytes"); heap > limit {
		t.Errorf("%v bytes of heap", heap)
	}
}

// TestOutOfMemory: the kernel kills the daemon at the limit of its cgroup. Its keeper, in the same group, lives, and a restart goes
// on where it was.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	g := newMemoryGroup(t)
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.Before = g.enter()
	d.Start()
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	before := lastingOf(t, d, a, b)
	keeper := keeperOf(d)
	for room := 1 << 20; ; room += 1 << 20 { // the kernel doesn't take a limit below what is in use
		if err := g.set(g.read(g.usage) + room); err == nil {
			break
		}
	}
	end, _ := tryAbuse(d.Socket, abuses[5].text, 100) // the last of them may find nobody any more
	err := d.Wait()
	end()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the daemon ended with %v", err)
	}
	if now := keeperOf(d); now != keeper {
		t.Errorf("the keeper was %d and is %d", keeper, now)
	}
	if err := g.set(256 << 20); err != nil {
		t.Fatal(err)
	}
	d.Start()
	s.goesOn(lab)
	if diff := difference(t, before, lastingOf(t, d, a, b)); diff != "" {
		t.Errorf("not the same as before: %s", diff)
	}
}
