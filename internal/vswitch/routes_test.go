package vswitch_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// behind gives the container an address that only a static route leads to, and lets it answer from there.
func behind(c *netnstest.Container, addrs ...string) {
	for _, a := range addrs {
		c.IP("addr add " + a + " dev lo")
	}
}

// TestStaticRoute: what a route leads to is reached, in both families, also after the daemon was killed; over several next hops; and no more
// when the route is deleted.
func TestStaticRoute(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	c := lab.Container("c")
	d.Join("netb", "c", c)
	for _, x := range []*netnstest.Container{b, c} {
		behind(x, "10.99.0.1/32", "fd99::1/128")
	}
	reached := func(want bool) {
		t.Helper()
		for _, addr := range []string{"10.99.0.1", "fd99::1"} {
			if err := pinged(a, addr); (err == nil) != want {
				t.Errorf("ping to %s: %v", addr, err)
			}
		}
	}
	reached(false)
	d.Must("add-route", "10.99.0.0/16", "via", "10.12.0.2")
	if out := d.Must("add-route", "default", "via", "fd12::3,fd12::2"); out != "::/0 via fd12::2,fd12::3" {
		t.Errorf("add-route prints %q", out)
	}
	reached(true)
	d.Kill()
	d.Start()
	reached(true)
	d.Must("del-route", "10.99.0.0/16", "--", "del-route", "::/0")
	reached(false)
	d.Must("add-route", "10.99.0.0/16", "via", "10.12.0.2,10.12.0.3", "--", "add-route", "fd99::/64", "via", "fd12::3")
	reached(true)
	taken := func() {
		t.Helper()
		lab.Eventually("all flows take the next hop that is left", func() bool {
			for range 8 { // each ping is a flow of its own
				if pinged(a, "10.99.0.1", "-W", "1") != nil {
					return false
				}
			}
			return true
		})
	}
	d.Must("del-port", "b") // one of two next hops is dead: that is known before its neighbor entry gets old
	taken()
	reached(true)
	d.Join("netb", "b", b, "--ip", "10.12.0.2", "--ip", "fd12::2")
	taken()
	c.IP("link set eth0 down")
	taken()
}

// TestBadNextHops: a route over a dead station is told of, and what comes back in a circle is refused, since its source does not belong
// where it comes from.
func TestBadNextHops(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	b.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	d.Must("add-route", "10.98.0.0/16", "via", "10.12.0.99", "--", "add-route", "fd98::/64", "via", "fd12::99",
		"--", "add-route", "10.99.0.0/16", "via", "10.12.0.2", "--", "add-route", "fd99::/64", "via", "fd12::2")
	var pings sync.WaitGroup
	for addr, want := range map[string]string{
		"10.98.0.1": "From 10.11.0.1 icmp_seq=1 Destination Host Unreachable", "fd98::1": "From fd11::1 icmp_seq=1 Destination unreachable",
		"10.99.0.1": "100% packet loss", "fd99::1": "100% packet loss",
	} {
		patience := map[bool]string{true: "6", false: "20"}[want == "100% packet loss"]
		pings.Go(func() {
			out, err := a.Try("ping", "-n", "-c", "1", "-W", patience, addr)
			if err == nil || !strings.Contains(out+err.Error(), want) {
				t.Errorf("ping to %s: %s %v, want %q", addr, out, err, want)
			}
		})
	}
	pings.Wait()
	if n := dropped(d, "a", "neighbor_failed"); n < 2 {
		t.Errorf("%d packets are counted as neighbor_failed, want one for each family", n)
	}
	if n := dropped(d, "b", "reverse_path"); n == 0 || n > 20 {
		t.Errorf("%d packets are counted as reverse_path, want one for each of some pings", n)
	}
}

