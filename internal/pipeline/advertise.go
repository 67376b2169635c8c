package pipeline

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/router"
)

// Types of router discovery (RFC 4861 4.1, 4.2) and its options (4.6, RFC 8106 5.1).
const (
	ndRouterSolicit   = 133
	ndRouterAdvertise = 134

	ndPrefix = 3
	ndMTU    = 5
	ndRDNSS  = 25

	prefixOnLink, prefixAutonomous = 0x80, 0x40
)

// Times of router advertisements (RFC 4861 6.2.1, 10; RFC 8106 5.1).
const (
	maxAdvertiseInterval = 600 * time.Second
	minAdvertiseInterval = 200 * time.Second
	firstInterval        = 16 * time.Second // between the first ones
	firstAdvertisements  = 3
	multicastInterval    = 3 * time.Second       // between any two to all
	answerInterval       = 10 * time.Millisecond // between two to one neighbor each; beyond that all are told at once
	routerLifetime       = 3 * maxAdvertiseInterval
	prefixValid          = 30 * 24 * time.Hour
	prefixPreferred      = 7 * 24 * time.Hour
)

// Advertisement is what a network's gateway tells of itself and of the network (RFC 4861 4.2). It never changes.
type Advertisement struct {
	MTU      int
	Prefixes []netip.Prefix // of IPv6; hosts make addresses of their own in those of 64 bits
	Default  bool           // the gateway leads to other networks
	DNS      []netip.Addr   // IPv6 addresses of resolvers
}

// advertiser sends a network's advertisements.
//
//	writes   the slow path of any worker, when it is asked; Tend, once a second
//	safety   one mutex, on the slow path only
type advertiser struct {
	Advertisement

	mu       sync.Mutex
	sent     int   // to all, as far as the first ones; guarded by mu
	last     int64 // when all were told; guarded by mu
	next     int64 // when they will be; guarded by mu
	answered int64 // when one was; guarded by mu
}

// Advertise lets the network's gateway send router advertisements, in place of those that it sends; nil: none. It returns what takes
// back what holds no longer. The network has a gateway.
func (n *Network) Advertise(a *Advertisement) *flow.Made {
	old := n.advertiser.Load()
	switch {
	case a == nil && old == nil, a != nil && old != nil && reflect.DeepEqual(*a, old.Advertisement):
		return nil
	case a == nil:
		n.advertiser.Store(nil)
	default:
		n.advertiser.Store(&advertiser{Advertisement: *a})
	}
	gw := n.gateway.Load()
	if old == nil || gw == nil {
		return nil
	}
	gone := Advertisement{MTU: old.MTU, Prefixes: old.Prefixes, DNS: old.DNS} // RFC 4861 6.2.5
	if a == nil {
		return n.advertised(gw.If, gone.message(gw.If, false, true))
	}
	gone.MTU, gone.Prefixes, gone.DNS = a.MTU, without(old.Prefixes, a.Prefixes), without(old.DNS, a.DNS)
	if len(gone.Prefixes)+len(gone.DNS) == 0 {
		return nil
	}
	return n.advertised(gw.If, gone.message(gw.If, a.Default, true))
}

// without returns what is in the list and not in the other one.
func without[T comparable](list, other []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return slices.Contains(other, x) })
}

// TendAdvertiser returns the advertisement that is due, or nil.
func (n *Network) TendAdvertiser(now int64) *flow.Made {
	a, gw := n.advertiser.Load(), n.gateway.Load()
	if a == nil || gw == nil || !a.due(now) {
		return nil
	}
	return n.advertised(gw.If, a.message(gw.If, a.Default, false))
}

// due tells whether all are to be told now, and plans when they are told again.
func (a *advertiser) due(now int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now < a.next {
		return false
	}
	spread := int64(maxAdvertiseInterval - minAdvertiseInterval)
	wait := int64(minAdvertiseInterval) + now%spread // the clock's fractions are as good as dice (RFC 4861 6.2.4)
	if a.sent++; a.sent <= firstAdvertisements {
		wait = int64(firstInterval)
	}
	a.last, a.next = now, now+wait
	return true
}

