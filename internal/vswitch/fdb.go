package vswitch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/store"
)

// FDB lists the MAC tables of one network or all.
func (s *Switch) FDB(_ context.Context, name string) ([]api.FDBEntry, error) {
	nets, err := s.chosen(name)
	if err != nil {
		return nil, err
	}
	portName, now := s.nameOf(), s.path.Now()
	out := []api.FDBEntry{}
	for _, n := range nets {
		fdb := n.line.Bridge.FDB()
		fdb.Sweep(now) // what is not listed is not in use either
		for _, e := range fdb.Entries() {
			row := api.FDBEntry{Network: n.line.Name, VLAN: e.VLAN, MAC: macString(e.MAC), Port: portName(e.Port), Origin: "static"}
			if !e.Static {
				row.Origin, row.Age = "learned", int(max(0, time.Duration(now-e.LastUsed)).Seconds())
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// chosen returns the network of that name, or all by name.
func (s *Switch) chosen(name string) ([]*network, error) {
	if name != "" {
		n, err := s.network(name)
		return []*network{n}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []*network
	for _, n := range s.networks {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *network) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all, nil
}

// AddFDB places a MAC behind a port for good: until it is deleted, or the port.
func (s *Switch) AddFDB(_ context.Context, r api.FDBRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	n, mac, err := s.fdbTarget(&r)
	if err != nil {
		return err
	}
	s.mu.RLock()
	e := s.ports[r.Port]
	s.mu.RUnlock()
	if e == nil {
		return noPort(r.Port)
	}
	if e.net != n {
		return notOnNetwork(&e.port, n)
	}
	if !r.MayExist && slices.Contains(e.port.StaticFDB, api.StaticMAC{VLAN: r.VLAN, MAC: macString(mac)}) {
		return entryExists(&e.port, r.MAC)
	}
	if err := n.line.Bridge.FDB().AddStatic(r.VLAN, mac, e.id); err != nil {
		return err
	}
	if err := s.setStatic(r.VLAN, mac, n, e); err != nil {
		n.line.Bridge.FDB().DeleteEntry(r.VLAN, mac)
		return err
	}
	return nil
}

// DeleteFDB removes an entry, static or learned.
func (s *Switch) DeleteFDB(_ context.Context, r api.FDBRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	n, mac, err := s.fdbTarget(&r)
	if err != nil {
		return err
	}
	if !n.line.Bridge.FDB().DeleteEntry(r.VLAN, mac) {
		return unless(r.IfExists, noEntry(n, api.StaticMAC{VLAN: r.VLAN, MAC: macString(mac)}))
	}
	return s.setStatic(r.VLAN, mac, n, nil)
}

func notOnNetwork(p *api.Port, n *network) error {
	return api.Errorf(api.CodeInvalid, "port %s is on network %s, not on %s", p.Name, cmp.Or(p.Network, "none"), n.Name)
}

func entryExists(p *api.Port, mac string) error {
	return inUse(p.Name, "a static entry places %s behind port %s already; --may-exist takes that for done", mac, p.Name)
}

func noEntry(n *network, row api.StaticMAC) error {
	return api.Errorf(api.CodeNotFound, "no entry for %s in VLAN %d of network %s; see 'vsctl fdb %s'", row.MAC, row.VLAN, n.Name, n.Name)
}

// setStatic notes in the ports' records behind which one a MAC was placed: owner, or none. Callers hold verb.
func (s *Switch) setStatic(vlan uint16, mac [6]byte, n *network, owner *endpoint) error {
	row := api.StaticMAC{VLAN: vlan, MAC: macString(mac)}
	for _, e := range s.portsOf(n) {
		had := slices.Contains(e.port.StaticFDB, row)
		if had == (e == owner) {
			continue
		}
		p := e.port
		p.StaticFDB = slices.DeleteFunc(slices.Clone(p.StaticFDB), func(x api.StaticMAC) bool { return x == row })
		if e == owner {
			p.StaticFDB = append(p.StaticFDB, row)
		}
		if err := s.store.PutPort(store.PortRecord{Port: p, Phase: store.PhasePresent}); err != nil {
			return err
		}
		s.mu.Lock()
		e.port.StaticFDB = p.StaticFDB
		s.mu.Unlock()
	}
	return nil
}

// portsOf returns the ports of the network.
func (s *Switch) portsOf(n *network) []*endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []*endpoint
	for _, e := range s.ports {
		if e.net == n {
			all = append(all, e)
		}
	}
	return all
}

// restoreStatic places again what add-fdb had placed behind the port.
func (s *Switch) restoreStatic(e *endpoint) {
	for _, row := range e.port.StaticFDB {
		mac, err := ipam.ParseMAC(row.MAC)
		if err == nil {
			err = e.net.line.Bridge.FDB().AddStatic(row.VLAN, mac, e.id)
		}
		if err != nil {
			s.log.Error("restore a static entry", "port", e.port.Name, "mac", row.MAC, "err", err)
		}
	}
}

// FlushFDB removes what was learned, in one network or all.
func (s *Switch) FlushFDB(_ context.Context, name string) (int, error) {
	nets, err := s.chosen(name)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, n := range nets {
		total += n.line.Bridge.FDB().Flush(l2switch.AllPorts, true)
	}
	return total, nil
}

func (s *Switch) fdbTarget(r *api.FDBRequest) (*network, [6]byte, error) {
	n, err := s.network(r.Network)
	if err != nil {
		return nil, [6]byte{}, err
	}
	if r.VLAN > 4094 {
		return nil, [6]byte{}, invalid("VLAN %d: use 1 to 4094, or 0 for the untagged VLAN", r.VLAN)
	}
	mac, err := ipam.ParseMAC(r.MAC)
	if err != nil {
		return nil, mac, fmt.Errorf("%w", err)
	}
	return n, mac, nil
}

func (d *draft) addFDB(r *api.FDBRequest) error {
	n, row, err := d.fdbRow(r)
	if err != nil {
		return err
	}
	e := d.ports[r.Port]
	switch owner := d.ownerOf(n, row); {
	case e == nil:
		return noPort(r.Port)
	case e.net != n:
		return notOnNetwork(&e.port, n)
	case owner == e:
		return unless(r.MayExist, entryExists(&e.port, r.MAC))
	case owner != nil:
		return api.Errorf(api.CodeConflict, "%s in VLAN %d of network %s is behind port %s already; delete that entry first", row.MAC, row.VLAN, n.Name, owner.port.Name)
	}
	d.setStatic(e, append(slices.Clone(e.port.StaticFDB), row))
	return nil
}

func (d *draft) deleteFDB(r *api.FDBRequest) (outcome, error) {
	n, row, err := d.fdbRow(r)
	if err != nil {
		return outcome{}, err
	}
	if e := d.ownerOf(n, row); e != nil {
		d.setStatic(e, slices.DeleteFunc(slices.Clone(e.port.StaticFDB), func(x api.StaticMAC) bool { return x == row }))
		return outcome{}, nil
	}
	for _, x := range n.line.Bridge.FDB().Entries() {
		if x.VLAN == row.VLAN && macString(x.MAC) == row.MAC && !x.Static {
			d.forget = append(d.forget, *r)
			return outcome{}, nil
		}
	}
	return outcome{unchanged: true}, unless(r.IfExists, noEntry(n, row))
}

// fdbRow checks a request.
func (d *draft) fdbRow(r *api.FDBRequest) (*network, api.StaticMAC, error) {
	n := d.networks[r.Network]
	if n == nil {
		return nil, api.StaticMAC{}, noNetwork(r.Network)
	}
	if r.VLAN > 4094 {
		return nil, api.StaticMAC{}, invalid("VLAN %d: use 1 to 4094, or 0 for the untagged VLAN", r.VLAN)
	}
	mac, err := ipam.ParseMAC(r.MAC)
	return n, api.StaticMAC{VLAN: r.VLAN, MAC: macString(mac)}, err
}

// ownerOf returns the port behind which the MAC is placed, or nil.
func (d *draft) ownerOf(n *network, row api.StaticMAC) *endpoint {
	for _, e := range d.ports {
		if e.net == n && slices.Contains(e.port.StaticFDB, row) {
			return e
		}
	}
	return nil
}

// setStatic changes the static entries of a port.
func (d *draft) setStatic(e *endpoint, rows []api.StaticMAC) {
	c := *e
	c.port.StaticFDB = rows
	d.ports[e.port.Name] = &c
}