// TestRouteVerbs: what the verbs answer, refuse, list and export.
func TestRouteVerbs(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24", "--subnet", "fd11::/64")
	for want, line := range map[string]string{
		"bits behind its length":       "add-route 10.9.0.1/16 via 10.11.0.9",
		"not of the family":            "add-route 10.9.0.0/16 via fd11::9",
		"stands where via is wanted":   "add-route 10.9.0.0/16 to 10.11.0.9",
		"is no address":                "add-route 10.9.0.0/16 via neta",
		"is named twice":               "add-route 10.9.0.0/16 via 10.11.0.9,10.11.0.9",
		"is not routed":                "add-route 224.0.0.0/4 via 10.11.0.9",
		"a station in a subnet":        "add-route 10.9.0.0/16 via 127.0.0.1",
		"router name":                  "add-route 10.9.0.0/16 via 10.11.0.9 --router a/b",
		"from 1 to 2147483647":         "add-route 10.9.0.0/16 via 10.11.0.9 --metric 4000000000",
		"no such static route":         "del-route 10.9.0.0/16",
		"no such static route to 10.1": "del-route 10.11.0.0/24",
		"use 1 to 16":                  "add-route 10.9.0.0/16 via " + strings.Repeat("10.11.0.9,", 16) + "10.11.0.8",
		"no router":                    "list-routes lab",
		"length: use 10.8.0.0/16":      "add-port neta x --stage --route 10.8.0.1/16=10.11.0.9",
		"no network":                   "neigh neta2",
		"ADDRESS/LENGTH":               "del-route 10.9.0.0",
	} {
		if r := d.Vsctl(strings.Fields(line)...); r.Code == 0 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: exit code %d, %s, want %q", line, r.Code, r.Err, want)
		}
	}
	d.Must("del-route", "10.9.0.0/16", "--if-exists")
	d.Must("add-route", "10.9.0.0/16", "via", "10.11.0.10,10.11.0.9")
	d.Must("add-route", "10.9.0.0/16", "via", "10.11.0.9,10.11.0.10", "--may-exist")
	for want, line := range map[string]string{
		"already, via 10.11.0.9,10.11.0.10": "add-route 10.9.0.0/16 via 10.11.0.9",
		"not via 10.11.0.7":                 "add-route 10.9.0.0/16 via 10.11.0.7 --may-exist",
	} {
		if r := d.Vsctl(strings.Fields(line)...); r.Code != 1 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: exit code %d, %s, want %q", line, r.Code, r.Err, want)
		}
	}
	if out := d.Must("add-route", "10.9.0.0/16", "via", "10.12.0.1", "--metric", "7"); !strings.Contains(out, "inactive") {
		t.Errorf("a route without a way: %q", out)
	}
	d.Must("add-route", "default", "via", "fd11::9")
	if r := d.Vsctl("del-route", "default"); r.Code != 1 || !strings.Contains(r.Err, "there is one to ::/0") {
		t.Errorf("the default route of the other family: %s", r.Err)
	}
	d.Must("del-route", "::/0")
	if r := d.Vsctl("del-route", "10.9.0.0/16"); r.Code != 1 || !strings.Contains(r.Err, "--metric") {
		t.Errorf("one of two routes to delete: %s", r.Err)
	}
	expectRoutes(t, d, "10.9.0.0/16 static 1 active, 10.9.0.0/16 static 7 inactive, 10.11.0.0/24 connected 0 active, fd11::/64 connected 0 active")
	// A network that comes makes a route active; one that goes leaves it in place.
	d.Must("add-network", "netb", "--subnet", "10.12.0.0/24", "--gateway", "10.12.0.254", "--", "del-route", "10.9.0.0/16", "--metric", "1")
	expectRoutes(t, d, "10.9.0.0/16 static 7 active, 10.11.0.0/24 connected 0 active, 10.12.0.0/24 connected 0 active, fd11::/64 connected 0 active")
	d.Must("set-network", "netb", "--router", "lab")
	expectRoutes(t, d, "10.12.0.0/24 connected 0 active, 10.9.0.0/16 static 7 inactive, 10.11.0.0/24 connected 0 active, fd11::/64 connected 0 active")
	if r := d.Vsctl("add-route", "10.8.0.0/16", "via", "10.11.0.9", "--", "add-network", "neta"); r.Code != 1 {
		t.Errorf("a transaction that can't be: %s", r.Err)
	}
	expectRoutes(t, d, "10.12.0.0/24 connected 0 active, 10.9.0.0/16 static 7 inactive, 10.11.0.0/24 connected 0 active, fd11::/64 connected 0 active")
}

