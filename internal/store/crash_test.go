package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/leaktest"
	"vswitch/internal/store"
)

// crashDir names, in the environment of a child, the directory in which it writes until it is killed.
const crashDir = "VSWITCH_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeForever(dir)
	}
	leaktest.Main(m)
}

// writeForever writes pairs of records that belong together, and prints the number of each pair that it may count on.
func writeForever(dir string) {
	s, err := store.Open(dir, silent)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ports, err := s.Ports()
	for i := len(ports); err == nil; i++ {
		n, p := network(i), port(i)
		p.Port.Network = n.Name
		err = s.Update(func(tx *store.Tx) error { return errors.Join(tx.PutNetwork(n), tx.PutPort(p)) })
		fmt.Println(i)
	}
	fmt.Println(err)
	os.Exit(1)
}

// After SIGKILL at any moment the store opens, has all that was answered for, and no half of a change.
func TestStoreSurvivesKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		answered, in := -1, bufio.NewScanner(out)
		for range round * 3 { // the first is killed while it makes the store
			if !in.Scan() {
				t.Fatal("the child ended")
			}
			if _, err := fmt.Sscan(in.Text(), &answered); err != nil {
				t.Fatal(in.Text())
			}
		}
		cmd.Process.Kill()
		for in.Scan() { // what it had answered when it died
			fmt.Sscan(in.Text(), &answered)
		}
		cmd.Wait()
		s, err := store.Open(dir, silent)
		if err != nil {
			t.Fatal(err)
		}
		networks, err1 := s.Networks()
		ports, err2 := s.Ports()
		if err1 != nil || err2 != nil || len(s.Damaged()) != 0 {
			t.Fatal(err1, err2, s.Damaged())
		}
		if len(networks) != len(ports) || len(ports) <= answered {
			t.Fatalf("round %d: %d networks and %d ports, want as many, and more than %d", round, len(networks), len(ports), answered)
		}
		for i, p := range ports {
			if p.Port.ID != port(i).Port.ID || p.Port.Network != networks[i].Name {
				t.Fatalf("round %d: record %d is of %s in %s", round, i, p.Port.ID, networks[i].Name)
			}
		}
		s.Close()
	}
}

// What a crash left of making a store is no obstacle.
func TestOpenAfterCrashInCreate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.db.new"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if err := s.PutPort(port(1)); err != nil {
		t.Error(err)
	}
}

// mount puts a small file system of its own on a new directory.
func mount(t *testing.T, flags uintptr, options string) string {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestOpenReadOnly(t *testing.T) {
	dir := mount(t, unix.MS_RDONLY, "")
	for _, d := range []string{dir, filepath.Join(dir, "below")} {
		if _, err := store.Open(d, silent); code(err) != api.CodeRefused {
			t.Errorf("got %v, want %s", err, api.CodeRefused)
		} else {
			t.Log(err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(file, silent); code(err) != api.CodeRefused {
		t.Errorf("got %v, want %s", err, api.CodeRefused)
	} else {
		t.Log(err)
	}
}

// On a full disk a change is refused and leaves what was there; when there is room again, all goes on.
func TestDiskFull(t *testing.T) {
	dir := mount(t, 0, "size=512k")
	s := open(t, dir)
	var err error
	n := 0
	for ; err == nil && n < 10000; n++ {
		err = s.PutPort(port(n))
	}
	if code(err) != api.CodeRefused {
		t.Fatalf("got %v, want %s", err, api.CodeRefused)
	}
	t.Log(err)
	if ports, err := s.Ports(); err != nil || len(ports) != n-1 {
		t.Errorf("%d ports (%v), want %d", len(ports), err, n-1)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutPort(port(n)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	s.Close()
	s = open(t, dir)
	if ports, err := s.Ports(); err != nil || len(ports) != n || len(s.Damaged()) != 0 {
		t.Errorf("%d ports (%v), want %d", len(ports), err, n)
	}
}

func TestCreateOnFullDisk(t *testing.T) {
	dir := mount(t, 0, "size=8k")
	if _, err := store.Open(dir, silent); code(err) != api.CodeRefused {
		t.Fatalf("got %v, want %s", err, api.CodeRefused)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}
