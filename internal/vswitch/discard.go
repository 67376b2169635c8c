package vswitch

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// discard removes all traces of a port that shall not be: device, kept file descriptors, record.
func (s *Switch) discard(p *api.Port, held map[string]int) {
	s.discardDevice(p, held)
	s.passing("discard.device")
	if p.Name == "" {
		return
	}
	if err := s.store.DeletePort(p.ID); err != nil {
		s.log.Error("delete a port's record", "port", p.Name, "err", err)
	}
}

// discardDevice removes the device of a port that is not at work, and what was kept of it.
func (s *Switch) discardDevice(p *api.Port, held map[string]int) {
	frames, kept := held[fdFrames]
	if kept {
		_ = link.Condemn(frames) // no TAP, or one that is gone: nothing to condemn
	}
	s.forget(p.ID)
	for _, fd := range held {
		unix.Close(fd)
	}
	if p.Type == api.PortTAP || p.Type == api.PortHost { // one that was kept may still be held by a dying daemon
		s.discardLostTAP(p)
	}
	if s.private == nil {
		return
	}
	if st, err := link.Lookup(s.private, link.DeviceName(p.ID)); err == nil {
		if err := link.Delete(s.private, st.Index); err != nil {
			s.log.Warn("remove a device", "port", p.ID, "err", err)
		}
	}
}

// discardLostTAP removes a TAP whose file descriptor was lost, if it is where the record says and is ours: it has our MAC.
func (s *Switch) discardLostTAP(p *api.Port) {
	ns, err := s.openNetns(p)
	if err != nil {
		return
	}
	defer ns.Close()
	for _, name := range []string{p.IfName, link.DeviceName(p.ID)} {
		if st, err := link.Lookup(ns, name); err == nil && st.Kind == "tuntap" && st.MAC.String() == p.MAC {
			if err := link.Delete(ns, st.Index); err != nil {
				s.log.Warn("remove a TAP", "port", p.Name, "err", err)
			}
		}
	}
}

// Teardown removes all networks, ports and uplinks of the state of a daemon that does not run. A keeper that has nothing left to keep
// ends by itself.
func Teardown(ctx context.Context, cfg Config, log *slog.Logger) error {
	s := newSwitch(cfg, nobody{}, log)
	defer s.Close()
	if err := s.openState(); err != nil {
		return err
	}
	if err := s.takeHeld(); err != nil {
		return err
	}
	if err := s.openHost(); err != nil {
		return err
	}
	records, err := s.store.Ports()
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	var all []*api.Port
	for i := range records {
		p := &records[i].Port
		known[p.ID] = true
		all = append(all, p)
	}
	for id := range s.held {
		if !known[id] {
			all = append(all, &api.Port{ID: id})
		}
	}
	_ = abreast(all, func(p *api.Port) error {
		s.discard(p, s.held[p.ID])
		return nil
	})
	s.held = nil
	if err := s.removeHostPort(); err != nil {
		return err
	}
	nets, err := s.store.Networks()
	if err != nil {
		return err
	}
	for _, n := range nets {
		if err := s.store.DeleteNetwork(n.ID); err != nil {
			return err
		}
	}
	uplinks, err := s.teardownUplinks()
	if err != nil {
		return err
	}
	if err := s.fds.Delete(fdPrivate); err != nil {
		return fmt.Errorf("let go of the private namespace: %w", err)
	}
	log.Info("torn down", "ports", len(records), "networks", len(nets), "uplinks", uplinks)
	return ctx.Err()
}

// nobody is a Publisher whom nobody hears.
type nobody struct{}

func (nobody) Publish(_, _, _ string) {}
