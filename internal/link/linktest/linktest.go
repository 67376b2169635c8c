// Package linktest makes network namespaces, ports and a two-port switch for tests that run as root.
package linktest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/link"
	"vswitch/internal/port/tap"
	"vswitch/internal/port/veth"
)

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

var serial atomic.Int64

// Name returns a name that no other test uses, for a namespace or a device.
func Name() string { return fmt.Sprintf("vt%d-%d", os.Getpid(), serial.Add(1)) }

// Namespace makes a namespace with a name of 'ip netns' and removes it after the test.
func Namespace(t testing.TB) *link.Namespace {
	t.Helper()
	Root(t)
	name := Name()
	IP(t, "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	ns, err := link.OpenNetns("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// Kill removes a namespace of Namespace, and the test's handle of it: nothing keeps it alive any more.
func Kill(t testing.TB, ns *link.Namespace) {
	t.Helper()
	IP(t, "netns", "del", ns.String())
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
}

// Private makes a private namespace for the test.
func Private(t testing.TB) *link.Namespace {
	t.Helper()
	Root(t)
	ns, err := link.NewPrivate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// IP runs the ip command.
func IP(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Patience is for machines that are busy with other things: what comes at all comes in milliseconds on an idle one.
const Patience = 30 * time.Second

// Eventually waits until cond holds, and fails the test when it is out of patience.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}

// TAP makes a TAP, places it in ns as eth0 with the addresses, and makes it a port.
func TAP(t testing.TB, private, ns *link.Namespace, addrs ...netip.Prefix) *tap.Tap {
	t.Helper()
	dev, undo, err := link.CreateTAP(private, link.TAPConfig{Name: Name()})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = link.Place(private, dev.Index, ns, link.PlaceConfig{IfName: "eth0", Addrs: addrs})
	fail(t, undo, err)
	p := tap.New(ns.String(), dev.FD, dev.Offload)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Veth makes a veth pair with one end in ns as eth0 with the addresses, and makes the other a port.
func Veth(t testing.TB, private, ns *link.Namespace, addrs ...netip.Prefix) (*veth.Veth, link.Veth) {
	t.Helper()
	pair, undo, err := link.CreateVeth(private, link.VethConfig{Name: Name(), Target: ns, PeerName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = pair.Place(private, ns, link.PlaceConfig{IfName: "eth0", Addrs: addrs})
	fail(t, undo, err)
	err = link.SetVethCarrier(private, pair.Index, true)
	fail(t, undo, err)
	_, err = link.LookupIndex(ns, pair.PeerIndex()) // see SetVethCarrier
	fail(t, undo, err)
	p, err := veth.New(ns.String(), pair.FD)
	fail(t, undo, err)
	t.Cleanup(func() {
		_ = p.Close()
		if pair.DropFD >= 0 {
			_ = unix.Close(pair.DropFD)
		}
	})
	return p, pair
}

func fail(t testing.TB, undo func() error, err error) {
	t.Helper()
	if err != nil {
		_ = undo()
		t.Fatal(err)
	}
}
