package vswitch

import (
	"net/netip"

	"vswitch/internal/bpf"
	"vswitch/nat"
)

// Pools hold the ports of an address that masqueraded connections get. Not among them is what is published at the address and, of an
// address of the host's, what its sockets hold.

// keepOff keeps what a publication listens on from being handed out by a pool of a router's, or lets it be handed out again.
func (s *Switch) keepOff(pool *nat.Pool, zone uint16, q *nat.Publication, keep bool) {
	if q.Zone == zone && (!q.Addr.IsValid() || q.Addr == pool.Addr()) {
		s.conns.Keep(pool, q.Proto, q.Low, q.High, keep)
	}
}

// keepAllOff keeps all that is published from being handed out by a pool of a router's.
func (s *Switch) keepAllOff(pool *nat.Pool, zone uint16) {
	for _, q := range s.heard.All() {
		s.keepOff(pool, zone, q, true)
	}
}

// newPool makes a pool of one of the uplink's addresses. Callers hold liveUplinks.mu.
func (s *Switch) newPool(live *liveUplink, a netip.Addr) *nat.Pool {
	pool, err := s.conns.NewPool(a, live.NATPorts.First, live.NATPorts.Last)
	if err != nil {
		s.log.Error("masquerade by an uplink", "uplink", live.Name, "err", err)
		return nil
	}
	for proto, table := range steered {
		own := live.owned(table)
		for p := int(live.NATPorts.First); p <= int(live.NATPorts.Last); p++ {
			if !own.Has(uint16(p)) {
				s.conns.Keep(pool, proto, uint16(p), uint16(p), true)
			}
		}
	}
	s.keepAllOff(pool, s.zone(live.Router))
	return pool
}

// owned returns the ports that the uplink may use: all of its own addresses, or of a shared interface's those that the host leaves.
func (live *liveUplink) owned(t bpf.Table) (own bpf.PortSet) {
	if live.share != nil {
		return live.share.Ports(t)
	}
	own.AddRange(0, 65535)
	return own
}

// handOut lets the uplink's pools hand out again what a publication listened on, but for what the host's sockets hold.
func (s *Switch) handOut(live *liveUplink, q *nat.Publication) {
	own := live.owned(steered[q.Proto])
	for p := int(max(q.Low, live.NATPorts.First)); p <= int(min(q.High, live.NATPorts.Last)); p++ {
		for _, pool := range live.pools {
			s.conns.Keep(pool, q.Proto, uint16(p), uint16(p), !own.Has(uint16(p)))
		}
	}
}
