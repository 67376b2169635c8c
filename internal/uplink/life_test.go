package uplink_test

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/uplink"
)

// TestRestart: while the daemon is away, connections of the switch hear no RST, and go on when it is back.
func TestRestart(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		u := l.open()
		u.Publish(bpf.TCP, 8080)
		u.Publish(bpf.TCP, 8081)
		ours := l.attach()
		var conns []net.Conn
		stop := linktest.Pump(t, ours, u.Port())
		for i := range hostAddrs {
			l.echo(l.container, hostAddrs[i], 61080)
			l.echo(l.container, hostAddrs[i], 8080)
			for _, port := range []int{61080, 8080} {
				c, err := dial(l.outside, 0, hostAddrs[i], port, patience)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				conns = append(conns, c)
			}
		}
		stop()
		before := u.State()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range hostAddrs {
			l.silent("new connection while the daemon is away", hostAddrs[i], 61080)
			l.refused("closed port of the host's meanwhile", hostAddrs[i], 81)
		}
		for _, c := range conns {
			if _, err := c.Write([]byte("are you there?")); err != nil {
				t.Errorf("while the daemon is away: %v", err)
			}
		}
		linktest.IP(t, "-n", l.host.String(), "link", "set", "up0", "alias", "something happened")
		linktest.IP(t, "-n", l.host.String(), "addr", "add", "192.0.2.77/24", "dev", "up0")
		u = l.open()
		if s := u.State(); s.Index != before.Index || s.Attached != rung || len(s.Addrs) != 3 {
			t.Errorf("state %+v after the restart, %+v before", s, before)
		}
		var published bpf.PortSet
		published.Add(8080)
		u.Republish(bpf.TCP, published)
		linktest.Pump(t, ours, u.Port())
		for _, c := range conns {
			b := make([]byte, 14)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if n, err := c.Read(b); err != nil || string(b[:n]) != "are you there?" {
				t.Errorf("after the restart: %q, %v", b[:n], err)
			}
			if err := exchange(c, 1<<20); err != nil {
				t.Errorf("after the restart: %v", err)
			}
		}
		l.refused("port that is published no longer", hostAddrs[0], 8081)
	})
}

// TestRestartElsewhere: what changed while the daemon was away is found: a new name, and the interface's end.
func TestRestartElsewhere(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		h := l.host.String()
		u := l.open()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		linktest.Rename(t, h, "up0", "wan0")
		u = l.open()
		if s := u.State(); s.Name != "wan0" || s.Attached != rung {
			t.Errorf("renamed: state %+v", s)
		}
		l.silent("port of the range", hostAddrs[0], 61080)
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		linktest.IP(t, "-n", h, "link", "del", "wan0")
		u = l.open()
		if s := u.State(); s.Index != 0 || s.Attached != "" || s.Problem == "" {
			t.Errorf("removed: state %+v", s)
		}
	})
}

// TestRestartMoved: where the host's default route leads elsewhere after a restart, the interface before is left as it was.
func TestRestartMoved(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		l.standInForLRO()
		l.cfg.Interface = api.AutoUplink
		h := l.host.String()
		before := l.fingerprint()
		if err := l.open().Close(); err != nil {
			t.Fatal(err)
		}
		linktest.IP(t, "-n", h, "link", "add", "up1", "type", "veth", "peer", "name", "eth1", "netns", l.outside.String())
		linktest.IP(t, "-n", h, "link", "set", "up1", "up")
		linktest.IP(t, "-n", h, "route", "replace", "default", "dev", "up1")
		u := l.open()
		if s := u.State(); s.Name != "up1" || s.Attached != rung {
			t.Errorf("state %+v", s)
		}
		l.refused("port of the range at the interface before", hostAddrs[0], 61080)
		if on, err := link.Feature(l.host, "up0", "rx-gro"); !on || err != nil {
			t.Errorf("the feature that stands for LRO is not on again: %v", err)
		}
		if err := u.Remove(); err != nil {
			t.Error(err)
		}
		linktest.IP(t, "-n", h, "link", "del", "up1")
		linktest.IP(t, "-n", h, "route", "replace", "default", "via", gateways[0])
		l.unchanged(before)
	})
}

// TestRestartTroubled: a restart that fails half-way leaves what the earlier process attached at work, and is tried again.
func TestRestartTroubled(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, _ string) {
		l.standInForLRO()
		u := l.open()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		linktest.Rename(t, l.host.String(), "up0", "wan0")
		var full atomic.Bool
		full.Store(true)
		l.cfg.Record = func(c uplink.Changes) error {
			if full.Load() {
				return errors.New("disk full")
			}
			l.recorded = c
			return nil
		}
		u = l.open()
		if s := u.State(); !strings.Contains(s.Problem, "disk full") || s.Attached == "" {
			t.Errorf("state %+v", s)
		}
		l.silent("port of the range", hostAddrs[0], 61080)
		stop := l.follow(u)
		full.Store(false)
		linktest.Eventually(t, "it is tried again", func() bool { return u.State().Problem == "" })
		stop()
		if err := u.Remove(); err != nil {
			t.Fatal(err)
		}
		if on, err := link.Feature(l.host, "wan0", "rx-gro"); !on || err != nil {
			t.Errorf("the feature that stands for LRO is not on again: %v", err)
		}
	})
}

