package fdstore_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
)

func TestPutReplacesAndDeleteRemoves(t *testing.T) {
	s := open(t, runDir(t))
	must(t, s.Delete("nothing")) // starts no keeper
	if got := takeAll(t, s); len(got) != 0 {
		t.Errorf("a store without keeper holds %v", got)
	}
	old, young := memfd(t, "old"), memfd(t, "young")
	defer func() { _, _ = unix.Close(old), unix.Close(young) }()
	must(t, s.Put("a", old))
	must(t, s.Put("b", old))
	must(t, s.Put("a", young))
	if diff := cmp.Diff(map[string]string{"a": "young", "b": "old"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Delete("a"))
	must(t, s.Delete("a"))
	if diff := cmp.Diff(map[string]string{"b": "old"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
	wantError(t, s.Put("c", 9999), "bad file descriptor")
	wantError(t, s.PutAll(map[string]int{"c": old, "d:": old}), "printable ASCII")
	must(t, s.Close())
	must(t, s.Close())
	wantError(t, s.Put("a", old), "closed")
	_, err := s.Take()
	wantError(t, err, "closed")
}

func TestKilledKeeperIsReplaced(t *testing.T) {
	dir := runDir(t)
	s, other := open(t, dir), open(t, dir)
	want := map[string]string{}
	for i := range 600 {
		name := fmt.Sprintf("port-%d", i)
		fd := memfd(t, name)
		defer func() { _ = unix.Close(fd) }()
		must(t, s.Put(name, fd))
		want[name] = name
	}
	// Without a call, since the daemon may be killed next; then by the next call.
	killKeeper(t, dir)
	eventually(t, "the new keeper holds everything", func() bool { return keeperPID(dir) != 0 && cmp.Equal(want, takeAll(t, other)) })
	killKeeper(t, dir)
	fd := memfd(t, "late")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("late", fd))
	want["late"] = "late"
	must(t, s.PutAll(nil))
	if diff := cmp.Diff(want, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
	killKeeper(t, dir)
	must(t, s.Delete("late"))
	delete(want, "late")
	if diff := cmp.Diff(want, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
}

// A keeper that is killed again and again is replaced at ever longer intervals; each time it is told.
func TestKeeperThatKeepsDying(t *testing.T) {
	dir := runDir(t)
	told := make(chan error, 10)
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: dir, Replaced: func(err error) { told <- err }})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	for _, least := range []time.Duration{time.Second, 2 * time.Second} {
		born, killed := startOf(t, keeperPID(dir)), sinceBoot(t)
		killKeeper(t, dir)
		if err := <-told; err != nil {
			t.Errorf("told %v", err)
		}
		next := startOf(t, keeperPID(dir))
		if next-born < least-20*time.Millisecond { // in ticks of 10 ms
			t.Errorf("replaced %v after its start, want %v", next-born, least)
		}
		if late := next - max(killed, born+least); late > 10*time.Second {
			t.Errorf("replaced %v after it could have been", late)
		}
		if diff := cmp.Diff(map[string]string{"x": "x"}, takeAll(t, s)); diff != "" {
			t.Error(diff)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "no-keeper"), nil, 0o600))
	killKeeper(t, dir)
	wantError(t, s.Put("y", fd), "no keeper today") // a call does not wait
	must(t, os.Remove(filepath.Join(dir, "no-keeper")))
	must(t, s.Put("y", fd))
	if diff := cmp.Diff(map[string]string{"x": "x", "y": "x"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
}

// startOf returns when a process was started, since the machine was.
func startOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	ticks, err := strconv.ParseInt(fields[20], 10, 64)
	must(t, err)
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

func sinceBoot(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return time.Duration(ts.Nano())
}

// A keeper that nobody else can reach is replaced, and ends.
func TestKeeperWhoseSocketIsDeleted(t *testing.T) {
	dir := runDir(t)
	s, other := open(t, dir), open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("x", fd))
	s.Check()
	old := keeperPID(dir)
	must(t, os.RemoveAll(dir))
	s.Check()
	eventually(t, "another keeper holds it", func() bool {
		s.Check()
		return keeperPID(dir) != old && cmp.Equal(map[string]string{"x": "x"}, takeAll(t, other))
	})
	eventually(t, "the old keeper has ended", func() bool { return unix.Kill(old, 0) != nil })
}

func TestClosedFDIsNotPutAgain(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	good, gone := memfd(t, "good"), memfd(t, "gone")
	defer func() { _ = unix.Close(good) }()
	must(t, s.Put("good", good))
	must(t, s.Put("gone", gone))
	must(t, unix.Close(gone))
	other := memfd(t, "other") // most likely with the number of gone
	defer func() { _ = unix.Close(other) }()
	killKeeper(t, dir)
	if diff := cmp.Diff(map[string]string{"good": "good"}, takeAll(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestNoKeeperCanBeStarted(t *testing.T) {
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: runDir(t), Exe: "/nonexistent"})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	wantError(t, s.Put("x", fd), "start keeper")
}

func TestThousandsOfFDs(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	must(t, s.Put("first", fd)) // starts the keeper
	want := map[string]bool{"first": true}
	all := map[string]int{}
	for i := range 3000 {
		name := fmt.Sprintf("port-%0250d", i)
		want[name] = true
		all[name] = fd
	}
	start := time.Now()
	must(t, s.PutAll(all))
	t.Logf("put of %d fds took %v", len(all), time.Since(start))
	start = time.Now()
	fds, err := s.Take()
	must(t, err)
	t.Logf("take of %d fds took %v", len(fds), time.Since(start))
	got := map[string]bool{}
	for name, fd := range fds {
		got[name] = true
		must(t, unix.Close(fd))
	}
	if !maps.Equal(want, got) {
		t.Errorf("took %d fds, want %d", len(got), len(want))
	}
}

func TestTakeAtLimitOfOpenFiles(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	fd := memfd(t, "x")
	defer func() { _ = unix.Close(fd) }()
	for i := range 300 {
		must(t, s.Put(fmt.Sprint(i), fd))
	}
	before := openFDs()
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(before + 100), Max: limit.Max}))
	_, err := s.Take()
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	wantError(t, err, "limit of open files")
	if got := len(takeAll(t, s)); got != 300 {
		t.Errorf("took %d fds, want 300", got)
	}
	eventually(t, "no fd is leaked", func() bool { return openFDs() == before })
}

