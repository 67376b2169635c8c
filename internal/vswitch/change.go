package vswitch

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/flow"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/store"
)

// change makes of the port what next says, on network n or on none. Its device, file descriptors and place in the data plane
// stay, and so do the flows of others. In this order:
//
//  1. next goes into the record, beside what the port is: a start that finds it there goes back
//  2. enact
//  3. next alone goes into the record
//  4. all who care are told
//
// After an error the port is what it was. Callers hold verb.
func (s *Switch) change(e *endpoint, n *network, next *api.Port) error {
	was, from := e.port, e.net
	old, wanted := s.placing(from, &was), s.placing(n, next)
	if err := s.store.PutPort(store.PortRecord{Port: was, Phase: store.PhasePresent, Next: next}); err != nil {
		return err
	}
	err := s.fail.at("set.recorded")
	if err == nil {
		err = s.enact(e, n, next, old, wanted, s.fail)
	}
	if err == nil {
		err = s.store.PutPort(store.PortRecord{Port: *next, Phase: store.PhasePresent})
	}
	if err != nil {
		err = errors.Join(err, s.enact(e, from, &was, wanted, old, nil))
		s.save(e)
		return err
	}
	s.passing("set.done")
	s.tellChanged(e, &was)
	return nil
}

// tellChanged tells users, and the port's network, what has changed.
func (s *Switch) tellChanged(e *endpoint, was *api.Port) {
	switch p := &e.port; {
	case was.Network == p.Network:
		s.events.Publish("port.changed", p.Name, changesText(was, p))
	case p.Network == "":
		s.events.Publish("port.disconnected", p.Name, fmt.Sprintf("from network %s; its interface %s stays", was.Network, p.IfName))
	default:
		s.events.Publish("port.connected", p.Name, fmt.Sprintf("to network %s as %s, %s", p.Network, p.IfName, p.MAC))
	}
	if e.net != nil && (was.Network != e.port.Network || was.MAC != e.port.MAC || !slices.Equal(was.IPs, e.port.IPs)) {
		s.announce(e)
	}
	s.portUp(e) // it may be in another network or VLAN
	if e.port.Type == api.PortHost {
		s.reachHost()
	}
}

// enact makes the port p, on network n, and its interface from what is said of it what is to be, in this order:
//
//  1. off the network that it leaves: its interface has no carrier from here on
//  2. what the switch takes from it is widened, if it is to send larger frames
//  3. its interface
//  4. bridge and pipeline; on a network that it joins it gets its carrier
//
// It goes from wherever an enact that failed has left the port, so that one undoes the other. fail are the failpoints on the
// way.
func (s *Switch) enact(e *endpoint, n *network, p *api.Port, from, to link.PlaceConfig, fail failpoints) error {
	mac, err := ipam.ParseMAC(p.MAC)
	if err != nil {
		return err
	}
	if e.net != nil && e.net != n {
		if err := s.leaveNetwork(e); err != nil {
			return err
		}
	}
	if err := fail.at("set.left"); err != nil {
		return err
	}
	if p.MTU > e.port.MTU {
		s.widen(e, p.MTU)
	}
	if err := s.reconfigure(e, from, to); err != nil {
		return err
	}
	if err := fail.at("set.configured"); err != nil {
		return err
	}
	moved := e.mac != mac
	s.mu.Lock()
	e.port, e.mac = *p, mac
	s.mu.Unlock()
	s.path.SetMTU(e.id, p.MTU)
	if e.net != n {
		err = s.joinNetwork(e, n)
	} else {
		s.bind(e)
	}
	if moved && e.net != nil {
		e.net.line.Bridge.FDB().Flush(e.id, true) // nobody is at the old address
	}
	if err != nil {
		return err
	}
	return fail.at("set.bound")
}