// expectRoutes compares list-routes with prefix, origin, metric and state of each.
func expectRoutes(t *testing.T, d *netnstest.Daemon, want string) {
	t.Helper()
	var list []api.RouteEntry
	if err := json.Unmarshal([]byte(d.Must("list-routes", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		state := map[bool]string{true: "active", false: "inactive"}[r.Active]
		metric, _ := json.Marshal(r.Metric)
		got = append(got, strings.Join([]string{r.Prefix.String(), r.Origin, string(metric), state}, " "))
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("routes:\n%s, want\n%s", s, want)
	}
}

// TestApplyRoutes: routes are part of the whole configuration.
func TestApplyRoutes(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 0)
	nets := "networks:\n  neta: {subnets: [10.11.0.0/24]}\n"
	l.apply(nets+"routers:\n  main:\n    routes: [default via 10.11.0.9, 10.9.0.0/16 via 10.11.0.8]\n  lab:\n    routes: ['10.9.0.0/16 via 10.12.0.8 metric 5']\n",
		"+ network neta: 10.11.0.0/24\n+ route 0.0.0.0/0: 0.0.0.0/0 via 10.11.0.9, router main\n"+
			"+ route 10.9.0.0/16: 10.9.0.0/16 via 10.12.0.8 metric 5, router lab\n+ route 10.9.0.0/16: 10.9.0.0/16 via 10.11.0.8, router main\n")
	exported := l.d.Must("export")
	l.d.Must("del-route", "default")
	if r := l.vsctl(exported, "apply"); r.Code != 0 || r.Out != "+ route 0.0.0.0/0: 0.0.0.0/0 via 10.11.0.9, router main\n" {
		t.Errorf("apply of an export: %s%s", r.Out, r.Err)
	}
	l.apply(nets+"routers:\n  main:\n    routes: [{prefix: 10.9.0.0/16, next_hops: [10.11.0.8, 10.11.0.7]}]\n",
		"- route 0.0.0.0/0: 0.0.0.0/0 via 10.11.0.9, router main\n- route 10.9.0.0/16: 10.9.0.0/16 via 10.12.0.8 metric 5, router lab\n"+
			"~ route 10.9.0.0/16: 10.9.0.0/16 via 10.11.0.8 -> 10.9.0.0/16 via 10.11.0.7,10.11.0.8, router main\n")
	for text, want := range map[string]string{
		"routers: {main: {routes: [10.9.0.0/16]}}":                                          "PREFIX via ADDRESS",
		"routers: {main: {routes: [10.9.0.0/16 via 10.11.0.8, 10.9.0.0/16 via 10.11.0.9]}}": "two routes to 10.9.0.0/16",
		"routers: {main: {routes: [10.9.0.0/16 via 10.11.0.8 metric 0]}}":                   "metric",
		"routers: {main: {way: 7}}":                                                         "unknown key",
		"routers: {a/b: {}}":                                                                "router name",
		"routers: {main: {routes: [10.9.0.1/16 via 10.11.0.8]}}":                            "bits behind its length",
	} {
		if r := l.vsctl(nets+text, "apply"); r.Code == 0 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: exit code %d, %s, want %q", text, r.Code, r.Err, want)
		}
	}
	l.apply("networks: {}\n", "- route 10.9.0.0/16: 10.9.0.0/16 via 10.11.0.7,10.11.0.8, router main\n- network neta\n")
}

// TestWaitingIsCounted: what waits for a neighbor when its port leaves the network is lost, and counted.
func TestWaitingIsCounted(t *testing.T) {
	t.Parallel()
	_, d, a, _ := twoNetworks(t)
	waiting := func() (n int) {
		var list []api.Neighbor
		if err := json.Unmarshal([]byte(d.Must("neigh", "netb", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			n += x.Waiting
		}
		return n
	}
	for i, leave := range []string{"disconnect", "del-port"} {
		d.Eventually("a knows its gateway", func() bool { return pinged(a, "10.11.0.1", "-W", "1") == nil })
		d.Eventually("two frames wait", func() bool { // for some seconds only
			d.Must("neigh", "flush")
			_, _ = a.Try("ping", "-n", "-c", "2", "-i", "0.01", "-W", "0.1", "10.12.0.99") // nobody
			return waiting() == 2
		})
		d.Must(leave, "a")
		if n := waiting(); n != 0 {
			t.Errorf("after %s %d frames wait", leave, n)
		}
		at := map[string]string{"disconnect": "a", "del-port": "(deleted)"}[leave]
		if n := dropped(d, at, "port_down"); n < uint64(2*i+2) {
			t.Errorf("after %s %d packets are counted as port_down, want %d", leave, n, 2*i+2)
		}
		d.Must("neigh", "flush")
		if leave == "disconnect" {
			d.Must("connect", "a", "neta", "--ip", "10.11.0.2")
			a.IP("route replace default via 10.11.0.1")
		}
	}
}

// TestNeigh lists and flushes what the router found out.
func TestNeigh(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		if err := pinged(a, addr); err != nil {
			t.Fatal(err)
		}
	}
	list := d.Must("neigh", "netb")
	for _, want := range []string{"10.12.0.2", "fd12::2", b.MAC(), "reachable"} {
		if !strings.Contains(list, want) {
			t.Errorf("neigh lacks %s:\n%s", want, list)
		}
	}
	if strings.Contains(list, "10.11.0.2") || !strings.Contains(d.Must("neigh"), "10.11.0.2") {
		t.Errorf("neigh of one network:\n%s", list)
	}
	d.Must("neigh", "flush", "netb")
	if list := d.Must("neigh", "netb", "--no-headers"); strings.Contains(list, "10.12.0.2") {
		t.Errorf("after flush:\n%s", list)
	}
	if err := pinged(a, "10.12.0.2"); err != nil {
		t.Errorf("after flush: %v", err)
	}
}
