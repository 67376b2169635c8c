package vswitch

import (
	"cmp"
	"context"
	"slices"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
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
func (s *Switch) AddFDB(ctx context.Context, r api.FDBRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	_, err := carryOne(ctx, s, (*draft).addFDB, &r)
	return err
}

// DeleteFDB removes an entry, static or learned.
func (s *Switch) DeleteFDB(ctx context.Context, r api.FDBRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	_, err := carryOne(ctx, s, (*draft).deleteFDB, &r)
	return err
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

func (d *draft) addFDB(r *api.FDBRequest) (x outcome, err error) {
	n, row, err := d.fdbRow(r)
	if err != nil {
		return x, err
	}
	e := d.ports[r.Port]
	switch owner := d.ownerOf(n, row); {
	case e == nil:
		return x, noPort(r.Port)
	case e.net != n:
		return x, notOnNetwork(&e.port, n)
	case owner == e:
		return outcome{unchanged: true}, unless(r.MayExist, entryExists(&e.port, r.MAC))
	case owner != nil:
		return x, api.Errorf(api.CodeConflict, "%s in VLAN %d of network %s is behind port %s already; delete that entry first", row.MAC, row.VLAN, n.Name, owner.port.Name)
	}
	d.setStatic(e, append(slices.Clone(e.port.StaticFDB), row))
	return x, nil
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
