package hostport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/port"
	"vswitch/internal/port/tap"
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
	if !reflect.DeepEqual(p.state, l.state) {
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

// device makes sure that there is one, and that it is where it belongs.
func (l *look) device() error {
	p := l.p
	if p.dev != nil {
		st, err := link.LookupTAP(p.cfg.Host, p.dev.FD())
		if err == nil && st.Index == p.index {
			l.state.State = st
			return nil
		}
		if err != nil && !isNotFound(err) && !errors.Is(err, port.ErrGone) {
			return err
		}
		p.log.Info("the host port is gone and made anew", "interface", p.state.Name)
		p.drop()
	}
	err := p.obtain()
	if err == nil {
		l.state.State, err = link.LookupTAP(p.cfg.Host, p.dev.FD())
	}
	return err
}

// drop lets go of a device that is no good any more.
func (p *Port) drop() {
	p.cfg.Unplug()
	err := link.DeleteTAP(p.dev.FD())
	err = errors.Join(err, p.cfg.Store.Delete(FDName), p.dev.Close())
	if err != nil {
		p.log.Warn("let go of a host port", "err", err)
	}
	p.dev, p.index = nil, 0
}

// obtain goes on with the device that was left, or makes one, and plugs it in. What is in the store has been set up; where it is down,
// somebody has set it down.
func (p *Port) obtain() error {
	dev, ready, err := p.left()
	undo := func() error { return unix.Close(dev.FD) }
	if isNotFound(err) {
		dev, undo, err = p.create()
	}
	if err != nil {
		return err
	}
	if dev.Name != p.cfg.Name {
		if err := link.RenameHostPort(p.cfg.Host, dev.Index, p.cfg.Name); err != nil {
			p.log.Warn("give the host port its name", "err", err)
		}
	}
	t := tap.New(p.cfg.Name, dev.FD, dev.Offload)
	for _, step := range []func() error{
		func() error { return p.cfg.Step("host.made") },
		func() error {
			if ready {
				return nil
			}
			return link.SetUpHostPort(p.cfg.Host, dev.Index, nil)
		},
		func() error { return p.cfg.Step("host.up") },
		func() error {
			if ready {
				return nil
			}
			return p.cfg.Store.PutAll(map[string]int{FDName: dev.FD})
		},
		func() error { return p.cfg.Step("host.kept") },
		func() error { return p.cfg.Plug(t) },
	} {
		if err := step(); err != nil {
			return errors.Join(err, p.cfg.Store.Delete(FDName), undo())
		}
	}
	p.dev, p.index = t, dev.Index
	return nil
}

// create makes a device, unless its name is somebody's.
func (p *Port) create() (link.TAP, func() error, error) {
	if _, err := link.Lookup(p.cfg.Host, p.cfg.Name); err == nil {
		return link.TAP{}, nil, api.Errorf(api.CodeConflict, "the host has another interface %s; name the host port otherwise with --host-port", p.cfg.Name)
	}
	return link.CreateHostPort(p.cfg.Private, p.cfg.Host, link.HostPortConfig{Name: p.cfg.Name, MAC: p.cfg.MAC, TxQueueLen: p.cfg.TxQueueLen})
}

// left finds the device of an earlier process: by the stored fd, and then it is ready, or in the host's namespace.
func (p *Port) left() (dev link.TAP, ready bool, err error) {
	if fd := p.held; fd >= 0 {
		p.held = -1
		if dev, err = link.AdoptTAP(fd); err == nil {
			var st link.State
			if st, err = link.LookupTAP(p.cfg.Host, fd); err == nil && st.Index == dev.Index {
				return dev, true, nil
			}
		}
		if err != nil && !errors.Is(err, port.ErrGone) && !isNotFound(err) {
			p.log.Warn("go on with the host port", "err", err)
		}
		if err := errors.Join(link.DeleteTAP(fd), p.cfg.Store.Delete(FDName), unix.Close(fd)); err != nil {
			p.log.Warn("let go of a host port", "err", err)
		}
	}
	name, err := link.FindHostPort(p.cfg.Host, p.cfg.MAC)
	if err == nil {
		dev, err = link.ReopenTAP(context.Background(), p.cfg.Host, name)
	}
	return dev, false, err
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
		e, ok := errors.AsType[*api.Error](err)
		l.failed = l.failed || !ok || e.Code != api.CodeConflict
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

func isNotFound(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Code == api.CodeNotFound
}
