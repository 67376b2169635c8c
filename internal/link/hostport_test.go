package link_test

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
)

var (
	pair   = []netip.Prefix{netip.MustParsePrefix("192.0.0.6/31"), netip.MustParsePrefix("fd83:585c:c419::6/127")}
	subnet = netip.MustParsePrefix("10.99.0.0/24")
	addrs  = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	nets   = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

// host makes a namespace for a host with these settings, and an interface that leads outside.
func host(t *testing.T, sysctls ...string) *link.Namespace {
	t.Helper()
	ns := linktest.Namespace(t)
	in(t, ns, "ip", "link", "set", "lo", "up")
	for _, s := range sysctls {
		in(t, ns, "sysctl", "-qw", s)
	}
	for _, args := range []string{
		"link add out0 type veth peer out1", "link set out1 up", "link set out0 up", "addr add 192.0.2.2/24 dev out0",
		"addr add 2001:db8::2/64 dev out0 nodad", "route add default via 192.0.2.1", "-6 route add default via 2001:db8::1",
	} {
		if strings.Contains(args, "2001:") && slices.Contains(sysctls, "net.ipv6.conf.default.disable_ipv6=1") {
			continue
		}
		in(t, ns, "ip", strings.Fields(args)...)
	}
	return ns
}

// in runs a program in the namespace and returns what it says.
func in(t *testing.T, ns *link.Namespace, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func hostPort(t *testing.T, ns *link.Namespace) link.TAP {
	t.Helper()
	dev, undo, err := link.CreateHostPort(linktest.Private(t), ns, link.HostPortConfig{Name: "vsw0", MAC: mac})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = undo() })
	if err := link.SetUpHostPort(ns, dev.Index, pair); err != nil {
		t.Fatal(err)
	}
	return dev
}

// settings returns all that a namespace's kernel can be told of networking, without what is about the interface, and what is the
// machine's.
func settings(t *testing.T, ns *link.Namespace, without string) []string {
	t.Helper()
	all := strings.Split(in(t, ns, "sysctl", "-e", "net"), "\n")
	return slices.DeleteFunc(all, func(line string) bool {
		return strings.Contains(line, "."+without+".") || strings.Contains(line, "gc_min_interval") || strings.Contains(line, "random") ||
			strings.Contains(line, "congestion_control")
	})
}

// A host port says nothing of its own, whatever the host is set to, and changes none of its settings.
func TestHostPortIsSilent(t *testing.T) {
	for name, sysctls := range map[string][]string{
		"host":    {"net.ipv4.conf.all.rp_filter=1"},
		"router":  {"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"},
		"no IPv6": {"net.ipv6.conf.default.disable_ipv6=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := host(t, sysctls...)
			before := settings(t, ns, "vsw0")
			dev := hostPort(t, ns)
			if diff := cmp.Diff(before, settings(t, ns, "vsw0")); diff != "" {
				t.Errorf("settings of the host:\n%s", diff)
			}
			if got := in(t, ns, "ip", "-o", "addr", "show", "vsw0"); strings.Contains(got, "fe80") || strings.Count(got, "\n") != len(pair) {
				t.Errorf("addresses:\n%s", got)
			}
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				var b [packet.BufSize]byte
				if n, err := unix.Read(dev.FD, b[:]); err == nil {
					t.Errorf("the kernel sent %x", b[packet.VnetLen:n])
				}
			}
		})
	}
}

// The host speaks to others by the addresses that it has for them, also where it has none.
func TestHostPortIsNoSource(t *testing.T) {
	ns := host(t)
	source := func(want string, to ...string) {
		t.Helper()
		if got := in(t, ns, "ip", append([]string{"route", "get"}, to...)...); !strings.Contains(got, "src "+want+" ") {
			t.Errorf("to %v:\n%s", to, got)
		}
	}
	dev := hostPort(t, ns)
	source("192.0.2.2", "198.51.100.1")
	source("2001:db8::2", "2001:db8:ffff::1")
	source("192.0.0.6", "192.0.0.7")
	for i, p := range []netip.Prefix{subnet, netip.MustParsePrefix("2001:db8:5::/64")} {
		if err := link.AddHostRoute(ns, dev.Index, link.HostRoute{Prefix: p, Source: pair[i].Addr(), MTU: 1400}); err != nil {
			t.Fatal(err)
		}
	}
	source("192.0.0.6", "10.99.0.5")
	source("fd83:585c:c419::6", "2001:db8:5::5")
	if got := in(t, ns, "ip", "route", "get", "10.99.0.5"); !strings.Contains(got, "dev vsw0") {
		t.Error(got)
	}
	in(t, ns, "ip", "addr", "flush", "dev", "out0")
	in(t, ns, "ip", "route", "add", "default", "dev", "out0")
	if got := in(t, ns, "ip", "route", "get", "198.51.100.1"); strings.Contains(got, "192.0.0.6") {
		t.Errorf("to the outside, without another address:\n%s", got)
	}
}

