package vswitch_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

const (
	broadcast = "ff:ff:ff:ff:ff:ff"
	multicast = "01:00:5e:7f:00:01"
	stranger  = "02:00:00:00:00:99"
)

// three makes a network and the containers a, b and c on it, TAP, veth and TAP, with ears.
//
//	a eth0 ---+
//	b eth0 --- net1     10.9.0.2 and up
//	c eth0 ---+
func three(t *testing.T, network []string, daemon ...string) (*netnstest.Daemon, map[string]*netnstest.Container, *netnstest.Ears) {
	t.Helper()
	lab := netnstest.New(t)
	d := lab.Daemon(daemon...)
	d.Must(append([]string{"add-network", "net1", "--subnet", subnet4}, network...)...)
	all, ears := make(map[string]*netnstest.Container), lab.Ears()
	for _, label := range []string{"a", "b", "c"} {
		all[label] = lab.Container(label)
		kind := map[string]string{"b": "veth"}[label]
		d.Join("net1", label, all[label], "--type", kind)
		ears.Add(label, all[label], "eth0")
	}
	return d, all, ears
}

// hears sends a frame from a to the address and fails the test unless exactly those hear it.
func hears(t *testing.T, ears *netnstest.Ears, from, dst, src, want string) {
	t.Helper()
	if got := ears.Who(from, ears.Frame(dst, src), len(strings.Fields(want))); got != want {
		t.Errorf("a frame from %s to %s was heard by %q, want %q", from, dst, got, want)
	}
}

// TestWhoHears is flooding and learning: broadcast, multicast and strangers reach all, known addresses one.
func TestWhoHears(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	a, b := all["a"].MAC(), all["b"].MAC()
	hears(t, ears, "a", broadcast, a, "b c")
	hears(t, ears, "a", multicast, a, "b c")
	hears(t, ears, "a", "33:33:00:00:00:77", a, "b c")
	hears(t, ears, "a", stranger, a, "b c")
	hears(t, ears, "b", a, b, "a")
	hears(t, ears, "a", b, a, "b")
	hears(t, ears, "a", a, a, "") // to itself
	if n := dropped(d, "a", "same_port"); n != 1 {
		t.Errorf("%d packets to a port's own address are counted, want 1", n)
	}
}

// TestReservedGroups must not leave the link that they are meant for.
func TestReservedGroups(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	for _, last := range []string{"00", "01", "02", "03", "0e", "0f"} {
		hears(t, ears, "a", "01:80:c2:00:00:"+last, all["a"].MAC(), "")
	}
	hears(t, ears, "a", "01:80:c2:00:00:10", all["a"].MAC(), "b c")
	if n := dropped(d, "a", "reserved_group"); n != 5 {
		t.Errorf("%d packets to reserved groups are counted, want 5", n)
	}
	if n := dropped(d, "a", "bpdu"); n != 1 { // 01:80:c2:00:00:00
		t.Errorf("%d BPDUs are counted, want 1", n)
	}
}

// TestBadSources are dropped: no interface has them.
func TestBadSources(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	for _, src := range []string{"01:00:5e:00:00:01", "00:00:00:00:00:00"} {
		if heard := ears.SendFrom("a", ears.Frame(broadcast, src), all["a"].MAC()); len(heard) != 0 {
			t.Errorf("a frame of source %s was heard by %s", src, netnstest.Who(heard))
		}
	}
	if n := dropped(d, "a", "bad_source_mac"); n != 2 {
		t.Errorf("%d packets of a bad source are counted, want 2", n)
	}
}

// TestMoves has an address appear behind another port, by a macvlan and by renumbering the interface.
func TestMoves(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	a, c := all["a"].MAC(), all["c"].MAC()
	const mac = "02:00:00:00:00:42"
	all["b"].IP("link add link eth0 name mv0 address " + mac + " type macvlan mode bridge")
	all["b"].IP("link set mv0 up")
	hears(t, ears, "b", broadcast, mac, "a c")
	hears(t, ears, "a", mac, a, "b")
	all["b"].IP("link del mv0")
	all["c"].IP("link set eth0 address " + mac)
	hears(t, ears, "c", broadcast, mac, "a b")
	hears(t, ears, "a", mac, a, "c")
	for _, e := range netnstest.Get[[]api.FDBEntry](d, "fdb", "net1") {
		if e.MAC == mac && e.Port != "c" || e.MAC == c && e.Port != "c" {
			t.Errorf("the table has %+v", e)
		}
	}
}

