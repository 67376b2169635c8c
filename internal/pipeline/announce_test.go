package pipeline

import (
	"net/netip"
	"testing"

	l2switch "vswitch/switch"

	"vswitch/internal/packet"
)

// TestAnnounceOnlyNews: who may know an address is told, and nobody else. That the switch told no other MAC is no reason not to: its
// owner may have changed it and said so himself.
func TestAnnounceOnlyNews(t *testing.T) {
	const p1, p2 packet.PortID = 1, 2
	mac1, mac2 := [6]byte{2, 5: 1}, [6]byte{2, 5: 2}
	addrs := []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00:9::2")}
	others := []netip.Addr{netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("fd00:9::3")}
	n := &Network{Bridge: l2switch.NewBridge(l2switch.Limits{})}
	for _, id := range []packet.PortID{p1, p2} {
		n.Bridge.SetPort(l2switch.PortConf{ID: id, MTU: 1500})
	}
	announce := func(what string, id packet.PortID, mac [6]byte, addrs []netip.Addr, want int) {
		t.Helper()
		if frames, _ := n.Announce(id, mac, addrs, 1); len(frames) != want {
			t.Errorf("%s: %d frames, want %d", what, len(frames), want)
		}
	}
	announce("the first owner", p1, mac1, addrs, 0)
	if id, _, _, ok := n.Bridge.FDB().Lookup(0, mac1, 1); !ok || id != p1 {
		t.Errorf("the MAC is behind port %d, %t", id, ok)
	}
	announce("the same again", p1, mac1, addrs, 2)
	announce("the MAC behind another port", p2, mac1, addrs, 2)
	announce("another MAC", p2, mac2, addrs, 2)
	announce("a port that is no more", 3, mac2, others, 0)
	n.Stranger()
	announce("what a stranger may have had", p2, mac2, others, 2)
	announce("what a stranger had", p2, mac2, others, 2)

	n = &Network{Bridge: n.Bridge}
	n.Stranger()
	announce("what a port had before", p2, mac2, addrs, 2)
	announce("what another may have had before", p2, mac2, others, 2)

	n = &Network{Bridge: n.Bridge}
	a := netip.MustParseAddr("fd00::")
	for range maxTold {
		a = a.Next()
		announce("many", p2, mac2, []netip.Addr{a}, 0)
	}
	announce("one more than are remembered", p2, mac2, addrs[:1], 1)
}
