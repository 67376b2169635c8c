package vswitch

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/store"
	"vswitch/nat"
)

// carry is a transaction under way from what is to what its draft wants, in this order:
//
//  1. its intent on disk, in one write: ports to be made as being added, ports in their way as to be made again, ports to be
//     changed with what they are to be
//  2. ports that are in the way leave; uplinks that go, too, where others come
//  3. ports are changed, then new ones attached, with their rules, and new uplinks opened
//  4. static entries of the MAC tables
//  5. the host's listeners of what is published
//  6. the new configuration on disk, in one write: before it a restart goes back, after it a restart goes on
//  7. the verbs see the new configuration, networks and routers heed theirs; the other ports leave
//
// A failure up to 6 is undone in reverse order. 7 can't fail.
type carry struct {
	s       *Switch
	d       *draft
	before  []*endpoint // ports that go in step 2
	after   []*endpoint // ports that go in step 7
	new     []*endpoint // of the draft, without a device
	altered []*endpoint // of the draft, otherwise than at work
	placed  []*endpoint // of the draft, with other static entries than at work
	joined  []*endpoint // new ports at work

	newRules, goneRules []*acl.Rule
	afterUplinks        []api.Uplink           // that go in step 7
	was                 map[*endpoint]endpoint // what ports at work were before they were changed
	undo                []func() error
}

// carryThrough makes the draft real. After an error all is as it was, or the error says what is not.
func (s *Switch) carryThrough(ctx context.Context, d *draft) error {
	if err := s.fail.at("transaction.planned"); err != nil {
		return err
	}
	c := s.compare(d)
	for _, step := range []func(context.Context) error{
		c.record, c.clear, c.clearUplinks, c.change, c.ruleNew, c.attach, c.openUplinks, c.place, c.listen, c.commit,
	} {
		if err := step(ctx); err != nil {
			return c.rollback(err)
		}
	}
	c.show()
	c.finish()
	s.forgetRouters()
	return nil
}

// record is step 1.
func (c *carry) record(context.Context) error {
	if len(c.new)+len(c.before)+len(c.altered) == 0 {
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
		for _, e := range c.altered {
			if err := tx.PutPort(c.changing(e)); err != nil {
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

// changing is the record of a port that is about to be changed. Where the way back leads over a network that the store does not
// have, or not so, it can't be told from the record: a start makes such a port anew.
func (c *carry) changing(e *endpoint) store.PortRecord {
	r := store.PortRecord{Port: c.s.live(e).port, Phase: store.PhasePresent}
	if reflect.DeepEqual(c.s.placing(e.net, &e.port), c.s.placing(c.s.networks[e.port.Network], &e.port)) {
		r.Next = &e.port
	} else {
		r.Remake = true
	}
	return r
}

// strike is the undo of record. A port that could not be made again stays to be made by the next start.
func (c *carry) strike() error {
	err := c.s.store.Update(func(tx *store.Tx) error {
		for _, e := range c.new {
			if err := tx.DeletePort(e.port.ID); err != nil {
				return err
			}
		}
		for _, e := range slices.Concat(c.before, c.altered) {
			live := c.s.ports[e.port.Name]
			if live.dev == nil {
				continue
			}
			if err := tx.PutPort(store.PortRecord{Port: live.port, Phase: store.PhasePresent}); err != nil {
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
	var left gathered
	c.undo = append(c.undo, func() error { return abreast(left.list, c.remake) })
	return spread(ctx, c.before, func(e *endpoint) error {
		c.s.leave(e)
		c.s.detach(e)
		left.add(e)
		return c.s.fail.at("transaction.cleared")
	})
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

// change is the first half of step 3.
func (c *carry) change(ctx context.Context) error {
	var begun gathered
	c.undo = append(c.undo, func() error { return abreast(begun.list, c.changeBack) })
	for _, e := range c.altered {
		live := c.s.live(e)
		c.was[live] = *live
	}
	return spread(ctx, c.altered, func(e *endpoint) error {
		live, next := c.s.live(e), e.port
		was := c.was[live].port
		next.StaticFDB = was.StaticFDB
		begun.add(e)
		err := c.s.enact(live, c.s.atWork(e.net), &next, c.s.placing(live.net, &was), c.s.placing(e.net, &next), c.s.fail)
		if err != nil {
			return c.d.blame(e.port.ID, plainly(err))
		}
		return c.s.fail.at("transaction.changed")
	})
}

// changeBack is change's undo for one port.
func (c *carry) changeBack(e *endpoint) error {
	live, is := c.s.live(e), e.port
	was := c.was[live]
	err := c.s.enact(live, was.net, &was.port, c.s.placing(e.net, &is), c.s.placing(was.net, &was.port), nil)
	if was.net != c.s.atWork(e.net) {
		c.s.restoreStatic(live)
	}
	return err
}

// atWork returns the network that is at work, or will be, in place of one of the draft.
func (s *Switch) atWork(n *network) *network {
	if n == nil {
		return nil
	}
	if live := s.networks[n.Name]; live != nil && live.ID == n.ID {
		return live
	}
	return n
}

// attach is the second half of step 3.
func (c *carry) attach(ctx context.Context) error {
	var joined gathered
	c.undo = append(c.undo, func() error {
		return abreast(joined.list, func(e *endpoint) error { c.s.detach(e); return nil })
	})
	err := spread(ctx, c.new, func(e *endpoint) error {
		live, err := c.join(e)
		if err != nil {
			return c.d.blame(e.port.ID, plainly(err))
		}
		live.net = c.s.atWork(live.net)
		joined.add(live)
		return c.s.fail.at("transaction.attached")
	})
	slices.SortFunc(joined.list, func(a, b *endpoint) int { return c.d.made[a.port.ID] - c.d.made[b.port.ID] })
	c.joined = joined.list
	return err
}

// place is step 4: first what goes, then what comes, for an address can be behind one port only.
func (c *carry) place(context.Context) error {
	for _, e := range c.after {
		c.unplace(e, e.port.StaticFDB)
	}
	for _, now := range c.placed {
		if live := c.s.live(now); live.net != nil { // else they went with the network
			c.unplace(live, without(live.port.StaticFDB, now.port.StaticFDB))
		}
	}
	for _, now := range c.placed {
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

// listen is step 5.
func (c *carry) listen(context.Context) error {
	var come []*nat.Publication
	for name, list := range c.d.published {
		_, more := changesOf(c.s.published[name], list)
		come = append(come, more...)
	}
	undo, err := c.s.listen(come)
	if err == nil {
		c.undo = append(c.undo, func() error { undo(); return nil })
	}
	return err
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
