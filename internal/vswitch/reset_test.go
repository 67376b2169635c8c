package vswitch_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

// TestUplinkForgedReset: somebody on the way sends resets with addresses and ports of connections, but wrong sequence numbers. Nothing of them
// lasts: kernels take no notice (RFC 5961), and the connections are what they were with the next frame.
func TestUplinkForgedReset(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80")
	all := n.sessions(t)
	forger, mac := n.isp.PacketSocket("eth0"), n.isp.MAC()
	states := func() (list []string) {
		for _, c := range conntrack(t, n.d, "--proto", "tcp") {
			list = append(list, c.State)
		}
		return slices.Compact(list)
	}
	if got := states(); !slices.Equal(got, []string{"established"}) {
		t.Fatalf("connections are %q", got)
	}
	for _, s := range all {
		src, dst := endpoint(s.far.LocalAddr()), endpoint(s.far.RemoteAddr())
		f := packettest.TCP(packettest.From(mac, src.Addr().String(), src.Port()), packettest.To(n.host.Link("up0").MAC, dst.Addr().String(), dst.Port()),
			packettest.Flags(packet.TCPRst|packet.TCPAck), packettest.Seq(1))
		forger.Send(f.Bytes())
	}
	n.d.Eventually("all connections know of a reset", func() bool { return slices.Equal(states(), []string{"aborted"}) })
	for _, s := range all {
		if err := words(s.inner, s.far); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if got := states(); !slices.Equal(got, []string{"established"}) {
		t.Errorf("connections are %q after the forged resets", got)
	}
}

// endpoint is the address and port of one end of a connection.
func endpoint(a net.Addr) netip.AddrPort {
	p := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