// TestAgeing forgets an address after a second without traffic, and floods to it again.
func TestAgeing(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, []string{"--age", "1"})
	a, b := all["a"].MAC(), all["b"].MAC()
	all["b"].Run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1") // or its kernel would say something now and then
	var heard string
	known := shortest(time.Second, func() time.Duration {
		start := time.Now()
		hears(t, ears, "b", broadcast, b, "a c")
		heard = ears.Who("a", ears.Frame(b, a), 1)
		return time.Since(start)
	})
	if heard != "b" {
		t.Errorf("%v after b spoke a frame to it was heard by %q", known, heard)
	}
	d.Eventually("b is forgotten", func() bool {
		for _, e := range netnstest.Get[[]api.FDBEntry](d, "fdb", "net1") {
			if e.MAC == b {
				return false
			}
		}
		return true
	})
	hears(t, ears, "a", b, a, "b c")
}

// TestStaticEntries place an address for good, over what is learned and over a restart.
func TestStaticEntries(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	a := all["a"].MAC()
	d.Must("add-fdb", "net1", stranger, "b")
	hears(t, ears, "a", stranger, a, "b")
	hears(t, ears, "c", broadcast, stranger, "a b") // says that it is c's, in vain
	hears(t, ears, "a", stranger, a, "b")
	d.Must("fdb", "flush")
	hears(t, ears, "a", stranger, a, "b")
	for _, end := range []func(){d.Stop, d.Kill} {
		end()
		d.Start()
		hears(t, ears, "a", stranger, a, "b")
	}
	d.Refused(1, "behind port b already", "add-fdb", "net1", stranger, "c")
	d.Must("del-fdb", "net1", stranger)
	hears(t, ears, "a", stranger, a, "b c")
	d.Refused(1, "no entry", "del-fdb", "net1", stranger)
	d.Stop()
	d.Start()
	hears(t, ears, "a", stranger, a, "b c")
	d.Must("add-fdb", "net1", stranger, "c")
	d.Must("del-port", "c")
	if out := d.Must("fdb", "net1"); strings.Contains(out, stranger) {
		t.Errorf("a static entry outlived its port:\n%s", out)
	}
}

// TestStaticEntryFails: what can't be carried out leaves the table as it was, and so does a restart.
func TestStaticEntryFails(t *testing.T) {
	t.Parallel()
	d, all, ears := three(t, nil)
	d.Allow("failpoint")
	a := all["a"].MAC()
	const other = "02:00:00:00:00:98"
	d.Must("add-fdb", "net1", stranger, "b")
	d.Stop()
	d.Env = []string{"VSWITCH_FAILPOINT=transaction.placed:error"}
	d.Start()
	d.Refused(1, "failpoint", "del-fdb", "net1", stranger)
	d.Refused(1, "failpoint", "add-fdb", "net1", other, "b")
	for range 2 {
		hears(t, ears, "a", stranger, a, "b")
		hears(t, ears, "a", other, a, "b c")
		d.Stop()
		d.Env = nil
		d.Start()
	}
}

// TestIsolated ports reach others, but not each other.
func TestIsolated(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	ears, all := lab.Ears(), lab.Containers("a", "b", "c")
	for i, label := range []string{"a", "b", "c"} {
		d.Join("net1", label, all[i], map[bool]string{true: "--isolated", false: "--isolated=false"}[i < 2])
		ears.Add(label, all[i], "eth0")
	}
	a, b, c := all[0], all[1], all[2]
	hears(t, ears, "a", broadcast, a.MAC(), "c")
	hears(t, ears, "b", broadcast, b.MAC(), "c")
	hears(t, ears, "c", broadcast, c.MAC(), "a b")
	before := dropped(d, "a", "isolated")
	hears(t, ears, "a", b.MAC(), a.MAC(), "")
	hears(t, ears, "a", c.MAC(), a.MAC(), "c")
	hears(t, ears, "c", a.MAC(), c.MAC(), "a")
	if n := dropped(d, "a", "isolated") - before; n != 1 {
		t.Errorf("%d packets between isolated ports are counted, want 1", n)
	}
	a.Run("ping", "-q", "-c1", "-W10", "10.9.0.4")
	if _, err := a.Try("ping", "-q", "-c1", "-W0.3", "10.9.0.3"); err == nil {
		t.Error("an isolated port reached another")
	}
}

// TestNoICC keeps all ports of a network from each other.
func TestNoICC(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4, "--icc=false")
	sniffer := b.PacketSocket("eth0")
	if _, err := a.Try("ping", "-q", "-c2", "-i0.01", "-W0.3", "10.9.0.3"); err == nil {
		t.Error("a port reached another in spite of --icc=false")
	}
	b6 := []byte{0x08, 0x06}
	if f := sniffer.Find(0, func(f []byte) bool { return bytes.Equal(f[12:14], b6) && bytes.Equal(f[6:12], macBytes(a.MAC())) }); f != nil {
		t.Errorf("b heard % x", f)
	}
	if dropped(d, "a", "icc_off") == 0 {
		t.Error("nothing is counted as dropped by --icc=false")
	}
}