func TestConcurrentCallsWhileKeepersDie(t *testing.T) {
	dir := runDir(t)
	s := open(t, dir)
	done := make(chan error)
	var calls atomic.Int64
	before := int64(0) // as many calls were done at the last kill
	const workers = 4
	for w := range workers {
		fd := memfd(t, fmt.Sprint(w))
		defer func() { _ = unix.Close(fd) }()
		go func() {
			var err error
			for i := 0; i < 300 && err == nil; i++ {
				name := fmt.Sprintf("%d-%d", w, i)
				err = s.Put(name, fd)
				if err == nil && i%10 != 0 {
					err = s.Delete(name)
				}
				calls.Add(1)
			}
			done <- err
		}()
	}
	for ended := 0; ended < workers; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			ended++
		case <-time.After(100 * time.Millisecond):
			if pid := keeperPID(dir); pid != 0 && calls.Load() > before { // a call is tried three times
				before = calls.Load()
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	if got := len(takeAll(t, s)); got != workers*30 {
		t.Errorf("took %d fds, want %d", got, workers*30)
	}
}

func BenchmarkPut(b *testing.B) {
	dir, err := os.MkdirTemp("", "fds")
	if err != nil {
		b.Fatal(err)
	}
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Put("stdin", 0); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = s.Delete("stdin")
	_, _ = s.Close(), os.RemoveAll(dir)
}
