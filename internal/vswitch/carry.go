package vswitch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
	"vswitch/internal/store"
)

// carry is a transaction under way from what is to what its draft wants, in this order:
//
//  1. its intent on disk, in one write: ports to be made as being added, ports in their way as to be made again
//  2. ports that are in the way of new ones leave
//  3. new ports are attached
//  4. static entries of the MAC tables
//  5. the new configuration on disk, in one write: before it a restart goes back, after it a restart goes on
//  6. the verbs see the new configuration; the other ports leave
//
// A failure up to 5 is undone in reverse order. 6 can't fail.
type carry struct {
	s       *Switch
	d       *draft
	before  []*endpoint // ports that go in step 2
	after   []*endpoint // ports that go in step 6
	new     []*endpoint // of the draft, without a device
	changed []*endpoint // of the draft, with another configuration than at work
	joined  []*endpoint // new ports at work
	undo    []func() error
}

// carryThrough makes the draft real. After an error all is as it was, or the error says what is not.
func (s *Switch) carryThrough(ctx context.Context, d *draft) error {
	if err := s.fail.at("transaction.planned"); err != nil {
		return err
	}
	c := s.compare(d)
	for _, step := range []func(context.Context) error{c.record, c.clear, c.attach, c.place, c.commit} {
		if err := step(ctx); err != nil {
			return c.rollback(err)
		}
	}
	c.show()
	c.finish()
	return nil
}

// compare finds out what differs between what is at work and the draft.
func (s *Switch) compare(d *draft) *carry {
	c := &carry{s: s, d: d}
	byID := make(map[string]*endpoint, len(d.ports))
	for _, e := range d.ports {
		byID[e.port.ID] = e
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.made), func(a, b string) int { return d.made[a] - d.made[b] }) {
		if e := byID[id]; e != nil {
			c.new = append(c.new, e)
		}
	}
	blocks := inTheWay(c.new)
	for _, e := range s.ports {
		switch now := byID[e.port.ID]; {
		case now == nil && blocks(e):
			c.before = append(c.before, e)
		case now == nil:
			c.after = append(c.after, e)
		case now != e:
			c.changed = append(c.changed, now)
		}
	}
	for _, list := range [][]*endpoint{c.before, c.after, c.changed} {
		slices.SortFunc(list, func(a, b *endpoint) int {
			return cmp.Or(strings.Compare(a.port.Network, b.port.Network), strings.Compare(a.port.Name, b.port.Name))
		})
	}
	return c
}

// inTheWay tells which ports can't stay beside the new ones for a moment: those in the namespace of one, where names and routes
// may clash, and those with an address of one.
func inTheWay(ports []*endpoint) func(*endpoint) bool {
	type address struct {
		network string
		mac     string
		ip      netip.Addr
	}
	spaces := make(map[link.NamespaceID]bool)
	addresses := make(map[address]bool)
	each := func(p *api.Port, f func(address)) {
		f(address{network: p.Network, mac: p.MAC})
		for _, ip := range p.IPs {
			f(address{network: p.Network, ip: ip.Addr()})
		}
	}
	for _, e := range ports {
		spaces[e.ns] = true
		each(&e.port, func(a address) { addresses[a] = true })
	}
	return func(e *endpoint) bool {
		found := spaces[e.ns]
		each(&e.port, func(a address) { found = found || addresses[a] })
		return found
	}
}

