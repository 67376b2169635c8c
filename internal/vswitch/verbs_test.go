package vswitch_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestManyVerbsAtOnce changes and looks at everything at once, while traffic flows and namespaces die.
func TestManyVerbsAtOnce(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.Daemon("--workers", "2", "--fdstore", "keeper")
	a, b := d.Pair("net1", "--subnet", "10.9.0.0/16")
	ctx, cancel := context.WithTimeout(t.Context(), netnstest.Patience)
	defer cancel()
	looking, stop := context.WithCancel(ctx)
	var lookers, changers errgroup.Group
	for _, look := range []func() error{
		func() error { _, err := d.Client.Show(ctx); return err },
		func() error { _, err := d.Client.Stats(ctx); return err },
		func() error { _, err := d.Client.Drops(ctx); return err },
		func() error { _, err := d.Client.FDB(ctx, ""); return err },
		func() error { _, err := d.Client.Flows(ctx, ""); return err },
		func() error { _, err := d.Client.FlushFlows(ctx); return err },
		func() error {
			_, err := d.Client.Trace(ctx, api.TraceRequest{Flow: "in_port=a,icmp,ip_dst=10.9.0.3"})
			return err
		},
	} {
		lookers.Go(func() error {
			for looking.Err() == nil {
				if err := look(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	lookers.Go(func() error {
		for looking.Err() == nil {
			if err := netnstest.Stream(a, b, b4, 1<<20); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 4 {
		c, dying := lab.Container("c"), lab.Containers("x", "x", "x")
		changers.Go(func() error {
			kind := []string{api.PortTAP, api.PortVeth}[i%2]
			for round := range 6 {
				net, name := fmt.Sprint("n", i), fmt.Sprint("p", i)
				if _, err := d.Client.AddNetwork(ctx, api.NetworkRequest{Name: net, NoSubnet: true}); err != nil {
					return err
				}
				if _, err := d.Client.AddPort(ctx, api.PortRequest{Name: name, Network: net, Netns: c.Name, Type: kind}); err != nil {
					return err
				}
				if round%2 == 0 { // its namespace dies
					x := dying[round/2]
					if _, err := d.Client.AddPort(ctx, api.PortRequest{Name: name + "x", Network: "net1", Netns: x.Name, Type: kind}); err != nil {
						return err
					}
					x.Delete()
				}
				if err := d.Client.DeleteNetwork(ctx, net, true); err != nil {
					return err
				}
				for {
					_, err := d.Client.Port(ctx, name+"x")
					if err != nil {
						break
					}
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
