package vswitch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// applyLab is a daemon with containers c0 to c19, and files to apply.
type applyLab struct {
	*netnstest.Lab
	t          *testing.T
	d          *netnstest.Daemon
	containers []*netnstest.Container
}

func newApplyLab(t *testing.T, containers int) *applyLab {
	l := &applyLab{Lab: netnstest.New(t), t: t}
	l.d = l.Daemon()
	for i := range containers {
		l.containers = append(l.containers, l.Container(fmt.Sprint("c", i)))
	}
	return l
}

// vsctl runs a command on a file of that text; $cN in it are namespaces.
func (l *applyLab) vsctl(text string, args ...string) netnstest.Result {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "vswitch.yaml")
	if err := os.WriteFile(path, []byte(l.named(text)), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return l.d.Vsctl(append(args, "-f", path)...)
}

func (l *applyLab) named(text string) string {
	for i := len(l.containers) - 1; i >= 0; i-- {
		text = strings.ReplaceAll(text, fmt.Sprint("$c", i), l.containers[i].Name)
	}
	return text
}

// apply applies a file and wants these lines.
func (l *applyLab) apply(text, want string, args ...string) {
	l.t.Helper()
	want = l.named(want)
	if r := l.vsctl(text, append([]string{"diff"}, args...)...); r.Out != want || r.Err != "" || r.Code != map[bool]int{true: 1}[want != ""] {
		l.t.Fatalf("diff: exit code %d, %s\n%s", r.Code, r.Err, cmp.Diff(want, r.Out))
	}
	if r := l.vsctl(text, append([]string{"apply", "--dry-run"}, args...)...); r.Code != 0 || r.Out != want {
		l.t.Fatalf("apply --dry-run: exit code %d, %s\n%s", r.Code, r.Err, cmp.Diff(want, r.Out))
	}
	if r := l.vsctl(text, append([]string{"apply"}, args...)...); r.Code != 0 || r.Out != want {
		l.t.Fatalf("apply: exit code %d, %s\n%s", r.Code, r.Err, cmp.Diff(want, r.Out))
	}
	if r := l.vsctl(text, append([]string{"diff"}, args...)...); r.Code != 0 || r.Out != "" {
		l.t.Errorf("after apply there are differences, exit code %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// twenty is three networks with twenty ports.
func twenty() string {
	var b strings.Builder
	b.WriteString("networks:\n  lab:\n    no_subnet: true\n    ports:\n")
	for i := range 4 {
		fmt.Fprintf(&b, "      p%d: {netns: $c%d, trunk: [10, 20-30], native: 10}\n", i, i)
	}
	b.WriteString("  prod:\n    subnets: [10.9.0.0/24, fd00:9::/64]\n    mtu: 1400\n    labels: {team: web}\n    ports:\n")
	for i := 4; i < 12; i++ {
		fmt.Fprintf(&b, "      p%d: {netns: $c%d, ips: [10.9.0.%d]}\n", i, i, i)
	}
	b.WriteString("  test:\n    subnets: [10.11.0.0/24]\n    gateways: [10.11.0.254]\n    ports:\n")
	for i := 12; i < 20; i++ {
		fmt.Fprintf(&b, "      p%d: {netns: $c%d, type: veth, static_fdb: [{mac: '02:00:00:00:01:%d'}]}\n", i, i, i)
	}
	return b.String()
}

func TestApply(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 20)
	r := l.vsctl(twenty(), "apply")
	if r.Code != 0 || strings.Count(r.Out, "\n") != 31 || strings.Count(r.Out, "+ ") != 31 {
		t.Fatalf("exit code %d: %s%s", r.Code, r.Out, r.Err)
	}
	l.apply(twenty(), "")
	ping(l.Lab, l.containers[4], "10.9.0.11")
	ping(l.Lab, l.containers[12], "10.11.0.8")
	indexes := func() (list []int) {
		for _, c := range l.containers {
			for _, link := range c.Links() {
				list = append(list, link.Index)
			}
		}
		return list
	}
	before := indexes()

	// What was exported changes nothing, and makes the same on an empty daemon.
	exported := l.d.Must("export")
	l.apply(exported, "")
	if d := cmp.Diff(before, indexes()); d != "" {
		t.Errorf("interfaces changed, though nothing was to change:\n%s", d)
	}
	all := "networks: {}"
	if r := l.vsctl(all, "apply"); r.Code != 0 || strings.Count(r.Out, "- ") != 23 {
		t.Errorf("delete all: exit code %d: %s%s", r.Code, r.Out, r.Err)
	}
	if r := l.vsctl(exported, "apply"); r.Code != 0 {
		t.Errorf("apply what was exported: exit code %d: %s", r.Code, r.Err)
	}
	if d := cmp.Diff(exported, l.d.Must("export")); d != "" {
		t.Errorf("exported again, -before +after:\n%s", d)
	}
	ping(l.Lab, l.containers[4], "10.9.0.11")
	ping(l.Lab, l.containers[12], "10.11.0.8")
	l.d.Kill()
	l.d.Start()
	l.apply(exported, "")
}

// TestApplyChanges changes a configuration step by step.
func TestApplyChanges(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 5)
	l.apply(`networks:
  net1:
    subnets: [10.9.0.0/24]
    ports:
      a: {netns: $c0}
      b: {netns: $c1}
      c: {netns: "container:d", ifname: eth1, default_route: "no"}
      d: {netns: $c2}
`, `+ network net1: 10.9.0.0/24
+ port a on net1: in $c0
+ port b on net1: in $c1
+ port c on net1: in container:d
+ port d on net1: in $c2
`)
	a := l.containers[0].Link("eth0").Index
	ping(l.Lab, l.containers[0], b4)
	l.apply(`networks:
  net1:
    ports:
      a: {netns: $c0, static_fdb: [{mac: "02:00:00:00:00:77"}, {mac: "02:00:00:00:00:78", vlan: 10}]}
      b: {netns: $c1, type: veth}
  net2:
    subnets: [10.10.0.0/24]
    ports:
      d: {netns: $c2}
`, `- port c on net1
+ network net2: 10.10.0.0/24
-+ port b on net1: type tap -> veth
-+ port d on net2: network net1 -> net2, ips 10.9.0.4/24 -> automatic
+ fdb 02:00:00:00:00:77 on net1: at a
+ fdb 02:00:00:00:00:78 on net1: in VLAN 10 at a
`)
	ping(l.Lab, l.containers[0], b4)
	l.containers[2].Run("ip", "addr", "show", "dev", "eth0", "to", "10.10.0.2")
	l.apply(`networks:
  net1:
    ports:
      a: {netns: /run/netns/$c0, static_fdb: [{mac: "02:00:00:00:00:78", vlan: 10}]}
`, `- fdb 02:00:00:00:00:77 on net1: at a
- port b on net1
- port d on net2
- network net2
`)
	l.apply(`networks:
  net3: {no_subnet: true, ports: {e: {netns: $c4, static_fdb: [{mac: "02:00:00:00:00:77"}]}}}
`, `+ network net3: no subnet
+ port e on net3: in $c4
+ fdb 02:00:00:00:00:77 on net3: at e
`, "--no-delete")
	l.apply(`networks:
  net1:
    subnets: [10.9.0.0/24, 10.12.0.0/24]
    gateways: [10.9.0.254]
    mtu: 1300
    age: 60
    icc: false
    labels: {x: "y"}
    ports:
      a: {netns: $c0, ips: [10.12.0.9], ifname: lan0, isolated: true, aliases: [www], routes: [10.99.0.0/16 via 10.12.0.1], labels: {k: v}}
`, `- fdb 02:00:00:00:00:78 on net1: in VLAN 10 at a
- port e on net3
- network net3
~ network net1: subnets 10.9.0.0/24 gateway 10.9.0.1 -> 10.12.0.0/24 gateway 10.12.0.1 10.9.0.0/24 gateway 10.9.0.254, mtu 1500 -> 1300, no_icc false -> true, age 300 -> 60, labels - -> {x:y}
~ port a on net1: ifname eth0 -> lan0, ips 10.9.0.2/24 -> 10.12.0.9/24, mtu 1500 -> 1300, isolated false -> true, routes - -> 10.99.0.0/16 via 10.12.0.1, aliases - -> www, labels - -> {k:v}
`)
	if got := l.containers[0].Link("lan0"); got == nil || got.Index != a {
		t.Errorf("port a was changed in place, but its interface is %v, was %d", got, a)
	} else if got.MTU != 1300 || strings.Join(got.Prefixes(), " ") != "10.12.0.9/24" {
		t.Errorf("the interface of port a is %v", got)
	}
	if out := l.containers[0].Run("ip", "route", "show", "default"); !strings.Contains(out, "via 10.12.0.1 dev lan0") {
		t.Errorf("the default route of port a is %q", out)
	}
	l.apply(`networks:
  net1:
    subnets: [10.12.0.0/24]
    gateways: [10.12.0.254]
    ports:
      a: {netns: $c0, ips: [10.12.0.9], ifname: lan0, vlan: 7}
`, `~ network net1: subnets 10.12.0.0/24 gateway 10.12.0.1 10.9.0.0/24 gateway 10.9.0.254 -> 10.12.0.0/24 gateway 10.12.0.254, mtu 1300 -> 1500, no_icc true -> false, age 60 -> 300, labels {x:y} -> -
~ port a on net1: mtu 1300 -> 1500, vlan 0 -> 7, isolated true -> false, routes 10.99.0.0/16 via 10.12.0.1 -> -, aliases www -> -, labels {k:v} -> -
`)
	if out := l.containers[0].Run("ip", "route", "show", "default"); !strings.Contains(out, "via 10.12.0.254 dev lan0") {
		t.Errorf("the default route of port a is %q", out)
	}
	if got := l.containers[0].Link("lan0").Index; got != a {
		t.Errorf("port a was changed in place, but its interface was made anew: %d, was %d", got, a)
	}
}

// TestApplySwapsAddresses: each port lets go before the other takes.
func TestApplySwapsAddresses(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 2)
	const text = `networks:
  net1:
    subnets: [10.9.0.0/24]
    ports:
      a: {netns: $c0, ips: [10.9.0.%d]}
      b: {netns: $c1, ips: [10.9.0.%d]}
`
	if r := l.vsctl(fmt.Sprintf(text, 2, 3), "apply"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	ping(l.Lab, l.containers[0], "10.9.0.3")
	l.apply(fmt.Sprintf(text, 3, 2), "~ port a on net1: ips 10.9.0.2/24 -> 10.9.0.3/24\n~ port b on net1: ips 10.9.0.3/24 -> 10.9.0.2/24\n")
	ping(l.Lab, l.containers[0], "10.9.0.2")
	ping(l.Lab, l.containers[1], "10.9.0.3")
}

// TestApplyRefused: what fails in the middle leaves all as it was, traffic included.
func TestApplyRefused(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 4)
	const base = `networks:
  net1:
    subnets: [10.9.0.0/24]
    ports:
      a: {netns: $c0}
      b: {netns: $c1}
`
	if r := l.vsctl(base, "apply"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	exported, before := l.d.Must("export"), netnstest.Get[[]api.Port](l.d, "list-ports")
	pingAlways(t, l.containers[0], b4)
	for _, tt := range []struct{ name, text, words string }{
		{"unknown key", base + "      x: {netns: $c2, ipp: [10.9.0.9]}\n", `unknown key "ipp"`},
		{"given twice", base + "    mtu: 1\n    mtu: 2\n", "line 8, column 5"},
		{"not YAML", base + "\t", "this is not YAML"},
		{"empty", "", "the configuration is empty"},
		{"bad name", "networks: {a/b: {}}", "line 1, column 12: network name"},
		{"no place", base + "      x: {}\n", "port x: say where the port goes"},
		{"no namespace", base + "      x: {netns: nowhere}\n", "operation 1 of 1 (add-port x)"},
		{"overlap", base + "  net2: {subnets: [10.9.0.128/25]}\n", "overlaps 10.9.0.0/24 of network net1"},
		{"address outside", base + "      x: {netns: $c2, ips: [10.8.0.1]}\n", "in none of the network's subnets"},
		{"circle", base + "      x: {netns: 'container:y'}\n      y: {netns: 'container:x'}\n", "no port"},
		{"second default route, while a port is replaced", `networks:
  net1:
    subnets: [10.9.0.0/24]
    ports:
      b: {netns: $c1, type: veth}
      x: {netns: $c2}
      y: {netns: $c2, ifname: eth1}
`, "--default-route=no"},
	} {
		for _, verb := range []string{"diff", "apply"} {
			if strings.HasPrefix(tt.name, "second") && verb == "diff" {
				continue // only the kernel knows
			}
			code := map[string]int{"diff": 2, "apply": 1}[verb]
			if r := l.vsctl(tt.text, verb); r.Code != code || !strings.Contains(r.Err, tt.words) || r.Out != "" {
				t.Errorf("%s: %s: exit code %d, %s%s; want %q", tt.name, verb, r.Code, r.Out, r.Err, tt.words)
			}
		}
		if d := cmp.Diff(exported, l.d.Must("export")); d != "" {
			t.Fatalf("%s: the configuration changed:\n%s", tt.name, d)
		}
		ping(l.Lab, l.containers[0], b4)
	}
	after := netnstest.Get[[]api.Port](l.d, "list-ports")
	if before[0].ID != after[0].ID || before[1].ID != after[1].ID || before[1].MAC != after[1].MAC {
		t.Errorf("ports were %v, are %v", before, after)
	}
}

// TestGatewayKilledInTheMiddle: a port that stays as it is follows its network to another gateway, or a restart brings it back.
func TestGatewayKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	l := newApplyLab(t, 1)
	const text = `networks:
  net1:
    subnets: [10.9.0.0/24]
    gateways: [10.9.0.%s]
    ports:
      a: {netns: $c0}
`
	if r := l.vsctl(fmt.Sprintf(text, "1"), "apply"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	via := func(step, gateway string) {
		t.Helper()
		if out := l.containers[0].Run("ip", "route", "show", "default"); !strings.Contains(out, "via "+gateway+" ") {
			t.Errorf("%s: the default route is %q, want %s", step, out, gateway)
		}
	}
	for _, step := range []string{"transaction.recorded", "set.configured", "transaction.changed", "transaction.committed"} {
		l.d.Stop()
		l.d.Env = []string{"VSWITCH_FAILPOINT=" + step + ":kill"}
		l.d.Start()
		if r := l.vsctl(fmt.Sprintf(text, "254"), "apply"); r.Code != 3 {
			t.Fatalf("%s: exit code %d, %s", step, r.Code, r.Err)
		}
		_ = l.d.Wait()
		l.d.Env = nil
		l.d.Start()
		via(step, map[bool]string{true: "10.9.0.254", false: "10.9.0.1"}[step == "transaction.committed"])
	}
	l.apply(fmt.Sprintf(text, "254"), "")
	l.apply(fmt.Sprintf(text, "1"), "~ network net1: subnets 10.9.0.0/24 gateway 10.9.0.254 -> 10.9.0.0/24 gateway 10.9.0.1\n")
	via("at the end", "10.9.0.1")
}

// TestExportHasEveryKey: each key of a request is one of the object made of it, under the same name and with the same type, or it is
// known to be told otherwise. Else export would lose it.
func TestExportHasEveryKey(t *testing.T) {
	otherwise := map[string]bool{"Name": true, "MayExist": true, "Network": true, "Subnets": true, "Gateways": true, "Ranges": true, "NoSubnet": true,
		"ICC": true, "Netns": true, "PID": true, "IPs": true, "NoIP": true}
	for _, pair := range [][2]any{{api.NetworkRequest{}, api.Network{}}, {api.PortRequest{}, api.Port{}}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(pair[0])) {
			if g, ok := reflect.TypeOf(pair[1]).FieldByName(f.Name); !otherwise[f.Name] && (!ok || g.Type != f.Type) {
				t.Errorf("%T has no field %s of %s as %T has", pair[1], f.Name, f.Type, pair[0])
			}
		}
	}
}
