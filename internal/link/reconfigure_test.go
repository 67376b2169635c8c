package link_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

func prefixes(list string) (ps []netip.Prefix) {
	for _, s := range strings.Fields(list) {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// otherName is what an interface that is up can be renamed to: nothing, before Linux 6.2.
var otherName = func() string {
	if linktest.Kernel(6, 2) {
		return "lan0"
	}
	return "eth0"
}()

// configs are what an interface can be; from each there is a way to each other.
var configs = map[string]link.PlaceConfig{
	"bare": {IfName: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1500},
	"usual": {IfName: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1500, Addrs: prefixes("10.99.0.1/24 fd99::1/64"),
		Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254"), netip.MustParseAddr("fd99::fe")}},
	"second addresses": {IfName: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1500, Addrs: prefixes("10.99.0.1/24 10.99.0.2/24 fd99::1/64"),
		Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254")}},
	"second address alone": {IfName: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1500, Addrs: prefixes("10.99.0.2/24"),
		Gateways: []netip.Addr{netip.MustParseAddr("10.99.0.254")}, Metric: 7},
	"all else": {IfName: otherName, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 8}, MTU: 1400, Addrs: prefixes("10.99.0.2/24 10.98.0.1/16"),
		Gateways: []netip.Addr{netip.MustParseAddr("10.98.0.254")}, Metric: 9,
		Routes: []api.Route{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("10.99.0.253")}}},
}

// late is what the kernel says of links some time after they changed.
var late = strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "", " UP ", " ", " DOWN ", " ", " UNKNOWN ", " ", " LOWERLAYERDOWN ", " ")

// seen is what the kernel says of the interfaces but lo.
func seen(t *testing.T, ns *link.Namespace) string {
	t.Helper()
	var s []string
	for _, what := range []string{"-br link", "-br -4 addr", "-br -6 addr show scope global", "-4 route", "-6 route show proto boot"} {
		out := linktest.IP(t, append([]string{"-n", ns.String()}, strings.Fields(what)...)...)
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "lo ") && line != "\n" {
				s = append(s, strings.Join(strings.Fields(late.Replace(line)), " "))
			}
		}
	}
	return strings.Join(s, "\n")
}

// TestReconfigure goes from each config to each other, and looks whether it is as if placed so at once.
func TestReconfigure(t *testing.T) {
	for _, kind := range []string{"tap", "veth"} {
		t.Run(kind, func(t *testing.T) {
			private, ns := linktest.Private(t), linktest.Namespace(t)
			newPort(t, kind, private, ns, nil)
			s, err := link.Lookup(ns, "eth0")
			if err != nil {
				t.Fatal(err)
			}
			now := link.PlaceConfig{IfName: "eth0", MTU: s.MTU, MAC: s.MAC}
			to := func(name string) string {
				t.Helper()
				if err := link.Reconfigure(ns, s.Index, now, configs[name]); err != nil {
					t.Fatalf("to %s: %v", name, err)
				}
				now = configs[name]
				return seen(t, ns)
			}
			want := make(map[string]string)
			for name := range configs {
				to("bare")
				want[name] = to(name)
				if c := configs[name]; !strings.Contains(want[name], c.MAC.String()) || len(c.Addrs) > 0 && !strings.Contains(want[name], c.Addrs[0].String()) {
					t.Errorf("%s is\n%s", name, want[name])
				}
			}
			for a := range configs {
				for b := range configs {
					to(a)
					if got := to(b); sorted(got) != sorted(want[b]) {
						t.Errorf("from %s to %s:\n%s\nwant\n%s", a, b, got, want[b])
					}
				}
			}
		})
	}
}

// sorted sorts the words: addresses are listed as they came, and a route names the address that was the first then.
func sorted(s string) string {
	words := strings.Fields(strings.NewReplacer("linkdown", "", "src 10.99.0.1", "", "src 10.99.0.2", "").Replace(s))
	slices.Sort(words)
	return strings.Join(words, " ")
}

// TestReconfigureFailsWhole: after an error the interface is what it was.
func TestReconfigureFailsWhole(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	usual := configs["usual"]
	s := placeTAP(t, private, ns, dev, usual)
	other, _ := createTAP(t, private)
	placeTAP(t, private, ns, other, link.PlaceConfig{IfName: "taken", Addrs: prefixes("10.97.0.1/24"),
		Routes: []api.Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("10.97.0.2")}}})
	before := seen(t, ns)
	nameTaken := struct{ code, part string }{api.CodeConflict, "interface taken already exists"}
	if !linktest.Kernel(6, 2) {
		nameTaken.code, nameTaken.part = api.CodeRefused, "this kernel does not rename what is up; set it down, rename it, set it up"
	}
	for _, c := range []struct {
		name, code, part string
		change           func(*link.PlaceConfig)
	}{
		{"name taken", nameTaken.code, nameTaken.part, func(c *link.PlaceConfig) { c.IfName = "taken" }},
		{"MTU", api.CodeRefused, "refuses an MTU", func(c *link.PlaceConfig) { c.MTU = 70000 }},
		{"MAC", api.CodeRefused, "refuses MAC", func(c *link.PlaceConfig) { c.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }},
		{"route taken", api.CodeConflict, "already has a route to 198.51.100.0/24", func(c *link.PlaceConfig) {
			c.Routes = []api.Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("10.99.0.9")}}
		}},
	} {
		to := configs["all else"]
		to.Gateways, to.Metric = nil, 0
		c.change(&to)
		wantCode(t, link.Reconfigure(ns, s.Index, usual, to), c.code, c.part)
		if got := seen(t, ns); got != before {
			t.Errorf("%s: is\n%s\nwas\n%s", c.name, got, before)
		}
	}
	linktest.IP(t, "-n", ns.String(), "link", "set", "eth0", "down")
	to := usual
	to.Routes = configs["all else"].Routes
	wantCode(t, link.Reconfigure(ns, s.Index, usual, to), api.CodeRefused, "set it up first")
	to = usual
	to.Addrs, to.MTU = prefixes("10.99.0.5/24"), 1400
	if err := link.Reconfigure(ns, s.Index, usual, to); err != nil {
		t.Errorf("addresses of what is down: %v", err)
	}
}

// TestReconfigureLeavesAlone: what the owner of the interface changed, and is not to be changed, stays his.
func TestReconfigureLeavesAlone(t *testing.T) {
	private, ns := linktest.Private(t), linktest.Namespace(t)
	dev, _ := createTAP(t, private)
	usual := configs["usual"]
	s := placeTAP(t, private, ns, dev, usual)
	for _, line := range []string{"addr del 10.99.0.1/24 dev eth0", "addr add 10.96.0.1/24 dev eth0", "link set eth0 address 02:00:00:00:00:55",
		"link set eth0 mtu 1450"} {
		linktest.IP(t, append([]string{"-n", ns.String()}, strings.Fields(line)...)...)
	}
	linktest.Rename(t, ns.String(), "eth0", "mine")
	before := seen(t, ns)
	if err := link.Reconfigure(ns, s.Index, usual, usual); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, ns); got != before {
		t.Errorf("is\n%s\nwas\n%s", got, before)
	}
}
