package link_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

// attach makes a port of a kind and places it under a name, as eth0 would be.
func attach(kind string, private, ns *link.Namespace, ifname string) (created, placed time.Duration, undo func() error, err error) {
	start := time.Now()
	c := link.PlaceConfig{IfName: ifname, Addrs: left}
	if kind == "tap" {
		var dev link.TAP
		if dev, undo, err = link.CreateTAP(private, link.TAPConfig{Name: linktest.Name(), MAC: mac, MTU: 1450}); err != nil {
			return 0, 0, nil, err
		}
		created = time.Since(start)
		_, _, err = link.Place(private, dev.Index, ns, c)
	} else {
		var pair link.Veth
		if pair, undo, err = link.CreateVeth(private, link.VethConfig{Name: linktest.Name(), Target: ns, PeerName: ifname, MAC: mac, MTU: 1450}); err != nil {
			return 0, 0, nil, err
		}
		created = time.Since(start)
		if _, _, err = pair.Place(private, ns, c); err == nil {
			err = link.SetVethCarrier(private, pair.Index, true)
		}
	}
	return created, time.Since(start) - created, undo, err
}

func TestAttachConcurrently(t *testing.T) {
	private := linktest.Private(t)
	spaces := []*link.Namespace{linktest.Namespace(t), linktest.Namespace(t)}
	var all errgroup.Group
	for i := range 12 {
		all.Go(func() error {
			kind := []string{"tap", "veth"}[i%2]
			_, _, undo, err := attach(kind, private, spaces[i/2%2], fmt.Sprintf("eth%d", i))
			if err != nil {
				return err
			}
			return undo()
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

func BenchmarkAttach(b *testing.B) {
	for _, kind := range []string{"tap", "veth"} {
		b.Run(kind, func(b *testing.B) {
			private, ns := linktest.Private(b), linktest.Namespace(b)
			var create, place, remove time.Duration
			for b.Loop() {
				created, placed, undo, err := attach(kind, private, ns, "eth0")
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := undo(); err != nil {
					b.Fatal(err)
				}
				create, place, remove = create+created, place+placed, remove+time.Since(start)
			}
			n := float64(b.N) * 1e6
			b.ReportMetric(float64(create)/n, "create-ms")
			b.ReportMetric(float64(place)/n, "place-ms")
			b.ReportMetric(float64(remove)/n, "undo-ms")
		})
	}
}