// ask tells whether one neighbor may be answered. If not, all will be told soon.
func (a *advertiser) ask(alone bool, now int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if alone && now-a.answered >= int64(answerInterval) {
		a.answered = now
		return true
	}
	a.next = min(a.next, a.last+int64(multicastInterval))
	return false
}

// advertised sends a message to all nodes of the network.
func (n *Network) advertised(i *router.Interface, m []byte) *flow.Made {
	set := n.Bridge.Snapshot().Flood(0, false)
	if len(set.Members) == 0 {
		return nil
	}
	return &flow.Made{Bytes: fromRouter(i, netip.IPv6LinkLocalAllNodes(), [6]byte{0x33, 0x33, 0, 0, 0, 1}, m), Set: set}
}

// fromRouter makes a frame of a router's message.
func fromRouter(i *router.Interface, to netip.Addr, mac [6]byte, m []byte) []byte {
	b := newIPv6(mac, i.MAC, router.LinkLocal(i.MAC), to, packet.ProtoICMPv6, 255, len(m))
	copy(b[54:], m)
	finishICMPv6(b)
	return b
}

// message makes the advertisement, without its checksum. leads: the gateway may be used as a default router. gone: its prefixes and resolvers
// may not any more.
func (a *Advertisement) message(i *router.Interface, leads, gone bool) []byte {
	valid, preferred, dns := prefixValid, prefixPreferred, routerLifetime
	if gone {
		valid, preferred, dns = 0, 0, 0
	}
	b := make([]byte, 16, 512)
	b[0], b[4] = ndRouterAdvertise, 64 // hop limit
	if leads {
		binary.BigEndian.PutUint16(b[6:], uint16(routerLifetime/time.Second))
	}
	b = append(append(b, ndSourceLL, 1), i.MAC[:]...)
	b = binary.BigEndian.AppendUint32(append(b, ndMTU, 1, 0, 0), uint32(a.MTU))
	for _, p := range a.Prefixes {
		flags := byte(prefixOnLink)
		if p.Bits() == 64 { // RFC 4862 5.5.3 d: others can't be completed with an interface identifier
			flags |= prefixAutonomous
		}
		b = append(b, ndPrefix, 4, byte(p.Bits()), flags)
		b = binary.BigEndian.AppendUint32(b, uint32(valid/time.Second))
		b = binary.BigEndian.AppendUint32(b, uint32(preferred/time.Second))
		b = append(append(b, 0, 0, 0, 0), p.Masked().Addr().AsSlice()...)
	}
	if len(a.DNS) > 0 {
		b = append(b, ndRDNSS, byte(1+2*len(a.DNS)), 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(dns/time.Second))
		for _, d := range a.DNS {
			b = append(b, d.AsSlice()...)
		}
	}
	return b
}

// solicited answers a router solicitation that is valid (RFC 4861 6.1.1), if the network's gateway advertises itself.
func (w *walk) solicited(stage string, a *advertiser) bool {
	h, t := w.f.IPv6(), w.f.Transport()
	src := netip.AddrFrom16([16]byte(h.Src()))
	ll, ok := ndOption(t[8:], ndSourceLL)
	i := w.gw.If
	if h.HopLimit() != 255 || t[1] != 0 || !ok || src.IsUnspecified() && ll != nil || i.Owns(src) || !w.f.VerifyTransport() || !w.forUs() {
		return w.fib == nil || w.drop(stage, packet.DropNotRoutable)
	}
	w.mine = true
	alone := !src.IsUnspecified() && i.OnLink(src)
	if w.trace != nil || a.ask(alone, w.now) {
		w.answer(stage, "router advertisement", func() []byte {
			return fromRouter(i, src, w.f.Key.SrcMAC, a.message(i, a.Default, false))
		})
	}
	return w.fib == nil || w.take(stage, "router solicitation")
}
