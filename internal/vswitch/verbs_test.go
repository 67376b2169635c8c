package vswitch_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/ctl"
	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestManyVerbsAtOnce changes and looks at everything at once, while traffic flows and namespaces die.
func TestManyVerbsAtOnce(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "2")
	a, b := d.Pair("net1", "--subnet", "10.9.0.0/16")
	ctx, cancel := context.WithTimeout(t.Context(), 3*netnstest.Patience) // the kernel ends namespaces one after the other
	defer cancel()
	looking, stop := context.WithCancel(ctx)
	var lookers, changers errgroup.Group
	for _, look := range append(looks(ctx, d.Client), func() error { return netnstest.Stream(a, b, b4, 1<<20) }) {
		lookers.Go(func() error {
			for looking.Err() == nil {
				if err := look(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range 4 {
		c, dying := lab.Container("c"), lab.Containers("x", "x", "x")
		changers.Go(func() error {
			for _, x := range dying {
				if err := change(ctx, d.Client, i, c, x); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := changers.Wait(); err != nil {
		t.Error(err)
	}
	stop()
	if err := lookers.Wait(); err != nil {
		t.Error(err)
	}
	sh, err := d.Client.Show(ctx)
	if err != nil || len(sh.Ports) != 2 || len(sh.Networks) != 1 {
		t.Errorf("%d networks and %d ports are left, %v", len(sh.Networks), len(sh.Ports), err)
	}
}

// looks are the verbs that change nothing of the intent.
func looks(ctx context.Context, c *ctl.Client) []func() error {
	return []func() error{
		func() error { _, err := c.Show(ctx); return err },
		func() error { _, err := c.Stats(ctx); return err },
		func() error { _, err := c.Drops(ctx); return err },
		func() error { _, err := c.FDB(ctx, ""); return err },
		func() error { _, err := c.Flows(ctx, ""); return err },
		func() error { _, err := c.FlushFlows(ctx); return err },
		func() error {
			for _, err := range c.Connections(ctx, api.ConnectionFilter{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		func() error { _, err := c.FlushConnections(ctx, api.ConnectionFilter{}); return err },
		func() error {
			_, err := c.Trace(ctx, api.TraceRequest{Flow: "in_port=a,icmp,ip_dst=10.9.0.3"})
			return err
		},
	}
}

// change makes a network with a port in stays, and one on net1 in dies, which is then deleted; and waits until all are gone.
func change(ctx context.Context, c *ctl.Client, i int, stays, dies *netnstest.Container) error {
	network, name, kind := fmt.Sprint("n", i), fmt.Sprint("p", i), []string{api.PortTAP, api.PortVeth}[i%2]
	if _, err := c.AddNetwork(ctx, api.NetworkRequest{Name: network, NoSubnet: true}); err != nil {
		return err
	}
	if _, err := c.AddPort(ctx, api.PortRequest{Name: name, Network: network, Netns: stays.Name, Type: kind}); err != nil {
		return err
	}
	if i < 2 { // one of each kind
		if err := alter(ctx, c, network, name); err != nil {
			return err
		}
	}
	if _, err := c.AddPort(ctx, api.PortRequest{Name: name + "x", Network: "net1", Netns: dies.Name, Type: kind}); err != nil {
		return err
	}
	dies.Delete()
	if err := c.DeleteNetwork(ctx, network, true); err != nil {
		return err
	}
	for {
		var gone *api.Error
		if _, err := c.Port(ctx, name+"x"); errors.As(err, &gone) && gone.Code == api.CodeNotFound {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// alter changes a port and its network, and has the port leave and come back.
func alter(ctx context.Context, c *ctl.Client, network, port string) error {
	mtu, limit, on, mac := 1400, 7, true, "random"
	_, err1 := c.SetPort(ctx, port, api.PortChange{MTU: &mtu, MACLimit: &limit, SourceGuard: &on, MAC: &mac})
	_, err2 := c.SetNetwork(ctx, network, api.NetworkChange{AddSubnets: []netip.Prefix{{}}, Internal: &on, MACLimit: &limit})
	_, err3 := c.Disconnect(ctx, port, api.DisconnectRequest{})
	_, err4 := c.Connect(ctx, port, api.ConnectRequest{Network: network})
	return errors.Join(err1, err2, err3, err4)
}

// TestAllDieAtOnce deletes the namespaces of many ports: all are gone soon, and the others' traffic goes on.
func TestAllDieAtOnce(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", "10.9.0.0/16")
	var all []*netnstest.Container
	for i := range 5 {
		c := lab.Container("x")
		for j := range 8 {
			name := fmt.Sprintf("x%d-%d", i, j)
			d.Join("net1", name, c, "--ifname", name, "--default-route=no", "--type", []string{"tap", "veth"}[j%2])
		}
		all = append(all, c)
	}
	done := make(chan error)
	go func() { done <- netnstest.Stream(a, b, b4, 32<<20) }()
	start := time.Now()
	for _, c := range all {
		c.Delete()
	}
	d.Eventually("all ports of dead namespaces are gone", func() bool {
		ports, err := d.Client.Ports(t.Context())
		return err == nil && len(ports) == 2
	})
	t.Logf("40 ports were gone after %v", time.Since(start))
	if err := <-done; err != nil {
		t.Errorf("a stream of two others: %v", err)
	}
}

// TestOneOfManyWins: of verbs at the same time that want the same name, MAC, address or interface, one gets it, and the others
// leave nothing.
func TestOneOfManyWins(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	x, y := lab.Container("x"), lab.Container("y")
	const n = 8
	atOnce := func(what, code string, f func(i int) error) {
		t.Helper()
		var g errgroup.Group
		var won atomic.Int32
		for i := range n {
			g.Go(func() error {
				err := f(i)
				e := new(api.Error)
				if err == nil {
					won.Add(1)
				} else if !errors.As(err, &e) || e.Code != code {
					return err
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil || won.Load() != 1 {
			t.Errorf("%s: %d of %d won, %v", what, won.Load(), n, err)
		}
	}
	add := func(r api.PortRequest) error {
		r.Network, r.Type = "net1", portTypes[len(r.Name)%2]
		_, err := d.Client.AddPort(t.Context(), r)
		return err
	}
	name := func(i int) string { return "ppppppppp"[i:] }
	ifname := func(i int) string { return fmt.Sprint("eth", i) }
	for _, tt := range []struct {
		what string
		port func(i int) api.PortRequest
	}{
		{"name", func(i int) api.PortRequest {
			return api.PortRequest{Name: "p", Netns: x.Name, IfName: ifname(i), DefaultRoute: "no"}
		}},
		{"MAC", func(i int) api.PortRequest {
			return api.PortRequest{Name: name(i), Netns: x.Name, IfName: ifname(i), DefaultRoute: "no", MAC: "02:00:00:00:00:09"}
		}},
		{"address", func(i int) api.PortRequest {
			return api.PortRequest{Name: name(i), Netns: x.Name, IfName: ifname(i), DefaultRoute: "no", IPs: []netip.Addr{netip.MustParseAddr(b4)}}
		}},
		{"interface", func(i int) api.PortRequest { return api.PortRequest{Name: name(i), Netns: y.Name} }},
	} {
		atOnce(tt.what, api.CodeConflict, func(i int) error { return add(tt.port(i)) })
		left := netnstest.Get[[]api.Port](d, "list-ports")
		if len(left) != 1 || len(x.Links())+len(y.Links()) != 1 {
			t.Fatalf("%s: %d ports, %d and %d interfaces", tt.what, len(left), len(x.Links()), len(y.Links()))
		}
		atOnce("delete, "+tt.what, api.CodeNotFound, func(int) error { return d.Client.DeletePort(t.Context(), left[0].Name) })
	}
}
