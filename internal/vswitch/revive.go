package vswitch

import (
	"context"
	"errors"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// adopt goes on with file descriptors that were kept.
func (s *Switch) adopt(n *network, p *api.Port, held map[string]int) (*endpoint, error) {
	dev, err := s.adoptDevice(p, held)
	if err != nil {
		return nil, err
	}
	_, dev.before = s.deviceDrops(dev)
	return s.plug(n, p, dev)
}

// reopen finds a TAP whose file descriptor is lost. It has kept its place, name and addresses.
func (s *Switch) reopen(ctx context.Context, n *network, p *api.Port) (*endpoint, error) {
	ns, err := s.openNetns(p)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	t, err := link.ReopenTAP(ctx, ns, p.IfName)
	if err != nil {
		return nil, err
	}
	dev := newTAP(p, t)
	_, dev.before = s.deviceDrops(dev)
	if err = s.keep(dev); err == nil {
		var e *endpoint
		if e, err = s.plug(n, p, dev); err == nil {
			return e, nil
		}
	}
	s.forget(p.ID)
	return nil, errors.Join(err, dev.port.Close())
}

// remake makes a port anew whose device a transaction took away: it was cut off before it was done, and shall not have been.
func (s *Switch) remake(n *network, p *api.Port, held map[string]int) (*endpoint, error) {
	s.discardDevice(p, held)
	e, err := s.recreate(n, p)
	if err == nil {
		s.save(e)
	}
	return e, err
}

// recreate makes a device again, such as a veth pair that died with the private namespace: the new one has the old one's name,
// MAC, addresses and routes. Its file descriptors are stored only when it is in place: those that are, are of a whole port.
func (s *Switch) recreate(n *network, p *api.Port) (*endpoint, error) {
	target, err := s.openNetns(p)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	s.clearWay(p, target)
	dev, place, undo, err := s.createDevice(p, target)
	if err != nil {
		return nil, err
	}
	s.passing("recreate.created")
	if _, _, err = place(s.placing(n, p)); err == nil {
		s.passing("recreate.placed")
		err = s.keep(dev)
	}
	var e *endpoint
	if err == nil {
		e, err = s.plug(n, p, dev)
	}
	if err != nil {
		s.forget(p.ID)
		return nil, errors.Join(err, undo())
	}
	s.announce(e)
	s.log.Info("the device of a port is made anew", "port", p.Name)
	return e, nil
}

// clearWay removes what is left of the veth pair: the kernel may still be busy removing the old one, or the daemon was killed
// in recreate.
func (s *Switch) clearWay(p *api.Port, target *link.Namespace) {
	for _, at := range []struct {
		ns   *link.Namespace
		name string
	}{{s.private, link.DeviceName(p.ID)}, {target, p.IfName}} {
		st, err := link.Lookup(at.ns, at.name)
		if err != nil || st.Kind != "veth" || at.ns == target && st.MAC.String() != p.MAC {
			continue // if it is in the way, it will be said
		}
		if err := link.Delete(at.ns, st.Index); err != nil {
			s.log.Warn("remove the rest of a veth pair", "port", p.Name, "err", err)
		}
	}
}