// leaveNetwork takes the port off its network. When it returns no frame of the network is on its way to the port.
func (s *Switch) leaveNetwork(e *endpoint) error {
	if err := s.setCarrier(e.dev, false); err != nil {
		return err
	}
	s.unbind(e)
	s.path.Quiesce()
	var lost *flow.Made
	for _, f := range s.abandoned(e.id) {
		lost = &flow.Made{Next: lost, Frame: f, Drop: packet.DropPortDown}
	}
	s.path.Do(lost)
	s.mu.Lock()
	e.net.count--
	e.net = nil
	s.mu.Unlock()
	return nil
}

// joinNetwork puts a port that is on no network on n.
func (s *Switch) joinNetwork(e *endpoint, n *network) error {
	s.mu.Lock()
	e.net = n
	n.count++
	s.mu.Unlock()
	s.bind(e)
	return s.setCarrier(e.dev, true)
}

// widen lets larger frames pass, to and from the port.
func (s *Switch) widen(e *endpoint, mtu int) {
	s.path.SetMTU(e.id, mtu)
	if e.net == nil {
		return
	}
	bridge := e.net.line.Bridge
	conf := *bridge.Snapshot().Port(e.id)
	conf.MTU = mtu
	bridge.SetPort(conf)
}

// reconfigure changes the port's interface in its namespace.
func (s *Switch) reconfigure(e *endpoint, from, to link.PlaceConfig) error {
	if reflect.DeepEqual(from, to) {
		return nil
	}
	if e.index == 0 {
		return api.Errorf(api.CodeRefused, "port %s: %s; move it back first", e.port.Name, e.err)
	}
	ns, err := s.openNetns(&e.port)
	if err != nil {
		return err
	}
	defer ns.Close()
	return link.Reconfigure(ns, e.index, from, to)
}

// setCarrier plugs or pulls the cable between the port's interface and the switch.
func (s *Switch) setCarrier(d *device, on bool) error {
	if d.kind == api.PortTAP {
		err := link.SetTAPCarrier(d.fd, on)
		if errors.Is(err, port.ErrGone) {
			err = api.Errorf(api.CodeNotFound, "the interface of port %s is no more", d.port.Name())
		}
		return err
	}
	err := link.SetVethCarrier(s.private, d.index, on)
	s.lookCarrier(d)
	return err
}

// revert goes back from a change of the port that was cut off, as far as its interface goes.
func (s *Switch) revert(log *slog.Logger, rec *store.PortRecord) {
	if rec.Next == nil {
		return
	}
	if err := s.revertInterface(rec); err != nil && !api.HasCode(err, api.CodeNotFound) {
		log.Error("a change that was cut off can't be undone; the next start tries again", "err", err)
		return
	}
	s.passing("start.reverted")
	if err := s.store.PutPort(store.PortRecord{Port: rec.Port, Phase: store.PhasePresent}); err != nil {
		log.Error("save a port's record", "err", err)
	}
	log.Info("a change that was cut off is undone")
}

// revertInterface makes of the port's interface what it was. An api.Error not_found says that it is no more.
func (s *Switch) revertInterface(rec *store.PortRecord) error {
	old, next := &rec.Port, rec.Next
	ns, err := s.openNetns(old)
	if err != nil {
		return err
	}
	defer ns.Close()
	var st link.State
	for _, name := range []string{old.IfName, next.IfName} {
		st, err = link.Lookup(ns, name)
		if mac := st.MAC.String(); err == nil && (mac == old.MAC || mac == next.MAC) {
			return link.Reconfigure(ns, st.Index, s.placing(s.networks[next.Network], next), s.placing(s.networks[old.Network], old))
		}
	}
	if err == nil {
		err = api.Errorf(api.CodeNotFound, "interface %s of namespace %s is another one", st.Name, ns)
	}
	return err
}

// hardwareAddr reads a MAC that was checked before.
func hardwareAddr(mac string) net.HardwareAddr {
	hw, _ := net.ParseMAC(mac)
	return hw
}
