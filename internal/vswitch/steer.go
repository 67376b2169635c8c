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

// concerns tells whether a publication is reached by the uplink's addresses.
func (s *Switch) concerns(live *liveUplink, q *nat.Publication) bool {
	_, ok := steered[q.Proto]
	return ok && live.work != nil && s.zone(live.Router) == q.Zone && (!q.Addr.IsValid() || slices.Contains(live.wired.addrs, q.Addr))
}

// steerAll makes the uplink take from the host what is published by its addresses. Callers hold liveUplinks.mu.
func (s *Switch) steerAll(live *liveUplink) {
	if live.share == nil {
		return
	}
	var want [len(transportTables)]bpf.PortSet
	for _, q := range s.heard.All() {
		if s.concerns(live, q) {
			want[slices.Index(transportTables[:], steered[q.Proto])].AddRange(q.Low, q.High)
		}
	}
	for i, t := range transportTables {
		live.share.Republish(t, want[i])
	}
}

var transportTables = [...]bpf.Table{bpf.TCP, bpf.UDP, bpf.SCTP}

// steerPublished lets the uplinks take what comes, and leave to the host what is published no longer.
func (s *Switch) steerPublished(gone, come []*nat.Publication) {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	for _, live := range s.liveUplinks.by {
		less := false
		for _, q := range gone {
			if s.concerns(live, q) {
				s.handOut(live, q)
				less = true
			}
		}
		if less { // by another of its addresses a port may still be published
			s.steerAll(live)
			for _, pool := range live.pools {
				s.keepAllOff(pool, s.zone(live.Router))
			}
		}
		for _, q := range come {
			if !s.concerns(live, q) {
				continue
			}
			for p := int(q.Low); live.share != nil && p <= int(q.High); p++ {
				live.share.Publish(steered[q.Proto], uint16(p))
			}
			for _, pool := range live.pools {
				s.keepOff(pool, q.Zone, q, true)
			}
		}
	}
}

// heldByHost returns the ports that sockets of the host hold, but for our listeners, where an uplink of the router would take them away.
func (s *Switch) heldByHost(zone uint16) map[uint8]bpf.PortSet {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	for _, live := range s.liveUplinks.by {
		if live.share == nil || s.zone(live.Router) != zone {
			continue
		}
		held := make(map[uint8]bpf.PortSet)
		for proto, table := range steered {
			ports, err := live.share.Held(table)
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
		return api.Errorf(api.CodeConflict, "port %d/%s is used by a program of the host, which could not be reached any more: 'ss -lnp --%[2]s sport = :%[1]d' says which; stop it, or publish another port",
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
			return api.Errorf(api.CodeConflict, "port %d/%s, which %s publishes, is used by a program of the host, which could not be reached by the uplink: 'ss -lnp --%[2]s sport = :%[1]d' says which; stop it, or unpublish the port",
				p, api.ProtocolName(q.Proto), q.Owner)
		}
	}
	return nil
}
