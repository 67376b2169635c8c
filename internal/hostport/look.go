package hostport

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/link"
)

// look is one comparison of what is wanted with what the kernel has.
type look struct {
	p      *Port
	state  State
	local  []link.LocalAddr // the host's addresses, the interface's too
	ways   []link.HostWay   // nil until asked for
	failed bool             // what went wrong may go well next time
}

// lookLocked makes the host fit what is wanted. It tells whether it should be tried again.
func (p *Port) lookLocked() (failed bool) {
	l := &look{p: p}
	for _, step := range []func() error{l.device, l.addresses, l.routes} {
		if err := step(); err != nil {
			l.keep()
			l.problem("", err)
			break
		}
	}
	slices.Sort(l.state.Problems)
	if p.plugged || !reflect.DeepEqual(p.state, l.state) { // a new device may look like the one before, to the index
		p.plugged = false
		p.state = l.state
		p.cfg.Report(l.state)
	}
	return l.failed
}

// keep takes for true what was, where the kernel doesn't answer: as at the limit of open files.
func (l *look) keep() {
	if l.p.dev != nil {
		l.state = l.p.state
		l.state.Problems = nil
	}
}

// addresses gives the interface those addresses that nobody else uses, and finds the host's others.
func (l *look) addresses() (err error) {
	p := l.p
	if l.local, err = link.LocalAddrs(p.cfg.Host); err != nil {
		return err
	}
	for _, a := range l.local {
		list := &l.state.Local
		if l.wanted(a.Addr) {
			list = &l.state.Inside
		}
		if a.Index != p.index && !slices.Contains(*list, a.Addr) {
			*list = append(*list, a.Addr)
		}
	}
	slices.SortFunc(l.state.Local, netip.Addr.Compare)
	slices.SortFunc(l.state.Inside, netip.Addr.Compare)
	if !l.state.Up {
		l.state.Problems = append(l.state.Problems, fmt.Sprintf("interface %s is down: set it up with 'ip link set %[1]s up'", l.state.Name))
		return nil
	}
	for _, a := range p.cfg.Addrs {
		if !slices.Contains(l.local, link.LocalAddr{Addr: a.Addr(), Index: p.index}) {
			if why, err := l.taken(a); why != "" || err != nil {
				l.problem(why, err)
				continue
			}
			if err := link.SetUpHostPort(p.cfg.Host, p.index, []netip.Prefix{a}); err != nil {
				l.problem("", err)
				continue
			}
		}
		l.state.Addrs = append(l.state.Addrs, a)
	}
	return nil
}

// problem notes why something is not as wanted: why, or err. That is to be tried again, but for conflicts, of whose end there will be
// news.
func (l *look) problem(why string, err error) {
	if err != nil {
		why = err.Error()
		l.failed = l.failed || !api.HasCode(err, api.CodeConflict)
	}
	l.state.Problems = append(l.state.Problems, why)
}

// wanted tells whether the address is in a subnet of a network: it is sought there.
func (l *look) wanted(a netip.Addr) bool {
	return slices.ContainsFunc(l.p.want, func(r link.HostRoute) bool { return r.Prefix.Contains(a) })
}

// taken tells who uses an address or its peer already.
func (l *look) taken(a netip.Prefix) (why string, err error) {
	const advice = "give the host port another address with --host-ip"
	if err := l.findWays(); err != nil {
		return "", err
	}
	for _, other := range l.local {
		if a.Contains(other.Addr) && other.Index != l.p.index {
			return fmt.Sprintf("address %s belongs to another interface of the host; %s", other.Addr, advice), nil
		}
	}
	for _, w := range l.ways {
		if w.Prefix.Overlaps(a) {
			return fmt.Sprintf("address %s is in %s, to which the host has a route; %s", a.Addr(), w.Prefix, advice), nil
		}
	}
	for _, r := range l.p.want {
		if r.Prefix.Overlaps(a) {
			return fmt.Sprintf("address %s is in subnet %s of a network; %s", a.Addr(), r.Prefix, advice), nil
		}
	}
	return "", nil
}

func (l *look) findWays() (err error) {
	if l.ways == nil {
		l.ways, err = link.HostWays(l.p.cfg.Host, l.p.index)
		l.p.others = len(l.ways)
	}
	return err
}

// routes gives the host a route to each subnet to which it has no other.
func (l *look) routes() error {
	p := l.p
	if !l.state.Up {
		return nil
	}
	list, err := link.HostRoutes(p.cfg.Host, p.index)
	if err == nil {
		err = l.findWays()
	}
	if err != nil {
		return err
	}
	have := map[netip.Prefix]link.HostRoute{}
	for _, r := range list {
		have[r.Prefix] = r
	}
	for _, r := range p.want {
		if u, ok := l.otherWay(r.Prefix); ok {
			l.state.Unrouted = append(l.state.Unrouted, u)
			continue
		}
		r.Source = l.source(r.Prefix)
		if err := l.route(r, have); err != nil {
			l.problem("", err)
		} else {
			l.state.Routes = append(l.state.Routes, r.Prefix)
		}
		delete(have, r.Prefix)
	}
	for prefix := range have {
		if err := link.DeleteHostRoute(p.cfg.Host, p.index, prefix); err != nil {
			l.problem("", err)
		}
	}
	return nil
}

// route makes the kernel have a route, given those that it has.
func (l *look) route(r link.HostRoute, have map[netip.Prefix]link.HostRoute) error {
	switch was, ok := have[r.Prefix]; {
	case !ok:
		return link.AddHostRoute(l.p.cfg.Host, l.p.index, r)
	case was != r:
		return link.ReplaceHostRoute(l.p.cfg.Host, l.p.index, r)
	}
	return nil
}

// otherWay tells how the host gets to all of a subnet without us. Ways to parts of it go before ours in any case.
func (l *look) otherWay(p netip.Prefix) (u Unrouted, ok bool) {
	for _, w := range l.ways {
		if w.Prefix.Bits() > p.Bits() || !w.Prefix.Contains(p.Addr()) {
			continue
		}
		u = Unrouted{Prefix: p, Index: w.Index, Why: fmt.Sprintf("the host has a route to %s that refuses it", w.Prefix)}
		if w.Index != 0 {
			name := fmt.Sprintf("interface number %d", w.Index)
			if st, err := link.LookupIndex(l.p.cfg.Host, w.Index); err == nil {
				name = st.Name
			}
			u.Why = fmt.Sprintf("the host has a route to %s by %s", w.Prefix, name)
		}
		return u, true
	}
	return u, false
}

// source returns by which address the host speaks to a network: the interface's of the family, if it has it.
func (l *look) source(prefix netip.Prefix) netip.Addr {
	for _, a := range l.state.Addrs {
		if a.Addr().Is4() == prefix.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
