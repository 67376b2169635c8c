package pipeline

import (
	"net/netip"

	"vswitch/internal/packet"
)

// bogus holds the addresses and options of a datagram that came by the gateway's MAC against what can be (RFC 1812 5.3.7, 5.2.4.1).
func (w *walk) bogus(src, dst netip.Addr) packet.DropReason {
	switch {
	case martianSource(src) || martianDestination(dst) || w.fib.Own(src) != nil || w.gw.If.Owns(src) || w.ourEcho(src):
		return packet.DropMartian
	case w.fib.Broadcast(dst) || w.fib.Broadcast(src):
		return packet.DropDirectedBroadcast
	case w.f.Flags&packet.FlagOptions != 0 && w.sourceRouted():
		return packet.DropSourceRoute
	}
	return packet.DropNone
}

// martianSource tells whether no datagram can come from there: unspecified, loopback, groups, reserved (RFC 6890).
func martianSource(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] == 0 || b[0] == 127 || b[0] >= 224
	}
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6()
}

// martianDestination is martianSource for destinations. Link-local IPv4 is never forwarded (RFC 3927 2.7).
func martianDestination(a netip.Addr) bool {
	return martianSource(a) || a.Is4() && a.IsLinkLocalUnicast()
}

// sourceRouted looks for loose and strict source routes (RFC 791 3.1) and for routing headers of type 0 (RFC 5095).
func (w *walk) sourceRouted() bool {
	if w.f.Key.EtherType == packet.EtherTypeIPv4 {
		h := w.f.IPv4()
		for o := h[20:h.HeaderLen()]; len(o) > 0 && o[0] != 0; {
			n := 1
			if o[0] != 1 {
				if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
					return true // malformed: who knows what is meant
				}
				n = int(o[1])
			}
			if o[0] == 131 || o[0] == 137 {
				return true
			}
			o = o[n:]
		}
		return false
	}
	h := w.f.IPv6()
	for next, at := h.NextHeader(), 40; len(h) >= at+8; {
		switch next {
		case 43:
			if h[at+2] == 0 {
				return true
			}
			fallthrough
		case 0, 60, 135:
			next, at = h[at], at+8+8*int(h[at+1])
		case 44:
			next, at = h[at], at+8
		case 51:
			next, at = h[at], at+max(12, 8+4*int(h[at+1]))
		default:
			return false
		}
	}
	return false
}
