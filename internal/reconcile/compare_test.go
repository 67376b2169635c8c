package reconcile_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
	"vswitch/internal/reconcile"
)

// network makes a network of a name and prefixes.
func network(name string, prefixes ...string) api.Network {
	n := api.Network{ID: "id of " + name, Name: name, Driver: api.DriverBridge, MTU: 1500}
	for _, p := range prefixes {
		n.Subnets = append(n.Subnets, api.Subnet{Prefix: netip.MustParsePrefix(p)})
	}
	return n
}

func port(name, network string, with ...func(*api.Port)) api.Port {
	p := api.Port{Name: name, Network: network, Type: api.PortTAP, Netns: &api.NetnsRef{Spec: "ns-" + name}}
	for _, f := range with {
		f(&p)
	}
	return p
}

// static places MACs behind a port.
func static(macs ...string) func(*api.Port) {
	return func(p *api.Port) {
		for _, m := range macs {
			p.StaticFDB = append(p.StaticFDB, api.StaticMAC{MAC: m})
		}
	}
}

// ips gives a port addresses; "?" is one that is to be chosen.
func ips(list ...string) func(*api.Port) {
	return func(p *api.Port) {
		for _, ip := range list {
			prefix, _ := netip.ParsePrefix(ip)
			p.IPs = append(p.IPs, prefix)
		}
	}
}

func veth(p *api.Port)   { p.Type = api.PortVeth }
func broken(p *api.Port) { p.Status = api.PortStatus{State: api.StateError, Error: "no device"} }

func nets(list ...api.Network) []api.Network { return list }

func with(n []api.Network, p ...api.Port) reconcile.Config {
	return reconcile.Config{Networks: n, Ports: p}
}

func TestCompare(t *testing.T) {
	a, b, jumbo := network("a", "10.0.0.0/24"), network("b"), network("a", "10.0.0.0/24")
	jumbo.MTU = 9000
	two := []string{"10.0.0.0/24", "10.1.0.0/24"}
	for name, tt := range map[string]struct {
		have, want reconcile.Config
		noDelete   bool
		steps      string
	}{
		"nothing": {have: with(nets(a), port("p", "a", static("1"))), want: with(nets(a), port("p", "a", static("1")))},
		"all comes": {want: with(nets(b, a), port("q", "a"), port("p", "b", static("1"))),
			steps: "add network a, add network b, add port q, add port p, add fdb 1"},
		"all goes": {have: with(nets(b, a), port("q", "a"), port("p", "b", static("1"))),
			steps: "delete port q, delete port p, delete network a, delete network b"},
		"all stays": {have: with(nets(b, a), port("q", "a"), port("p", "b", static("1"))), noDelete: true},
		"first what goes": {have: with(nets(a), port("p", "a", static("1", "2")), port("q", "a")),
			want:  with(nets(jumbo, b), port("p", "a", static("3", "2")), port("r", "b")),
			steps: "delete fdb 1, delete port q, change network a: mtu 1500 -> 9000, add network b, add port r, add fdb 3"},
		"in any order": {have: with(nets(network("a", two...)), port("p", "a", ips("10.0.0.2/24", "10.1.0.2/24"))),
			want: with(nets(network("a", two[1], two[0])), port("p", "a", ips("10.1.0.2/24", "10.0.0.2/24")))},
		"port in place": {have: with(nets(a), port("p", "a", ips("10.0.0.2/24"))), want: with(nets(a), port("p", "a", ips("10.0.0.3/24"))),
			steps: "change port p: ips 10.0.0.2/24 -> 10.0.0.3/24"},
		"address to be chosen": {have: with(nets(a), port("p", "a")), want: with(nets(a), port("p", "a", ips("?"))),
			steps: "replace port p: ips - -> automatic"},
		"type is for life": {have: with(nets(a), port("p", "a", static("1"))), want: with(nets(a), port("p", "a", veth, static("1", "2"))),
			steps: "replace port p: type tap -> veth, replace fdb 1, add fdb 2"},
		"entry goes with the port": {have: with(nets(a), port("p", "a", static("1"))), want: with(nets(a), port("p", "a", veth)),
			steps: "replace port p: type tap -> veth"},
		"entry comes with the port": {have: with(nets(a), port("p", "a", static("1"))), want: with(nets(a), port("p", "a", veth)), noDelete: true,
			steps: "replace port p: type tap -> veth, replace fdb 1"},
		"moved": {have: with(nets(a, b), port("p", "a")), want: with(nets(a, b), port("p", "b")), steps: "replace port p: network a -> b"},
		"broken": {have: with(nets(a), port("p", "a", broken)), want: with(nets(a), port("p", "a")),
			steps: "replace port p: it does not work: no device"},
		"subnet that overlaps": {have: with(nets(a), port("p", "a")), want: with(nets(network("a", "10.0.0.0/16")), port("p", "a")),
			steps: "replace network a: subnets 10.0.0.0/24 -> 10.0.0.0/16, replace port p: its network is replaced"},
		"subnet beside": {have: with(nets(a)), want: with(nets(network("a", "10.1.0.0/16"))),
			steps: "change network a: subnets 10.0.0.0/24 -> 10.1.0.0/16"},
	} {
		t.Run(name, func(t *testing.T) {
			var steps []string
			for _, c := range reconcile.Compare(tt.have, tt.want, tt.noDelete) {
				s := c.Action + " " + c.Kind + " " + c.Name
				if c.Action == api.ActionChange || c.Action == api.ActionReplace && c.Kind != api.KindFDB {
					s += ": " + c.Detail
				}
				steps = append(steps, s)
			}
			if d := cmp.Diff(tt.steps, strings.Join(steps, ", ")); d != "" {
				t.Error(d)
			}
		})
	}
}
