package reconcile_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
	"vswitch/internal/reconcile"
)

// asked makes the configuration that asks for networks and ports as they are wanted, as far as these tests need it.
func asked(want reconcile.Config) api.Config {
	c := api.Config{Networks: make(map[string]api.NetworkConfig)}
	for _, n := range want.Networks {
		nc := api.NetworkConfig{NetworkRequest: api.NetworkRequest{MTU: n.MTU}, Ports: make(map[string]api.PortConfig)}
		for _, p := range want.Ports {
			if p.Network == n.Name {
				r := api.PortRequest{}
				if p.Netns != nil {
					r.Netns = p.Netns.Spec
				}
				nc.Ports[p.Name] = api.PortConfig{PortRequest: r}
			}
		}
		c.Networks[n.Name] = nc
	}
	return c
}

func mtu(n api.Network, mtu int) api.Network { n.MTU = mtu; return n }

func gateway(n api.Network, ip string) api.Network {
	s := n.Subnets[0]
	s.Gateway = netip.MustParseAddr(ip)
	n.Subnets = []api.Subnet{s}
	return n
}

func beside(other string) func(*api.Port) {
	return func(p *api.Port) { p.Netns = &api.NetnsRef{Spec: "container:" + other} }
}

func byGateway(p *api.Port) { p.DefaultRoute = "auto" }

func TestOperations(t *testing.T) {
	a := network("a", "10.0.0.0/24")
	for _, c := range []struct {
		name       string
		have, want reconcile.Config
		operations []string
	}{
		{"nothing differs", with(nets(a), port("p", "a")), with(nets(a), port("p", "a")), nil},
		{"a port that goes where another is comes after it", with(nil), with(nets(a), port("p", "a", beside("q")), port("q", "a")), []string{
			`{"op":"add-network","name":"a","mtu":1500}`,
			`{"op":"add-port","name":"q","network":"a","netns":"ns-q"}`,
			`{"op":"add-port","name":"p","network":"a","netns":"container:q"}`,
		}},
		{"ports go before their network", with(nets(a), port("p", "a")), with(nil), []string{
			`{"op":"del-port","name":"p"}`,
			`{"op":"del-network","name":"a"}`,
		}},
		{"a port that is made anew keeps its address", with(nets(a), port("p", "a", ips("10.0.0.5/24"))),
			with(nets(a), port("p", "a", veth, ips("10.0.0.5/24"))), []string{
				`{"op":"del-port","name":"p"}`,
				`{"op":"add-port","name":"p","network":"a","netns":"ns-p","ips":["10.0.0.5"]}`,
			}},
		{"a larger MTU comes before the ports that use it", with(nets(a), port("p", "a")),
			with(nets(mtu(a, 9000)), port("p", "a", func(p *api.Port) { p.MTU = 9000 })), []string{
				`{"op":"set-network","mtu":9000,"name":"a"}`,
				`{"op":"set-port","mtu":9000,"name":"p"}`,
			}},
		{"a smaller one after they have let go of it", with(nets(mtu(a, 9000)), port("p", "a", func(p *api.Port) { p.MTU = 9000 })),
			with(nets(a), port("p", "a", func(p *api.Port) { p.MTU = 1400 })), []string{
				`{"op":"set-port","mtu":1400,"name":"p"}`,
				`{"op":"set-network","mtu":1500,"name":"a"}`,
			}},
		{"ports let go of a gateway before it changes", with(nets(gateway(a, "10.0.0.1")), port("p", "a", ips("10.0.0.5/24"), byGateway)),
			with(nets(gateway(a, "10.0.0.254")), port("p", "a", ips("10.0.0.5/24"), byGateway)), []string{
				`{"op":"set-port","default_route":"no","name":"p"}`,
				`{"op":"set-network","gateways":["10.0.0.254"],"name":"a"}`,
				`{"op":"set-port","default_route":"auto","name":"p"}`,
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			changes := reconcile.Compare(c.have, c.want, false)
			var got []string
			for _, o := range reconcile.Operations(changes, asked(c.want), c.have, c.want) {
				b, err := json.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(b))
			}
			if d := cmp.Diff(c.operations, got); d != "" {
				t.Error(d)
			}
		})
	}
}
