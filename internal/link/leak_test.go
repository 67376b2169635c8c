package link_test

import (
	"os"
	"strings"
	"testing"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

// TestNoLeaks attaches and undoes, and counts what the process holds.
func TestNoLeaks(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	once := func() {
		dev, undo, err := link.CreateTAP(private, link.TAPConfig{Name: linktest.Name()})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := link.Place(private, dev.Index, ns, link.PlaceConfig{IfName: "eth0", Addrs: left}); err != nil {
			t.Fatal(err)
		}
		if _, _, err = link.CreateTAP(private, link.TAPConfig{Name: linktest.Name(), MTU: 1 << 20}); err == nil {
			t.Fatal("an MTU of 1 MiB was taken")
		}
		_, undoVeth, err := link.CreateVeth(private, link.VethConfig{Name: linktest.Name(), Target: ns, PeerName: "eth1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, undo := range []func() error{undo, undoVeth} {
			if err := undo(); err != nil {
				t.Fatal(err)
			}
		}
	}
	once() // opens what is kept: netlink sockets, the program, the runtime's threads
	fds, threads := count(t, "fd"), count(t, "task")
	const rounds = 10
	for range rounds {
		once()
	}
	if n := count(t, "fd"); n > fds {
		t.Errorf("%d fds after %d rounds; %d before", n, rounds, fds)
	}
	linktest.Eventually(t, "threads to end", func() bool { return count(t, "task") < threads+rounds })
	for _, n := range []*link.Namespace{private, ns} {
		err := n.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/dev")
			if devices := strings.Count(string(b), ":"); devices != 1 {
				t.Errorf("devices but lo are left in %s:\n%s", n, b)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/" + dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestDeviceName(t *testing.T) {
	for id, want := range map[string]string{
		"0a1b2c3d":                         "vs-0a1b2c3d",
		"0a1b2c3d4e5f":                     "vs-0a1b2c3d4e5f",
		"0a1b2c3d4e5f60718293a4b5c6d7e8f9": "vs-c4cece0fcee1",
		"a b":                              "vs-e63f99190483",
	} {
		if got := link.DeviceName(id); got != want || len(got) > 15 {
			t.Errorf("%q: %q; want %q", id, got, want)
		}
	}
}
