package vswitch_test

import (
	"net/netip"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestConnectionFlags: limits and timeouts of connections are set by the daemon's flags, hold, and are shown; bad ones are refused with what to use.
func TestConnectionFlags(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon("--max-connections=100", "--max-network-connections=40", "--nat-timeout=udp-new=2s,tcp=2h10m", "--nat-timeout=icmp=5s")
	options := netnstest.Get[api.Show](d, "show").Daemon.Options
	for name, want := range map[string]string{"max-connections": "100", "max-network-connections": "40"} {
		if options[name] != want {
			t.Errorf("%s is shown as %q", name, options[name])
		}
	}
	for _, want := range []string{"tcp=7800s", "udp-new=2s", "icmp=5s", "udp=300s"} {
		if !strings.Contains(","+options["nat-timeout"]+",", ","+want+",") {
			t.Errorf("%s is not among the timeouts %s", want, options["nat-timeout"])
		}
	}
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--masquerade", "on")
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24")
	a, b := lab.Container("a"), lab.Container("b")
	d.Join("neta", "a", a)
	d.Join("netb", "b", b)
	if err := pinged(a, "10.12.0.2"); err != nil {
		t.Fatal(err)
	}
	tx := a.UDP(":0")
	send := func() {
		t.Helper()
		for port := range 100 { // at once: they are forgotten soon
			if _, err := tx.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr("10.12.0.2"), uint16(9000+port))); err != nil {
				t.Fatal(err)
			}
		}
	}
	send()
	d.Eventually("room made for others", func() bool {
		s, err := d.Client.Stats(t.Context())
		return err == nil && s.Connections.Evicted > 0 && s.Connections.Connections <= 40
	})
	d.Eventually("none after their timeouts", func() bool { return len(conntrack(t, d, "--proto", "udp")) == 0 })
	d.Stop()
	d.Start("--max-connections=30") // of all networks, while one may have 40
	d.Eventually("a way", func() bool { return pinged(a, "10.12.0.2", "-W", "1") == nil })
	send()
	var all api.ConnectionStats
	d.Eventually("all were opened", func() bool {
		s, err := d.Client.Stats(t.Context())
		all = s.Connections
		return err == nil && all.Opened > 100
	})
	if all.Connections > 30 || all.Evicted == 0 {
		t.Errorf("of %d connections in all there are %d, and %d made room", all.Opened, all.Connections, all.Evicted)
	}
	d.Stop()
	for flag, words := range map[string]string{
		"--max-connections=-1": "use 1 to 16777216", "--max-network-connections=99999999": "use 1 to 16777216",
		"--nat-timeout=udp=1s": "use 2s to", "--nat-timeout=quic=9s": "use tcp, tcp-opening", "--nat-timeout=tcp=long": "a time like 90s", "--nat-timeout=tcp": "must be formatted as key=value",
		"net1": "vswitchd takes flags only", "--txqueuelen=-1": "use 1 to 1048576 frames", "--max-flows=-1": "--max-flows -1: use", "--fdstore=disk": "use auto, systemd, keeper, none",
	} {
		before := d.Log()
		if err := d.TryStart(flag); err == nil || !strings.Contains(strings.TrimPrefix(d.Log(), before), words) {
			t.Errorf("%s: %v, the log says %s", flag, err, d.Log())
		}
	}
}