// TestRemove: nothing of an uplink is left, and nothing of the host's settings is changed.
func TestRemove(t *testing.T) {
	t.Parallel()
	for _, rung := range rungs {
		for _, restart := range []bool{false, true} {
			t.Run(map[bool]string{true: "restarted-", false: ""}[restart]+rung, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				l.rung(rung)
				l.standInForLRO()
				l.cfg.FirstPort, l.cfg.LastPort = 50000, 62000
				h := l.host
				sysctl(t, h, "net.ipv4.ip_local_reserved_ports=50100,55000-55010,64000")
				before := l.fingerprint()
				u := l.open()
				if got := sysctl(t, h, "net.ipv4.ip_local_reserved_ports"); got != "50000-60999,64000" {
					t.Errorf("reserved ports %q", got)
				}
				if on, err := link.Feature(h, "up0", "rx-gro"); on || err != nil {
					t.Errorf("the feature that stands for LRO is on: %v, %v", on, err)
				}
				if restart {
					if err := u.Close(); err != nil {
						t.Fatal(err)
					}
					u = l.open()
				}
				if during := l.fingerprint(); during == before {
					t.Error("the fingerprint doesn't show an uplink")
				}
				if err := u.Remove(); err != nil {
					t.Error(err)
				}
				l.unchanged(before)
				if l.store.names() != 0 || l.recorded != (uplink.Changes{}) {
					t.Errorf("%d fds are still stored, %+v is still recorded", l.store.names(), l.recorded)
				}
				l.refused("port of the range", hostAddrs[0], 61080)
			})
		}
	}
}

// TestDeath: when no fd is left, as after the daemon and its keeper were killed, the host has its interface back, but for what Undo
// finds in the record.
func TestDeath(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		l.cfg.FirstPort, l.cfg.LastPort = 50000, 62000
		before := l.fingerprint()
		u := l.open()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		l.store.close()
		if rung == link.IngressTCX {
			linktest.Eventually(t, "the host's stack answers again", func() bool {
				c, err := dial(l.outside, 0, hostAddrs[0], 61080, 100*time.Millisecond)
				if err == nil {
					_ = c.Close()
				}
				return err != nil && strings.Contains(err.Error(), "refused")
			})
		}
		if err := uplink.Undo(l.host, l.recorded); err != nil {
			t.Fatal(err)
		}
		l.refused("port of the range", hostAddrs[0], 61080)
		l.unchanged(before)
		if err := uplink.Undo(l.host, l.recorded); err != nil {
			t.Errorf("undone twice: %v", err)
		}
		l.open() // with a record of what is no more
		l.silent("port of the range", hostAddrs[0], 61080)
	})
}

// TestForeignClassifier: what others have attached stays, and is asked about what isn't ours.
func TestForeignClassifier(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.rung(link.IngressClsact)
	for _, args := range [][]string{
		{"qdisc", "add", "dev", "up0", "clsact"},
		{"filter", "add", "dev", "up0", "ingress", "prio", "1", "protocol", "all", "bpf", "bytecode", "1,6 0 0 0"},
	} {
		if out, err := command(l.host, "tc", args...); err != nil {
			t.Fatalf("tc %v: %v\n%s", args, err, out)
		}
	}
	before := l.fingerprint()
	u := l.open()
	l.silent("port of the range", hostAddrs[0], 61080)
	if err := u.Remove(); err != nil {
		t.Error(err)
	}
	l.unchanged(before)
}

// unchanged waits for what the kernel does by and by, and fails the test unless the host is as it was.
func (l *lab) unchanged(before string) {
	l.t.Helper()
	var after string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if after = l.fingerprint(); after == before {
			return
		}
	}
	l.t.Errorf("the host is changed:\n%s", differing(before, after))
}

func sysctl(t *testing.T, ns *link.Namespace, setting string) string {
	t.Helper()
	out, err := command(ns, "sysctl", "-n", setting)
	if strings.Contains(setting, "=") {
		out, err = command(ns, "sysctl", "-w", setting)
	}
	if err != nil {
		t.Fatalf("sysctl %s: %v\n%s", setting, err, out)
	}
	return strings.TrimSpace(out)
}

// differing returns the lines that only one of the texts has.
func differing(a, b string) string {
	var out []string
	for sign, pair := range map[string][2]string{"-": {a, b}, "+": {b, a}} {
		has := make(map[string]bool)
		for line := range strings.Lines(pair[1]) {
			has[line] = true
		}
		for line := range strings.Lines(pair[0]) {
			if !has[line] {
				out = append(out, sign+line)
			}
		}
	}
	return strings.Join(out, "")
}
