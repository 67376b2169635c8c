package vswitch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/reconcile"
	"vswitch/internal/store"
)

// Restore brings back what the stored intent wants, by the file descriptors that were kept, or by finding the devices again.
// Ports whose namespace died meanwhile are removed. Call it once, while Run runs.
func (s *Switch) Restore(ctx context.Context) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	if err := s.loadNetworks(); err != nil {
		return err
	}
	records, err := s.store.Ports()
	if err != nil {
		return err
	}
	byID := make(map[string]*store.PortRecord, len(records))
	var wanted []reconcile.Wanted
	for i := range records {
		byID[records[i].ID] = &records[i]
		wanted = append(wanted, reconcile.Wanted{ID: records[i].ID, Phase: reconcile.Phase(records[i].Phase)})
	}
	var ids []string
	for id := range s.held {
		ids = append(ids, id)
	}
	start := time.Now()
	for _, step := range reconcile.Plan(wanted, ids) {
		s.carryOut(ctx, step, byID[step.ID], s.held[step.ID])
	}
	s.held = nil
	if len(records) > 0 {
		s.log.Info("ports restored", "ports", len(s.endpoints()), "of", len(records), "took", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// takeHeld gets the kept file descriptors, by port and what they are, and the private namespace among them or a new one.
func (s *Switch) takeHeld() error {
	fds, err := s.fds.Take()
	if err != nil {
		return fmt.Errorf("take over file descriptors: %w", err)
	}
	held := make(map[string]map[string]int)
	s.held = held
	for name, fd := range fds {
		if name == fdPrivate {
			if s.private, err = link.FromFD(fd, ""); err != nil {
				s.log.Warn("the kept namespace is unusable; a new one is made", "err", err)
				s.private = nil
			}
			continue
		}
		id, what, ok := splitFDName(name)
		if !ok {
			s.log.Warn("an unknown file descriptor was kept; it is closed", "name", name)
			s.dropHeld(name, fd)
			continue
		}
		if held[id] == nil {
			held[id] = make(map[string]int)
		}
		held[id][what] = fd
	}
	if s.private == nil {
		if s.private, err = link.NewPrivate(); err != nil {
			return fmt.Errorf("make the private namespace: %w", err)
		}
		if err := s.fds.Put(fdPrivate, s.private.FD()); err != nil {
			return fmt.Errorf("keep the private namespace: %w", err)
		}
	}
	return nil
}

func (s *Switch) dropHeld(name string, fd int) {
	if err := s.fds.Delete(name); err != nil {
		s.log.Warn("take a file descriptor out of the store", "name", name, "err", err)
	}
	unix.Close(fd)
}

func (s *Switch) loadNetworks() error {
	confs, err := s.store.Networks()
	if err != nil {
		return err
	}
	for i := range confs {
		n, err := newNetwork(&confs[i])
		if err != nil {
			return fmt.Errorf("network %s of the stored state: %w", confs[i].Name, err)
		}
		s.mu.Lock()
		s.networks[n.Name] = n
		s.mu.Unlock()
	}
	return nil
}

// carryOut does one step of the plan. A port that can't be restored is reported and shown, and keeps no other from it.
func (s *Switch) carryOut(ctx context.Context, step reconcile.Step, rec *store.PortRecord, held map[string]int) {
	log := s.log.With("port", step.ID, "step", step.Op.String())
	if rec != nil {
		log = s.log.With("port", rec.Name, "step", step.Op.String())
	}
	switch step.Op {
	case reconcile.Finish, reconcile.Rollback:
		s.discard(&rec.Port, held)
		log.Info("a change that was cut off is cleaned up")
	case reconcile.Drop:
		s.discard(&api.Port{ID: step.ID}, held)
		log.Info("a device without a record is removed")
	case reconcile.Adopt, reconcile.Reopen:
		s.revive(ctx, log, step.Op, rec, held)
	}
}

// discard removes all traces of a port that shall not be: device, kept file descriptors, record.
func (s *Switch) discard(p *api.Port, held map[string]int) {
	s.forget(p.ID)
	if fd, ok := held[fdFrames]; ok {
		_ = link.Condemn(fd) // no TAP, or one that is gone: nothing to condemn
		unix.Close(fd)
	} else if p.Type != api.PortVeth {
		s.discardLostTAP(p)
	}
	if fd, ok := held[fdDropLink]; ok {
		unix.Close(fd)
	}
	if st, err := link.Lookup(s.private, link.DeviceName(p.ID)); err == nil {
		if err := link.Delete(s.private, st.Index); err != nil {
			s.log.Warn("remove a device", "port", p.ID, "err", err)
		}
	}
	if p.Name == "" {
		return
	}
	if err := s.store.DeletePort(p.ID); err != nil {
		s.log.Error("delete a port's record", "port", p.Name, "err", err)
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

// revive puts a port to work again.
func (s *Switch) revive(ctx context.Context, log *slog.Logger, op reconcile.Op, rec *store.PortRecord, held map[string]int) {
	p := &rec.Port
	n := s.networks[p.Network]
	if n == nil {
		log.Error("the port's network is not in the stored state; the port is removed", "network", p.Network)
		s.discard(p, held)
		return
	}
	if err := n.pools.Restore(p.Name, p.IPs); err != nil {
		log.Error("the port's addresses are taken", "err", err)
	}
	var dev *device
	var err error
	if op == reconcile.Adopt {
		dev, err = s.adoptDevice(p, held)
	} else if dev, err = s.reopenDevice(ctx, p); err == nil {
		err = s.keep(dev)
	}
	var e *endpoint
	if err == nil {
		e, err = s.plug(n, p, dev)
	}
	if err != nil {
		s.mourn(log, n, p, held, err)
		return
	}
	e.pins = op == reconcile.Reopen && p.Type == api.PortTAP
	s.locate(e)
	s.enter(e)
	s.restoreStatic(e)
}

// mourn handles a port that can't be put to work: it is removed when its namespace or device is no more, else shown with the
// error until somebody deletes it.
func (s *Switch) mourn(log *slog.Logger, n *network, p *api.Port, held map[string]int, err error) {
	var e *api.Error
	gone := errors.As(err, &e) && e.Code == api.CodeNotFound || errors.Is(err, unix.EBADFD)
	if gone {
		log.Info("port is gone", "why", err)
		n.release(p)
		s.discard(p, held)
		s.events.Publish("port.gone", p.Name, "its interface or namespace died while the daemon was away")
		return
	}
	log.Error("port can't be restored", "err", err)
	s.enter(&endpoint{port: *p, net: n, err: err.Error()})
	s.events.Publish("port.error", p.Name, err.Error())
}

// locate finds where the port's interface is now, and watches it.
func (s *Switch) locate(e *endpoint) {
	ns, st, err := s.whereIs(e)
	if err != nil {
		return // e.g. a veth whose peer was moved: it works, but its state is not followed
	}
	defer ns.Close()
	s.settle(e, ns, st)
	s.watch(e, ns)
}

func (s *Switch) whereIs(e *endpoint) (*link.Namespace, link.State, error) {
	if e.port.Type == api.PortTAP {
		return link.WhereIs(e.dev.fd)
	}
	ns, err := s.openNetns(&e.port)
	if err != nil {
		return nil, link.State{}, err
	}
	st, err := link.Lookup(ns, e.port.IfName)
	if err != nil {
		ns.Close()
	}
	return ns, st, err
}

// settle notes where the interface is and what it is called.
func (s *Switch) settle(e *endpoint, ns *link.Namespace, st link.State) {
	id := ns.ID()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ns, e.index, e.down, e.port.IfName = id, st.Index, !st.Up, st.Name
	if r := e.port.Netns; r == nil || r.Dev != id.Dev || r.Inode != id.Inode {
		if host, err := link.Identify("/proc/self/ns/net"); e.port.Stage && err == nil && host == id {
			return // not yet taken
		}
		e.port.Netns = &api.NetnsRef{Spec: ns.String(), Path: ns.Path(), Dev: id.Dev, Inode: id.Inode}
		e.port.Stage = false
	}
}

// Teardown removes all networks and ports of the state of a daemon that does not run.
func Teardown(ctx context.Context, cfg Config, log *slog.Logger) error {
	s, err := New(cfg, discard{}, log)
	if err != nil {
		return err
	}
	defer s.Close()
	held := s.held
	records, err := s.store.Ports()
	if err != nil {
		return err
	}
	for i := range records {
		s.discard(&records[i].Port, held[records[i].ID])
		delete(held, records[i].ID)
	}
	for id, fds := range held {
		s.discard(&api.Port{ID: id}, fds)
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
	if err := s.fds.Delete(fdPrivate); err != nil {
		return fmt.Errorf("let go of the private namespace: %w", err)
	}
	log.Info("torn down", "ports", len(records), "networks", len(nets))
	return ctx.Err()
}

// discard is a Publisher for nobody.
type discard struct{}

func (discard) Publish(_, _, _ string) {}
