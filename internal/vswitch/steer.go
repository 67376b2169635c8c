package vswitch

import (
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/nat"
	"vswitch/router"
)

// steered are the protocols whose ports a shared uplink takes from the host, and its tables.
var steered = map[uint8]bpf.Table{packet.ProtoTCP: bpf.TCP, packet.ProtoUDP: bpf.UDP, packet.ProtoSCTP: bpf.SCTP}

// concerns tells whether a publication is reached by the way's addresses.
func (s *Switch) concerns(w *way, q *nat.Publication) bool {
	_, ok := steered[q.Proto]
	return ok && w.work != nil && s.zone(w.Router) == q.Zone && (!q.Addr.IsValid() || slices.Contains(w.wired.addrs, q.Addr))
}

// steerAll makes the way take from the host what is published by its addresses. Callers hold ways.mu.
func (s *Switch) steerAll(w *way) {
	if w.share == nil {
		return
	}
	var want [len(transportTables)]bpf.PortSet
	for _, q := range s.heard.All() {
		if s.concerns(w, q) {
			want[slices.Index(transportTables[:], steered[q.Proto])].AddRange(q.Low, q.High)
		}
	}
	for i, t := range transportTables {
		w.share.Republish(t, want[i])
	}
}

var transportTables = [...]bpf.Table{bpf.TCP, bpf.UDP, bpf.SCTP}

// steerPublished lets the uplinks take what comes, and leave to the host what is published no longer.
func (s *Switch) steerPublished(gone, come []*nat.Publication) {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	for _, w := range s.ways.by {
		less := false
		for _, q := range gone {
			if s.concerns(w, q) {
				s.handOut(w, q)
				less = true
			}
		}
		if less { // by another of its addresses a port may still be published
			s.steerAll(w)
			for _, pool := range w.pools {
				s.keepAllOff(pool, s.zone(w.Router))
			}
		}
		for _, q := range come {
			if !s.concerns(w, q) {
				continue
			}
			for p := int(q.Low); w.share != nil && p <= int(q.High); p++ {
				w.share.Publish(steered[q.Proto], uint16(p))
			}
			for _, pool := range w.pools {
				s.keepOff(pool, q.Zone, q, true)
			}
		}
	}
}

// heldByHost returns the ports that sockets of the host hold, but for our listeners, where an uplink of the router would take them away.
func (s *Switch) heldByHost(zone uint16) map[uint8]bpf.PortSet {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	for _, w := range s.ways.by {
		if w.share == nil || s.zone(w.Router) != zone {
			continue
		}
		held := make(map[uint8]bpf.PortSet)
		for proto, table := range steered {
			ports, err := w.share.Held(table)
			if err != nil {
				s.log.Warn("list the ports of the host's sockets", "err", err)
			}
			s.listeners.disown(proto, &ports)
			held[proto] = ports
		}
		return held // of all uplinks the same: they are one host's
	}
	return nil
}

// checkHeld refuses to publish a port that the host itself uses.
func (v *view) checkHeld(q *nat.Publication) error {
	held, ok := v.held[q.Proto]
	if p := heldOf(q, &held); ok && p != 0 && !inside(v.router, q) {
		return api.Errorf(api.CodeConflict, "port %d/%s is used by a program of the host, which could not be reached any more: stop it, or publish another port",
			p, api.ProtocolName(q.Proto))
	}
	return nil
}

// inside tells whether a publication is heard at one address which is not the host's, or by the host alone: no uplink takes it from the host.
func inside(r *router.Snapshot, q *nat.Publication) bool {
	return q.Addr.IsLoopback() || q.Addr.IsValid() && r.Own(q.Addr) != nil && r.External(q.Addr) == nil
}

// heldOf returns the first port of a publication that is held, or 0.
func heldOf(q *nat.Publication, held *bpf.PortSet) int {
	for p := int(q.Low); p <= int(q.High); p++ {
		if held.Has(uint16(p)) {
			return p
		}
	}
	return 0
}

// checkPublished refuses a shared uplink that would take ports from programs of the host since they are published.
func (d *draft) checkPublished(u *api.Uplink) error {
	if u.Mode != api.UplinkShared {
		return nil
	}
	r, zone, held := d.s.router(u.Router).Snapshot(), d.s.zone(u.Router), make(map[uint8]*bpf.PortSet)
	for _, q := range d.heard.All() {
		if how, _ := d.s.byHost([]*nat.Publication{q}); q.Zone != zone || inside(r, q) || how != "" { // the socket there is ours
			continue
		}
		if held[q.Proto] == nil {
			ports, err := link.HeldPorts(d.s.host, q.Proto)
			if err != nil {
				return err
			}
			held[q.Proto] = &ports
		}
		if p := heldOf(q, held[q.Proto]); p != 0 {
			return api.Errorf(api.CodeConflict, "port %d/%s, which %s publishes, is used by a program of the host, which could not be reached by the uplink: stop it, or unpublish the port",
				p, api.ProtocolName(q.Proto), q.Owner)
		}
	}
	return nil
}
