package vswitch

import (
	"fmt"

	"vswitch/internal/datapath"
)

// notice announces what the data plane did with a port. It must not wait for a verb: verbs wait for the data plane.
func (s *Switch) notice(n datapath.Notice) {
	s.mu.RLock()
	e := s.byID[n.Port]
	s.mu.RUnlock()
	if e == nil {
		return // it is being added or removed
	}
	name := e.port.Name
	switch n.Kind {
	case datapath.PortSlow:
		s.log.Info("port is slow", "port", name, "write", n.Cost, "worker", n.Worker)
		s.events.Publish("port.slow", name, fmt.Sprintf("a write to it takes %v: it moved to worker %d, for slow ports; "+
			"look at the firewall and traffic control rules of its namespace", n.Cost, n.Worker))
	case datapath.PortFast:
		s.log.Info("port is fast again", "port", name, "write", n.Cost, "worker", n.Worker)
		s.events.Publish("port.fast", name, fmt.Sprintf("a write to it takes %v: it moved back to worker %d", n.Cost, n.Worker))
	case datapath.PortFailed:
		s.log.Info("port can't be read", "port", name, "err", n.Err)
		s.events.Publish("port.error", name, fmt.Sprintf("it can't be read (%v) and is tried again from time to time; "+
			"frames are still sent to it", n.Err))
	case datapath.PortWell:
		s.log.Info("port can be read again", "port", name)
		s.events.Publish("port.recovered", name, "it can be read again")
	}
}
