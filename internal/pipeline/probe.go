package pipeline

import (
	l2switch "vswitch/switch"

	"vswitch/internal/packet"
)

// ownProbe takes a probe for loops that this network sent in this VLAN: that it came back is what it was sent for. In another
// network or VLAN it is a broadcast like any other, and may come back by there.
func (w *walk) ownProbe() bool {
	k := &w.f.Key
	if k.EtherType != packet.EtherTypeARP || k.Inner != 0 {
		return false
	}
	probe, ok := l2switch.ParseProbe(w.f.Bytes()[w.f.L3:])
	loops := w.net.Bridge.Loops()
	if !ok || probe.VLAN != w.vlan || !loops.Owns(&probe) {
		return false
	}
	if w.trace == nil && loops.Heard(&probe, w.in.ID, w.now) {
		w.p.Wake()
	}
	return true
}
