package vswitch_test

import (
	"testing"

	"vswitch/internal/netnstest"
)

// TestUplinkBlackHole: bulk TCP passes an uplink whose MTU is smaller than the container's, where neither end hears ICMP errors.
func TestUplinkBlackHole(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.host.IP("link set up0 mtu 1400")
	n.isp.IP("link set eth0 mtu 1400")
	n.d.Must("add-uplink", "auto")
	for _, c := range []*netnstest.Container{n.c, n.server, n.isp} {
		for _, rule := range []string{
			"add table inet deaf",
			"add chain inet deaf in { type filter hook input priority 0; }",
			"add chain inet deaf out { type filter hook output priority 0; }",
			"add rule inet deaf in icmp type destination-unreachable drop",
			"add rule inet deaf in icmpv6 type packet-too-big drop",
			"add rule inet deaf out icmp type destination-unreachable drop",
			"add rule inet deaf out icmpv6 type packet-too-big drop",
		} {
			c.Run("nft", rule)
		}
	}
	for _, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		if err := netnstest.Stream(n.c, n.server, addr, 8<<20); err != nil {
			t.Errorf("TCP with %s: %v", addr, err)
		}
	}
	if n := dropped(n.d, "c", "frag_needed"); n != 0 {
		t.Errorf("%d frames were too large", n)
	}
	netnstest.ExpectNoErrors(n.c, n.server)
}
