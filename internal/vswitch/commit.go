package vswitch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/store"
)

// commit is step 6.
func (c *carry) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.s.store.Update(func(tx *store.Tx) error {
		var errs []error
		for _, n := range slices.Concat(c.newNetworks(), c.changedNetworks()) {
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
		for _, e := range slices.Concat(c.joined, c.altered, c.placed) { // of a port in both, the two are the same
			errs = append(errs, tx.PutPort(store.PortRecord{Port: e.port, Phase: store.PhasePresent}))
		}
		for _, r := range c.newRoutes() {
			errs = append(errs, tx.PutRoute(r))
		}
		for _, r := range c.goneRoutes() {
			errs = append(errs, tx.DeleteRoute(r.Key()))
		}
		for _, u := range c.newUplinks() {
			errs = append(errs, tx.PutUplink(u))
		}
		for _, u := range c.goneUplinks() {
			errs = append(errs, tx.DeleteUplink(u.ID))
		}
		errs = append(errs, deleteRules(tx, c.goneRules))
		for _, r := range c.newRules {
			errs = append(errs, tx.PutRule(api.Rule(*r)))
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

// changedNetworks returns those of the draft that are otherwise than at work.
func (c *carry) changedNetworks() (list []*network) {
	for _, name := range slices.Sorted(maps.Keys(c.d.networks)) {
		n := c.d.networks[name]
		if live := c.s.atWork(n); live != n && !reflect.DeepEqual(live.Network, n.Network) {
			list = append(list, n)
		}
	}
	return list
}

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

// show is the first half of step 7.
func (c *carry) show() {
	s, added, changed, gone := c.s, c.newNetworks(), c.changedNetworks(), c.goneNetworks()
	newRoutes, goneRoutes := c.newRoutes(), c.goneRoutes()
	newUplinks := c.newUplinks()
	c.afterUplinks = c.goneUplinks()
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
	for _, now := range c.placed {
		s.live(now).port.StaticFDB = now.port.StaticFDB
	}
	s.routes, s.uplinks, s.rules, s.lastRule = c.d.routes, c.d.uplinks, c.d.rules, c.d.lastRule
	s.mu.Unlock()
	for _, n := range gone {
		s.unwire(n)
	}
	for _, n := range added {
		s.wire(n)
	}
	for _, n := range changed {
		live := s.atWork(n)
		was := live.Network
		s.mu.Lock()
		live.Network, live.pools = n.Network, n.pools
		s.mu.Unlock()
		s.heed(live, &was)
	}
	s.repostAll(c.d)
	s.setRoutes(slices.Concat(newRoutes, goneRoutes))
	s.reachHost()
	for _, e := range c.joined {
		s.enter(e)
	}
	s.heedRules(c.newRules, c.goneRules)
	for _, e := range slices.Concat(c.before, c.after) {
		s.events.Publish("port.deleted", e.port.Name, "from network "+cmp.Or(e.port.Network, "none"))
	}
	for _, n := range gone {
		s.events.Publish("network.deleted", n.Name, "")
	}
	for _, n := range added {
		s.events.Publish("network.added", n.Name, subnetsText(n.Subnets))
	}
	for _, r := range goneRoutes {
		s.events.Publish("route.deleted", r.Prefix.String(), "of router "+r.Router)
	}
	for _, r := range newRoutes {
		s.events.Publish("route.added", r.Prefix.String(), routeText(&r))
	}
	s.settleUplinks()
	for _, u := range c.afterUplinks {
		s.events.Publish("uplink.deleted", u.Name, "")
	}
	for _, u := range newUplinks {
		s.events.Publish("uplink.added", u.Name, "interface "+cmp.Or(s.describeUplink(&u).Status.Interface, u.Interface))
	}
	for _, now := range c.altered {
		live := s.live(now)
		was := c.was[live].port
		s.tellChanged(live, &was)
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
	for _, u := range c.afterUplinks {
		c.s.removeUplink(u.ID)
	}
	_ = abreast(c.after, func(e *endpoint) error {
		c.s.detach(e)
		c.s.passing("transaction.dropped")
		return nil
	})
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
