package vswitch

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// compare finds out what differs between what is at work and the draft.
func (s *Switch) compare(d *draft) *carry {
	c := &carry{s: s, d: d, was: make(map[*endpoint]endpoint), newRules: otherRules(d.rules, s.rules), goneRules: otherRules(s.rules, d.rules)}
	byID := make(map[string]*endpoint, len(d.ports))
	for _, e := range d.ports {
		byID[e.port.ID] = e
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.made), func(a, b string) int { return d.made[a] - d.made[b] }) {
		if e := byID[id]; e != nil && s.live(e) == nil {
			c.new = append(c.new, e)
		}
	}
	for _, e := range d.ports {
		live := s.live(e)
		if live == nil {
			continue
		}
		if s.alters(e) {
			c.altered = append(c.altered, e)
		}
		if !slices.Equal(live.port.StaticFDB, e.port.StaticFDB) {
			c.placed = append(c.placed, e)
		}
	}
	blocks := inTheWay(slices.Concat(c.new, c.altered))
	for _, e := range s.ports {
		switch now := byID[e.port.ID]; {
		case now == nil && blocks(e):
			c.before = append(c.before, e)
		case now == nil:
			c.after = append(c.after, e)
		}
	}
	for _, list := range [][]*endpoint{c.before, c.after, c.altered, c.placed} {
		slices.SortFunc(list, func(a, b *endpoint) int {
			return cmp.Or(strings.Compare(a.port.Network, b.port.Network), strings.Compare(a.port.Name, b.port.Name))
		})
	}
	return c
}

// alters tells whether a port of the draft differs from the one at work in more than static entries, if only by the gateway of its
// network.
func (s *Switch) alters(e *endpoint) bool {
	live := s.live(e)
	was, is := live.port, e.port
	was.StaticFDB, is.StaticFDB = nil, nil
	return !reflect.DeepEqual(was, is) || live.dev != nil && !reflect.DeepEqual(s.placing(live.net, &was), s.placing(e.net, &is))
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
