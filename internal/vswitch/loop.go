package vswitch

import (
	"context"
	"fmt"
	"math"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/packet"
)

// flapInterval is how often at most a network tells of addresses that flap.
const flapInterval = time.Second

// tend carries out what the slow path left to do: probes for loops, ports to block and to try again, and news. While nothing
// is suspected and no port is blocked, nothing wakes it.
func (s *Switch) tend(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.line.Woken():
		case <-timer.C:
		}
		now := s.path.Now()
		timer.Stop()
		if next := s.tendNetworks(now); next < math.MaxInt64 {
			timer.Reset(time.Duration(next - now))
		}
	}
}

// tendNetworks does what is due and returns when the next thing is.
func (s *Switch) tendNetworks(now int64) (next int64) {
	s.mu.RLock()
	nets := make([]*network, 0, len(s.networks))
	for _, n := range s.networks {
		nets = append(nets, n)
	}
	s.mu.RUnlock()
	next = math.MaxInt64
	for _, n := range nets {
		news, due := n.line.Bridge.Tend(now, s.sendProbe)
		for i := range news {
			s.announceLoop(&news[i])
		}
		next = min(next, due, s.tellFlaps(n, now))
	}
	return next
}

// sendProbe writes to the port, unless its interface would refuse it.
func (s *Switch) sendProbe(id packet.PortID, frame []byte) {
	s.mu.RLock()
	e := s.byID[id]
	up := e != nil && !e.down
	s.mu.RUnlock()
	if up {
		s.path.Send(id, frame)
	}
}

// portUp lets a port be probed that came up or was added.
func (s *Switch) portUp(e *endpoint) {
	if e.net == nil {
		return
	}
	e.net.line.Bridge.PortUp(e.id, s.path.Now())
	s.line.Wake()
}

func (s *Switch) announceLoop(n *l2switch.LoopNews) {
	name := s.nameOf()
	port, typ, message := name(n.Port), "port.loop", ""
	switch {
	case !n.Blocked:
		typ, message = "port.unblocked", fmt.Sprintf("frames do not come back by port %s any more", name(n.Peer))
	case n.Port == n.Peer:
		message = fmt.Sprintf("frames loop%s: they come back by the port itself; it is blocked, and tried again in %v",
			inVLAN(n.VLAN), n.Retry.Round(time.Second))
	default:
		message = fmt.Sprintf("frames loop%s between ports %s and %s; %[3]s is blocked, and tried again in %v",
			inVLAN(n.VLAN), name(n.Peer), port, n.Retry.Round(time.Second))
	}
	if n.Blocked {
		s.log.Warn("port is blocked", "port", port, "why", message)
	} else {
		s.log.Info("port is not blocked any more", "port", port)
	}
	s.events.Publish(typ, port, message)
}

// tellFlaps tells of addresses that were damped, but not more often than every flapInterval, and returns when it should be
// called again. Only for tend.
func (s *Switch) tellFlaps(n *network, now int64) (next int64) {
	fdb := n.line.Bridge.FDB()
	if !fdb.Flapping() {
		return math.MaxInt64
	}
	if n.flapsTold != 0 && now-n.flapsTold < int64(flapInterval) {
		return n.flapsTold + int64(flapInterval)
	}
	n.flapsTold = now
	name := s.nameOf()
	list, more := fdb.TakeFlaps()
	for _, f := range list {
		s.events.Publish("mac.flapping", n.line.Name, fmt.Sprintf("%s%s moves all the time, as between ports %s and %s: it stays behind %s for %v",
			macString(f.MAC), inVLAN(f.VLAN), name(f.From), name(f.To), name(f.Home), l2switch.HoldDown))
	}
	if more > 0 {
		s.events.Publish("mac.flapping", n.line.Name, fmt.Sprintf("%d more addresses move all the time", more))
	}
	return math.MaxInt64
}

func inVLAN(vlan uint16) string {
	if vlan == 0 {
		return ""
	}
	return fmt.Sprintf(" in VLAN %d", vlan)
}

// blockedBy says in words why the port is blocked; "" when it is not.
func (s *Switch) blockedBy(e *endpoint) string {
	if e.net == nil {
		return ""
	}
	peer, ok := e.net.line.Bridge.Loops().Blocked(e.id)
	switch {
	case !ok:
		return ""
	case peer == e.id:
		return "frames sent to it come back"
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.byID[peer]; p != nil {
		return fmt.Sprintf("frames loop between it and port %s", p.port.Name)
	}
	return "frames looped between it and a port that is no more"
}
