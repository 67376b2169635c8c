package vswitch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
	"vswitch/internal/packettest"
)

// TestGuardAtWork switches the guard of a port on and off, and gives it other addresses, while its traffic flows: at each time it may send
// what it owns and nothing else.
//
//	a eth0 10.9.0.2 --- net1 --- 10.9.0.3 eth0 b
func TestGuardAtWork(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4)
	ear, socket := b.PacketSocket("eth0"), a.PacketSocket("eth0")
	check := func(when, own, other string, pass bool) {
		t.Helper()
		mac := a.MAC()
		for range 2 {
			for ip, want := range map[string]bool{own: true, other: pass} {
				f := packettest.UDP(packettest.From(mac, ip, 7), packettest.To(broadcast, "10.9.0.255", 7), packettest.Size(64)).Bytes()
				socket.Send(f)
				if heard := heardBefore(t, ear, socket, mac, own, f); heard != want {
					t.Errorf("%s: a frame from %s was heard: %v, want %v", when, ip, heard, want)
				}
			}
		}
	}
	const old, more, stolen = "10.9.0.2", "10.9.0.77", "10.9.0.99"
	check("no guard", old, stolen, true)
	d.Must("set-port", "a", "--source-guard")
	check("guard", old, stolen, false)
	d.Must("set-port", "a", "--ip", more)
	check("second address", old, stolen, false)
	check("second address", more, stolen, false)
	d.Must("set-port", "a", "--ip", old+"-")
	check("first address gone", more, old, false)
	before := a.MAC()
	d.Must("set-port", "a", "--mac", "02:00:00:00:00:77")
	check("another MAC", more, old, false)
	refused := dropped(d, "a", "source_mac") // what the kernel sent with it just before the change
	socket.Send(packettest.UDP(packettest.From(before, more, 7), packettest.To(broadcast, "10.9.0.255", 7)).Bytes())
	lab.Eventually("the old MAC is refused", func() bool { return dropped(d, "a", "source_mac") == refused+1 })
	d.Must("set-port", "a", "--source-guard=false")
	check("no guard again", more, old, true)
	ping(lab, b, more)
}

// TestStormMetersAtWork sets meters and takes them away again, by set-port and by a file, and leaves those alone that nobody names.
func TestStormMetersAtWork(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", subnet4)
	check := func(want string) {
		t.Helper()
		if out := d.Must("show", "port", "a"); !strings.Contains(out+"\n", want) {
			t.Errorf("show says:\n%s\nwant %s", out, want)
		}
	}
	d.Must("set-port", "a", "--storm", "broadcast=10", "--storm", "unknown=20")
	check("Storm meters: broadcast=10, unknown=20\n")
	s, mac := a.PacketSocket("eth0"), a.MAC()
	f := packettest.UDP(packettest.From(mac, a4, 7), packettest.To(broadcast, "10.9.0.255", 7)).Bytes()
	burst := func() {
		for range 40 {
			s.Send(f)
		}
	}
	lab.Eventually("a storm", func() bool { burst(); return dropped(d, "a", "storm_broadcast") > 20 })
	d.Must("set-port", "a", "--storm", "broadcast=off", "--storm", "multicast=30")
	check("Storm meters: multicast=30, unknown=20\n")
	before, through := dropped(d, "a", "storm_broadcast"), portStats(t, d, "b").TxPackets
	burst()
	d.Eventually("all are through", func() bool { return portStats(t, d, "b").TxPackets >= through+40 })
	if n := dropped(d, "a", "storm_broadcast") - before; n != 0 {
		t.Errorf("%d broadcasts are dropped without a meter", n)
	}
	d.Refused(1, "use 1 to 10000000", "set-port", "a", "--storm", "unknown=-3")

	d.Must("set-port", "a", "--source-guard")
	file := filepath.Join(t.TempDir(), "vswitch.yaml")
	text := d.Must("export")
	for _, want := range []string{"source_guard: true", "multicast: 30", "unknown: 20"} {
		if !strings.Contains(text, want) {
			t.Fatalf("export lacks %q:\n%s", want, text)
		}
	}
	apply := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.Must("apply", "-f", file)
	}
	apply(strings.Replace(strings.Replace(text, "source_guard: true", "source_guard: false", 1), "multicast: 30", "broadcast: 40", 1))
	check("Storm meters: broadcast=40, unknown=20\n")
	if portOf(t, d, "a").SourceGuard {
		t.Error("the file did not switch the guard off")
	}
	apply(text)
	check("Storm meters: multicast=30, unknown=20\n")
	check("Options: source-guard\n")
}