func TestHostRoutes(t *testing.T) {
	ns := host(t)
	dev := hostPort(t, ns)
	want := []link.HostRoute{
		{Prefix: subnet, Source: pair[0].Addr(), MTU: 1500},
		{Prefix: netip.MustParsePrefix("2001:db8:5::/64"), Source: pair[1].Addr(), MTU: 9000},
	}
	check := func() {
		t.Helper()
		got, err := link.HostRoutes(ns, dev.Index)
		if diff := cmp.Diff(want, got, addrs, nets); err != nil || diff != "" {
			t.Fatalf("%v\n%s\n%s", err, diff, in(t, ns, "ip", "-6", "route", "show", "table", "all"))
		}
	}
	for _, r := range want {
		if err := link.AddHostRoute(ns, dev.Index, r); err != nil {
			t.Fatal(err)
		}
	}
	check()
	want[0].MTU, want[1].MTU = 1400, 1280
	for _, r := range want {
		if err := link.ReplaceHostRoute(ns, dev.Index, r); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if got, err := link.Prefixes(ns); err != nil || slices.Contains(got, subnet) {
		t.Errorf("prefixes that networks must not take: %v, %v", got, err)
	}
	in(t, ns, "ip", "route", "add", "10.98.0.0/16", "dev", "out0")
	wantCode(t, link.AddHostRoute(ns, dev.Index, link.HostRoute{Prefix: netip.MustParsePrefix("10.98.0.0/16")}), api.CodeConflict,
		"the host has another route to 10.98.0.0/16")
	in(t, ns, "ip", "route", "add", "blackhole", "10.97.0.0/16", "table", "77")
	ways, err := link.HostWays(ns, dev.Index)
	out, _ := link.Lookup(ns, "out0")
	for _, w := range []link.HostWay{{netip.MustParsePrefix("10.98.0.0/16"), out.Index}, {netip.MustParsePrefix("10.97.0.0/16"), 0}} {
		if err != nil || !slices.Contains(ways, w) {
			t.Errorf("ways %v, %v; want %v among them", ways, err, w)
		}
	}
	if slices.ContainsFunc(ways, func(w link.HostWay) bool { return w.Index == dev.Index }) {
		t.Errorf("ways by the host port: %v", ways)
	}
	for range 2 {
		for _, r := range want {
			if err := link.DeleteHostRoute(ns, dev.Index, r.Prefix); err != nil {
				t.Error(err)
			}
		}
	}
	want = nil
	check()
}

func TestLocalAddrs(t *testing.T) {
	ns := host(t)
	dev := hostPort(t, ns)
	in(t, ns, "ip", "addr", "add", "198.51.100.9/32", "dev", "lo")
	out, _ := link.Lookup(ns, "out0")
	got, err := link.LocalAddrs(ns)
	want := []link.LocalAddr{
		{netip.MustParseAddr("198.51.100.9"), 1}, {netip.MustParseAddr("192.0.2.2"), out.Index}, {pair[0].Addr(), dev.Index},
		{netip.MustParseAddr("2001:db8::2"), out.Index}, {pair[1].Addr(), dev.Index},
	}
	if diff := cmp.Diff(want, got, addrs); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// What a killed daemon left is found again, whatever it is called.
func TestFindHostPort(t *testing.T) {
	ns := host(t)
	_, err := link.FindHostPort(ns, mac)
	wantCode(t, err, api.CodeNotFound, "no host port in network namespace "+ns.String())
	dev := hostPort(t, ns)
	linktest.Rename(t, ns.String(), "vsw0", "other")
	name, err := link.FindHostPort(ns, mac)
	if err != nil || name != "other" {
		t.Fatalf("found %q, %v", name, err)
	}
	if err := link.RenameHostPort(ns, dev.Index, "vsw0"); err != nil {
		t.Fatal(err)
	}
	if st, err := link.LookupIndex(ns, dev.Index); err != nil || st.Name != "vsw0" || !st.Up {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestHostPortNameTaken(t *testing.T) {
	ns, private := host(t), linktest.Private(t)
	in(t, ns, "ip", "link", "add", "vsw0", "type", "veth")
	_, _, err := link.CreateHostPort(private, ns, link.HostPortConfig{Name: "vsw0", MAC: mac})
	wantCode(t, err, api.CodeConflict, "interface vsw0 already exists in namespace "+ns.String()+"; choose another with --ifname")
	if _, err := link.Lookup(private, link.DeviceName("vsw0")); err == nil {
		t.Error("the TAP is left in the private namespace")
	}
}
