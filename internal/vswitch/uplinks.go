package vswitch

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/uplink"
)

// maxUplinks is how many uplinks there can be: each has a bitmap and tables of its own in the kernel.
const maxUplinks = 16

// usualUplinkMetric is behind that of a static route that names none.
const usualUplinkMetric = 100

// AddUplink lets a router reach the outside.
func (s *Switch) AddUplink(ctx context.Context, r api.UplinkRequest) (api.Uplink, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	x, err := carryOne(ctx, s, (*draft).addUplink, &r)
	if err != nil {
		return api.Uplink{}, err
	}
	return s.describeUplink(x.uplink), nil
}

// DeleteUplink gives an interface back to the host.
func (s *Switch) DeleteUplink(ctx context.Context, name string) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	_, err := carryOne(ctx, s, (*draft).deleteUplink, &api.DeleteRequest{Name: name})
	return err
}

// Uplinks lists all uplinks by name.
func (s *Switch) Uplinks(context.Context) ([]api.Uplink, error) {
	out := []api.Uplink{}
	for _, u := range s.uplinkIntents() {
		out = append(out, s.describeUplink(&u))
	}
	return out, nil
}

// Uplink returns one uplink.
func (s *Switch) Uplink(_ context.Context, name string) (api.Uplink, error) {
	s.mu.RLock()
	u, ok := s.uplinks[name]
	s.mu.RUnlock()
	if !ok {
		return api.Uplink{}, noUplink(name)
	}
	return s.describeUplink(&u), nil
}

// uplinkIntents returns all uplinks by name, without their status.
func (s *Switch) uplinkIntents() []api.Uplink {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.uplinks), func(a, b api.Uplink) int { return strings.Compare(a.Name, b.Name) })
}

func (d *draft) addUplink(r *api.UplinkRequest) (outcome, error) {
	want, err := uplinkOf(r)
	if err != nil {
		return outcome{}, err
	}
	if have, ok := d.uplinks[want.Name]; ok {
		want.ID = have.ID
		switch {
		case !r.MayExist:
			return outcome{}, api.Errorf(api.CodeConflict, "uplink %s already exists: give the new one another --name, or take what there is with --may-exist", want.Name)
		case !reflect.DeepEqual(want, have):
			return outcome{}, api.Errorf(api.CodeConflict, "uplink %s is there, but otherwise: 'vsctl show uplink %s' says how; delete it first", want.Name, want.Name)
		}
		return outcome{unchanged: true, uplink: &have}, nil
	}
	if len(d.uplinks) >= maxUplinks {
		return outcome{}, api.Errorf(api.CodeExhausted, "there are %d uplinks, which is the limit; delete one first", maxUplinks)
	}
	if err := d.checkRouter(want.Router); err != nil {
		return outcome{}, err
	}
	if err := d.checkUplinkInterface(&want); err != nil {
		return outcome{}, err
	}
	if err := d.checkUplinkSubnets(&want); err != nil {
		return outcome{}, err
	}
	if err := d.checkPublished(&want); err != nil {
		return outcome{}, err
	}
	want.ID = newID()
	d.charge(want.ID)
	d.uplinks[want.Name] = want
	return outcome{uplink: &want}, nil
}

func (d *draft) deleteUplink(r *api.DeleteRequest) (outcome, error) {
	if _, ok := d.uplinks[r.Name]; !ok {
		return outcome{unchanged: true}, unless(r.IfExists, noUplink(r.Name))
	}
	delete(d.uplinks, r.Name)
	return outcome{}, nil
}

func noUplink(name string) error {
	return api.Errorf(api.CodeNotFound, "no uplink %.70q; 'vsctl list-uplinks' names those there are", name)
}

// uplinkOf checks a request for an uplink, and fills in its defaults.
func uplinkOf(r *api.UplinkRequest) (api.Uplink, error) {
	u := api.Uplink{
		Name: cmp.Or(r.Name, r.Interface), Interface: r.Interface, Mode: cmp.Or(r.Mode, api.UplinkShared), Router: cmp.Or(r.Router, api.MainRouter),
		Metric: cmp.Or(r.Metric, usualUplinkMetric), IPs: r.IPs, Gateways: r.Gateways,
	}
	usual := api.PortRange{First: uplink.DefaultFirstPort, Last: uplink.DefaultLastPort}
	if u.Mode == api.UplinkDedicated {
		usual = api.PortRange{First: lowPort, Last: highPort}
	}
	u.NATPorts = cmp.Or(r.NATPorts, usual)
	switch {
	case u.Interface == "":
		return u, invalid("the uplink has no interface: name one of the host, or auto for that of its default route")
	case u.Mode != api.UplinkShared && u.Mode != api.UplinkDedicated:
		return u, invalid("mode %.40q of an uplink: use %s or %s", u.Mode, api.UplinkShared, api.UplinkDedicated)
	case u.Metric > math.MaxInt32:
		return u, invalid("metric %d: use 1 to %d", u.Metric, math.MaxInt32)
	case u.NATPorts.First == 0 || u.NATPorts.First > u.NATPorts.Last:
		return u, invalid("ports %d-%d: use a range from 1 to 65535, the smaller first", u.NATPorts.First, u.NATPorts.Last)
	}
	if err := api.CheckIfName(u.Interface); err != nil {
		return u, err
	}
	if err := api.CheckName("uplink", u.Name); err != nil {
		if r.Name == "" {
			return u, invalid("interface %s can't give the uplink its name: give one by --name", u.Interface)
		}
		return u, err
	}
	if err := api.CheckName("router", u.Router); err != nil {
		return u, err
	}
	return u, checkStation(&u)
}

