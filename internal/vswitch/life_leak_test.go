package vswitch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"vswitch/ctl"
	"vswitch/ctl/server"
	"vswitch/internal/api"
	"vswitch/internal/leaktest"
	"vswitch/internal/netnstest"
	"vswitch/internal/vswitch"
)

// TestEndLeavesNothing runs whole daemons within this process, one after the other, whose ends leave no goroutine, no file
// descriptor and no thread in another namespace. Interfaces stay in place, and the next daemon goes on with them.
//
//	a eth0 (tap) --- net1 --- eth0 b (veth)
func TestEndLeavesNothing(t *testing.T) {
	lab := netnstest.New(t)
	a, b := lab.Container("a"), lab.Container("b")
	dir, err := os.MkdirTemp("", "vs") // testing's own may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	add := func(c *ctl.Client) error {
		if _, err := c.AddNetwork(t.Context(), api.NetworkRequest{Name: "net1", Subnets: []netip.Prefix{netip.MustParsePrefix(subnet4)}}); err != nil {
			return err
		}
		for _, r := range []api.PortRequest{
			{Name: "a", Network: "net1", Netns: a.Name, Type: api.PortTAP},
			{Name: "b", Network: "net1", Netns: b.Name, Type: api.PortVeth}, // it gets the next address
		} {
			if _, err := c.AddPort(t.Context(), r); err != nil {
				return err
			}
		}
		ping(lab, a, b4)
		return nil
	}
	remove := func(c *ctl.Client) error {
		ping(lab, a, b4)
		return c.DeleteNetwork(t.Context(), "net1", true)
	}
	rounds := func(n int) {
		for range n {
			inProcess(t, dir, add)
			inProcess(t, dir, remove)
		}
	}
	rounds(1) // what is made once and kept, is
	routines, files, threads := leaktest.Goroutines(), count(t, "fd"), elsewhere(t)
	rounds(4)
	for _, stack := range leaktest.Outlive(routines) {
		t.Errorf("a goroutine is left:\n%s", stack)
	}
	lab.Eventually("no file descriptor is left", func() bool { return count(t, "fd") <= files })
	lab.Eventually("no thread is left in another namespace", func() bool { return elsewhere(t) <= threads })
	if n := len(a.Links()) + len(b.Links()); n != 0 {
		t.Errorf("%d interfaces are left", n)
	}
}

// inProcess runs a daemon as cmd/vswitchd does, and ends it when f returns.
func inProcess(t *testing.T, dir string, f func(*ctl.Client) error) {
	t.Helper()
	cfg := vswitch.Config{StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s"), FDStore: "none"}
	events, log := new(server.Events), slog.New(slog.DiscardHandler)
	sw, err := vswitch.New(cfg, events, log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen(cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return sw.Run(ctx) })
	g.Go(func() error { return server.New(sw, events, log).Serve(ctx, l) })
	client := ctl.New(cfg.Socket)
	err = sw.Restore(ctx)
	if err == nil {
		err = f(client)
	}
	client.Close()
	stop()
	err = errors.Join(err, g.Wait(), sw.Close())
	_ = l.Close() // the server has
	if err != nil {
		t.Fatal(err)
	}
}

// count returns how many entries a folder of this process has.
func count(t *testing.T, of string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/" + of)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// elsewhere counts the threads of this process that are in another network namespace than its first.
func elsewhere(t *testing.T) (n int) {
	t.Helper()
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		if ns, err := os.Readlink(fmt.Sprint(task, "/ns/net")); err == nil && ns != home {
			n++
		}
	}
	return n
}