// record is step 1.
func (c *carry) record(context.Context) error {
	if len(c.new)+len(c.before) == 0 {
		return nil
	}
	err := c.s.store.Update(func(tx *store.Tx) error {
		for _, e := range c.new {
			if err := tx.PutPort(store.PortRecord{Port: e.port, Phase: store.PhaseAdding}); err != nil {
				return err
			}
		}
		for _, e := range c.before {
			if err := tx.PutPort(store.PortRecord{Port: e.port, Phase: store.PhasePresent, Remake: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.undo = append(c.undo, c.strike)
	return c.s.fail.at("transaction.recorded")
}

// strike is the undo of record. A port that could not be made again stays to be made by the next start.
func (c *carry) strike() error {
	err := c.s.store.Update(func(tx *store.Tx) error {
		for _, e := range c.new {
			if err := tx.DeletePort(e.port.ID); err != nil {
				return err
			}
		}
		for _, e := range c.before {
			if e := c.s.ports[e.port.Name]; e.dev == nil {
				continue
			}
			if err := tx.PutPort(store.PortRecord{Port: c.s.ports[e.port.Name].port, Phase: store.PhasePresent}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.s.log.Warn("forget a transaction that failed; the next start will", "err", err)
	}
	return nil
}

// clear is step 2.
func (c *carry) clear(ctx context.Context) error {
	for _, e := range c.before {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.s.leave(e)
		c.s.detach(e)
		c.undo = append(c.undo, func() error { return c.remake(e) })
		if err := c.s.fail.at("transaction.cleared"); err != nil {
			return err
		}
	}
	return nil
}

// remake brings a port back that has left.
func (c *carry) remake(e *endpoint) error {
	back, err := c.join(e)
	if err != nil {
		c.s.log.Error("bring a port back after a transaction that failed", "port", e.port.Name, "err", err)
		c.s.enter(&endpoint{port: e.port, net: e.net, err: err.Error()})
		c.s.events.Publish("port.error", e.port.Name, err.Error())
		return fmt.Errorf("port %s could not be brought back: %w", e.port.Name, err)
	}
	c.s.enter(back)
	c.s.restoreStatic(back)
	return nil
}

// join attaches a port where its record says.
func (c *carry) join(e *endpoint) (*endpoint, error) {
	ns, err := c.s.openNetns(&e.port)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return c.s.attach(e.net, &e.port, ns)
}

// attach is step 3.
func (c *carry) attach(ctx context.Context) error {
	for _, e := range c.new {
		if err := ctx.Err(); err != nil {
			return err
		}
		live, err := c.join(e)
		if err != nil {
			return c.d.blame(e.port.ID, plainly(err))
		}
		c.joined = append(c.joined, live)
		c.undo = append(c.undo, func() error { c.s.detach(live); return nil })
		if err := c.s.fail.at("transaction.attached"); err != nil {
			return err
		}
	}
	return nil
}

// place is step 4: first what goes, then what comes, for an address can be behind one port only.
func (c *carry) place(context.Context) error {
	for _, e := range c.after {
		c.unplace(e, e.port.StaticFDB)
	}
	for _, now := range c.changed {
		live := c.s.live(now)
		c.unplace(live, without(live.port.StaticFDB, now.port.StaticFDB))
	}
	for _, now := range c.changed {
		live := c.s.live(now)
		if err := c.placeAll(live, without(now.port.StaticFDB, live.port.StaticFDB)); err != nil {
			return err
		}
	}
	for _, live := range c.joined {
		if err := c.placeAll(live, live.port.StaticFDB); err != nil {
			return err
		}
	}
	return c.s.fail.at("transaction.placed")
}

// without returns the rows that are not among others.
func without(rows, others []api.StaticMAC) []api.StaticMAC {
	return slices.DeleteFunc(slices.Clone(rows), func(r api.StaticMAC) bool { return slices.Contains(others, r) })
}

func (c *carry) placeAll(e *endpoint, rows []api.StaticMAC) error {
	for _, r := range rows { // of a port on no network there are none
		fdb := e.net.line.Bridge.FDB()
		mac, err := ipam.ParseMAC(r.MAC)
		if err == nil {
			err = fdb.AddStatic(r.VLAN, mac, e.id)
		}
		if err != nil {
			return fmt.Errorf("static MAC %s of port %s: %w", r.MAC, e.port.Name, err)
		}
		c.undo = append(c.undo, func() error { fdb.DeleteEntry(r.VLAN, mac); return nil })
	}
	return nil
}

func (c *carry) unplace(e *endpoint, rows []api.StaticMAC) {
	for _, r := range rows {
		fdb := e.net.line.Bridge.FDB()
		mac, err := ipam.ParseMAC(r.MAC)
		if err != nil || !fdb.DeleteEntry(r.VLAN, mac) {
			continue // it was not there
		}
		c.undo = append(c.undo, func() error { return fdb.AddStatic(r.VLAN, mac, e.id) })
	}
}

// commit is step 5.
func (c *carry) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.s.store.Update(func(tx *store.Tx) error {
		var errs []error
		for _, n := range c.newNetworks() {
			errs = append(errs, tx.PutNetwork(n.Network))
		}
		for _, n := range c.goneNetworks() {
			errs = append(errs, tx.DeleteNetwork(n.ID))
		}
		for _, e := range c.before {
			errs = append(errs, tx.DeletePort(e.port.ID))
		}
		for _, e := range c.after {
			errs = append(errs, tx.PutPort(store.PortRecord{Port: e.port, Phase: store.PhaseDeleting}))
		}
		for _, e := range slices.Concat(c.joined, c.changed) {
			errs = append(errs, tx.PutPort(store.PortRecord{Port: e.port, Phase: store.PhasePresent}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	c.s.passing("transaction.committed")
	return nil
}

func (c *carry) newNetworks() []*network  { return missing(c.d.networks, c.s.networks) }
func (c *carry) goneNetworks() []*network { return missing(c.s.networks, c.d.networks) }

// missing returns the networks of a that b does not have, by name.
func missing(a, b map[string]*network) (list []*network) {
	for name, n := range a {
		if other := b[name]; other == nil || other.ID != n.ID {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *network) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// show is the first half of step 6.
func (c *carry) show() {
	s, added, gone := c.s, c.newNetworks(), c.goneNetworks()
	for _, e := range c.after {
		s.leave(e)
	}
	s.mu.Lock()
	for _, n := range gone {
		delete(s.networks, n.Name)
	}
	for _, n := range added {
		s.networks[n.Name] = n
	}
	for _, now := range c.changed {
		s.live(now).port = now.port
	}
	s.mu.Unlock()
	for _, e := range c.joined {
		s.enter(e)
	}
	for _, e := range slices.Concat(c.before, c.after) {
		s.events.Publish("port.deleted", e.port.Name, "from network "+cmp.Or(e.port.Network, "none"))
	}
	for _, n := range gone {
		s.events.Publish("network.deleted", n.Name, "")
	}
	for _, n := range added {
		s.events.Publish("network.added", n.Name, subnetsText(n.Subnets))
	}
	for _, e := range c.joined {
		s.publishAdded(e)
	}
}

// finish is the second half.
func (c *carry) finish() {
	for _, r := range c.d.forget {
		if mac, err := ipam.ParseMAC(r.MAC); err == nil {
			c.d.networks[r.Network].line.Bridge.FDB().DeleteEntry(r.VLAN, mac)
		}
	}
	for _, e := range c.after {
		c.s.detach(e)
		c.s.passing("transaction.dropped")
	}
	if len(c.after) == 0 {
		return
	}
	err := c.s.store.Update(func(tx *store.Tx) error {
		for _, e := range c.after {
			if err := tx.DeletePort(e.port.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.s.log.Error("delete the records of ports; the next start will finish it", "err", err)
	}
}

// rollback undoes what was done, last first, and adds to the error what came of that.
func (c *carry) rollback(err error) error {
	whole := true
	for _, f := range slices.Backward(c.undo) {
		if undone := f(); undone != nil {
			err, whole = fmt.Errorf("%w; and %w", err, undone), false
		}
	}
	if whole {
		err = fmt.Errorf("%w; nothing was changed", err)
	}
	return err
}