// checkRouter refuses a router that nothing of the draft is on.
func (d *draft) checkRouter(name string) error {
	if name == api.MainRouter {
		return nil
	}
	for _, n := range d.networks {
		if n.Router == name && len(gatewayPrefixes(&n.Network)) > 0 {
			return nil
		}
	}
	return noRouter(name)
}

// checkUplinkInterface refuses an interface that can't be shared, or is by another uplink of the draft.
func (d *draft) checkUplinkInterface(u *api.Uplink) error {
	st, err := d.uplinkInterface(u)
	if err != nil {
		return err
	}
	for _, other := range d.uplinks {
		if other.Interface == u.Interface || st.Index != 0 && d.s.claimed.of(other.ID) == st.Index {
			e := api.Errorf(api.CodeConflict, "uplink %s uses interface %s already: delete that first, or name another interface", other.Name, cmp.Or(st.Name, u.Interface))
			e.Object = other.Name
			return e
		}
	}
	return nil
}

// uplinkInterface finds the interface that the uplink asks for; for auto there may be none now, or one that can't be shared.
func (d *draft) uplinkInterface(u *api.Uplink) (st link.State, err error) {
	if u.Interface == api.AutoUplink {
		index, err := link.DefaultInterface(d.s.host)
		if err != nil || index == 0 {
			return st, err
		}
		return link.LookupIndex(d.s.host, index)
	}
	if st, err = link.Lookup(d.s.host, u.Interface); api.HasCode(err, api.CodeNotFound) {
		return st, api.Errorf(api.CodeNotFound, "the host has no interface %s; 'ip link' lists those there are, and auto is that of the default route", u.Interface)
	}
	if what := d.s.ownDevice(st); err == nil && what != "" {
		return st, api.Errorf(api.CodeRefused, "interface %s is %s, and leads nowhere else: name the one that leads outside, or auto", u.Interface, what)
	}
	if err == nil {
		err = link.CheckShareable(d.s.host, st.Index)
	}
	return st, err
}

// newUplinks returns those of the draft that are not at work, and goneUplinks those at work that it does not have.
func (c *carry) newUplinks() []api.Uplink  { return otherUplinks(c.d.uplinks, c.s.uplinks) }
func (c *carry) goneUplinks() []api.Uplink { return otherUplinks(c.s.uplinks, c.d.uplinks) }

func otherUplinks(a, b map[string]api.Uplink) (list []api.Uplink) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name].ID != a[name].ID {
			list = append(list, a[name])
		}
	}
	return list
}

// clearUplinks takes those away that go, when others come: they may want the same interface or ports.
func (c *carry) clearUplinks(context.Context) error {
	if len(c.newUplinks()) == 0 {
		return nil
	}
	for _, u := range c.goneUplinks() {
		c.undo = append(c.undo, func() error {
			if err := c.s.openUplink(u, kept{again: true}); err != nil {
				c.s.putUplink(&liveUplink{Uplink: u, err: err.Error()})
				return err
			}
			c.s.settleUplinks()
			return nil
		})
		c.s.removeUplink(u.ID)
	}
	return nil
}

// openUplinks shares the interfaces of new uplinks; nothing is routed by them yet.
func (c *carry) openUplinks(context.Context) error {
	for _, u := range c.newUplinks() {
		if err := c.s.openUplink(u, kept{}); err != nil {
			return c.d.blame(u.ID, plainly(err))
		}
		c.undo = append(c.undo, func() error { c.s.removeUplink(u.ID); return nil })
		if err := c.s.fail.at("transaction.shared"); err != nil {
			return err
		}
	}
	return nil
}

// wantedUplinks returns the uplinks of a configuration, with their defaults.
func wantedUplinks(c api.Config) (list []api.Uplink, err error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Uplinks)) {
		r := c.Uplinks[name].UplinkRequest
		r.Name = name
		u, err := uplinkOf(&r)
		if err != nil {
			errs = append(errs, err)
		}
		list = append(list, u)
	}
	return list, errors.Join(errs...)
}

// uplinkConfigs returns what one would ask for to get the uplinks again.
func uplinkConfigs(all []api.Uplink) (out map[string]api.UplinkConfig) {
	for i := range all {
		u := &all[i]
		if out == nil {
			out = make(map[string]api.UplinkConfig)
		}
		r := api.UplinkRequest{Interface: u.Interface}
		if u.Mode != api.UplinkShared {
			r.Mode, r.IPs = u.Mode, u.IPs
		}
		asked := r
		asked.Name = u.Name
		if usual, err := uplinkOf(&asked); err == nil {
			copySame(&r, u, &usual)
		}
		r.Name = ""
		out[u.Name] = api.UplinkConfig{UplinkRequest: r}
	}
	return out
}
