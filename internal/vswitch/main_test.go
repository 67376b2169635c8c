package vswitch_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == asOnOlder {
		fmt.Fprintln(os.Stderr, becomeOnOlder(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	netnstest.Main(m)
}

// portStats returns the counters of one port.
func portStats(t testing.TB, d *netnstest.Daemon, name string) api.PortStats {
	t.Helper()
	for _, p := range netnstest.Get[api.Stats](d, "stats").Ports {
		if p.Port == name {
			return p
		}
	}
	t.Fatalf("no counters of port %s", name)
	return api.PortStats{}
}

// dropped returns how many packets of a port were dropped for the reason.
func dropped(d *netnstest.Daemon, port, reason string) uint64 {
	drops, _ := d.Client.Drops(context.Background()) // a daemon that is away is noticed otherwise
	for _, x := range drops {
		if x.Port == port && x.Reason == reason {
			return x.Packets
		}
	}
	return 0
}

// lost returns what was dropped in all, but for what had no receiver, as when the first container speaks before the second is
// there.
func lost(d *netnstest.Daemon) (n uint64) {
	for _, x := range netnstest.Get[[]api.Drop](d, "drops") {
		if x.Reason != "no_receiver" {
			n += x.Packets
		}
	}
	return n
}

func macBytes(mac string) []byte {
	b, err := net.ParseMAC(mac)
	if err != nil {
		panic(err)
	}
	return b
}

func addrPort(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}
