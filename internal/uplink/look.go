package uplink

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
)

// retryTime is when to look again after news, or after a look that failed. The kernel announces that a route is deleted while it still is
// there (fib_table_delete in net/ipv4/fib_trie.c): whoever looks at once may see it.
const retryTime = 500 * time.Millisecond

// State is what there is of an uplink's interface.
type State struct {
	link.State                 // of the interface; Index 0: there is none now
	Addrs      []link.HostAddr // its addresses, in the kernel's order
	IP4, IP6   bool            // the host has a default route by it
	Elsewhere6 string          // of api.AutoUplink: the interface by which the host's default route of IPv6 leads when it has none by this one
	Attached   string          // how its frames are taken: link.IngressTCX, link.IngressClsact, or "" for not at all
	Problem    string          // what is to be done so that it works, or works as wanted; "" when it does
}

// State returns what the last look found.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// Run follows the kernel until ctx ends, and then returns nil. It reports each state that differs from the one before, and the first
// in any case. It runs once at a time.
func (u *Uplink) Run(ctx context.Context, report func(State)) error {
	return run(ctx, u.follow, u.look, func() { report(u.State()) }, u.log.With("uplink", u.cfg.ID))
}

// run looks whenever the kernel has news, and has changes reported.
func run(ctx context.Context, follow *link.Follower, look func() (changed bool, err error), report func(), log *slog.Logger) error {
	report()
	for again := true; ; {
		changed, err := look()
		if changed {
			report()
			if err != nil {
				log.Warn("follow the interface of an uplink", "err", err)
			}
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if again || err != nil {
			wait, cancel = context.WithTimeout(ctx, retryTime)
		}
		err = follow.Wait(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && wait.Err() == nil:
			return err
		}
		again = err == nil
	}
}

// look makes the uplink fit what the kernel has now.
func (u *Uplink) look() (changed bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, err := u.findLocked()
	if err == nil && u.in.Index != 0 && (u.in.Index != now.Index || !u.in.Attached()) {
		err = u.detachLocked()
	}
	if err == nil && now.Index != 0 && (u.in.Index == 0 || !u.loaded) {
		err = u.attachLocked(now.State)
	}
	if err == nil && now.Index != 0 {
		if err = u.rename(now.Name); err == nil {
			now.Addrs, err = link.HostAddrs(u.cfg.Host, now.Index)
		}
		if err == nil {
			now.IP4, now.IP6, err = link.DefaultBy(u.cfg.Host, now.Index)
		}
		if err == nil {
			err = u.detourLocked(&now)
		}
		if err == nil && u.cfg.Interface == api.AutoUplink && !now.IP6 {
			now.Elsewhere6, err = u.elsewhere6()
		}
	}
	if err == nil {
		err = u.steer.SetAddrs(plain(now.Addrs))
	}
	switch {
	case vanished(u.cfg.Host, now.Index, err):
		now, err = State{Problem: wentAway}, nil
	case err != nil: // what was known may still hold
		was := u.state
		if now.Index != 0 {
			was.State = now.State
		}
		now = was
		now.Problem = err.Error()
	}
	now.Attached = ""
	if u.in.Index != 0 {
		now.Attached = u.in.Kind()
	}
	changed = !reflect.DeepEqual(u.state, now)
	u.state = now
	return changed, err
}

const wentAway = "the interface is gone"

// vanished tells whether err came of an interface that went while it was looked at: nothing is wrong but that, and news of it will come.
func vanished(host *link.Namespace, index int, err error) bool {
	if err != nil && index != 0 && !api.HasCode(err, api.CodeNotFound) {
		_, err = link.LookupIndex(host, index) // each request has an error of its own for it
	}
	return api.HasCode(err, api.CodeNotFound)
}

// findLocked finds the interface that is to be shared now. Index is 0 when there is none, or it can't be shared.
func (u *Uplink) findLocked() (State, error) {
	if u.cfg.Interface == api.AutoUplink {
		return u.findAutoLocked()
	}
	s, err := u.currentLocked()
	if err == nil && s.Index == 0 {
		s, err = link.Lookup(u.cfg.Host, u.cfg.Interface)
	}
	if api.HasCode(err, api.CodeNotFound) {
		return State{Problem: "interface " + u.cfg.Interface + " is gone; the uplink waits for it to return"}, nil
	}
	if err != nil {
		return State{}, err
	}
	return u.check(s)
}

// findAutoLocked stays with the interface that there is when the host has no default route, or one by an interface that can't be
// shared.
func (u *Uplink) findAutoLocked() (State, error) {
	index, err := link.DefaultInterface(u.cfg.Host)
	if err != nil {
		return State{}, err
	}
	was, err := u.currentLocked()
	if err != nil && !api.HasCode(err, api.CodeNotFound) {
		return State{}, err
	}
	if index == 0 || index == was.Index {
		if was.Index == 0 {
			return State{Problem: "the host has no default route; the uplink waits for one, or name an interface"}, nil
		}
		return u.check(was)
	}
	s, err := link.LookupIndex(u.cfg.Host, index)
	if err != nil {
		return State{}, err
	}
	now, err := u.check(s)
	if err != nil || now.Index != 0 || was.Index == 0 {
		return now, err
	}
	kept, err := u.check(was)
	kept.Problem = "the host's default route leads to " + s.Name + ": " + now.Problem
	return kept, err
}

// elsewhere6 names the interface of IPv6's default route; "" without one that can be shared.
func (u *Uplink) elsewhere6() (string, error) {
	index, err := link.DefaultInterface6(u.cfg.Host)
	if err != nil || index == 0 {
		return "", err
	}
	s, err := link.LookupIndex(u.cfg.Host, index)
	if err == nil {
		err = link.CheckShareable(u.cfg.Host, index)
	}
	switch {
	case api.HasCode(err, api.CodeNotFound), api.HasCode(err, api.CodeRefused):
		return "", nil
	case err != nil:
		return "", err
	}
	return s.Name, nil
}

// currentLocked is the interface that is shared; with Index 0 none is.
func (u *Uplink) currentLocked() (link.State, error) {
	if u.in.Index == 0 {
		return link.State{}, nil
	}
	s, err := link.LookupIndex(u.cfg.Host, u.in.Index)
	if api.HasCode(err, api.CodeNotFound) {
		return link.State{}, nil
	}
	return s, err
}

func (u *Uplink) check(s link.State) (State, error) { return checked(u.cfg.Host, s, u.cfg.Claim) }

// checked makes a State of s, with Index 0 and a Problem where it can't be an uplink, or claim says that it may not.
func checked(host *link.Namespace, s link.State, claim func(index int) error) (State, error) {
	st, err := judged(State{State: s}, link.CheckShareable(host, s.Index))
	if err != nil || st.Index == 0 || claim == nil {
		return st, err
	}
	return judged(st, claim(s.Index))
}

// judged makes a refusal the Problem of a State without an interface.
func judged(st State, err error) (State, error) {
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.Code == api.CodeRefused {
		return State{Problem: refused.Detail}, nil
	}
	if err != nil {
		return State{}, err
	}
	return st, nil
}

// attachLocked lets the programs of this process handle the interface's frames, and those that we write to the TAP. Where those of an
// earlier process do so, no frame passes between them.
func (u *Uplink) attachLocked(s link.State) error {
	send, err := bpf.LoadSend(s.Index, bpf.Detour{})
	if err != nil {
		return err
	}
	defer send.Close()
	steer, err := u.steer.LoadSteer(u.tap.Index)
	if err != nil {
		return err
	}
	defer steer.Close()
	if u.out.Index != u.tap.Index {
		u.out = link.Ingress{}
		if u.out, err = u.attachTo(u.tap.Index, send, func() error { return nil }); err != nil {
			return err
		}
	} else if err := u.out.Replace(u.cfg.Host, send); err != nil {
		return err
	}
	if u.in.Index == s.Index {
		err = u.in.Replace(u.cfg.Host, steer)
	} else if err = u.move(s.Name); err == nil {
		u.in, err = u.attachTo(s.Index, steer, func() error { return u.recordClassifier(s) })
	}
	if err != nil {
		return err
	}
	u.loaded, u.detour = true, bpf.Detour{}
	return u.keep()
}

// detourLocked lets IPv6 leave where the kernel would not find the way.
func (u *Uplink) detourLocked(s *State) error {
	d, err := link.Detour6(u.cfg.Host, s.Index, s.Addrs)
	if err != nil || d.Equal(u.detour) {
		return err
	}
	send, err := bpf.LoadSend(s.Index, d)
	if err != nil {
		return err
	}
	defer send.Close()
	if err = u.out.Replace(u.cfg.Host, send); err == nil {
		u.detour = d
	}
	return err
}

// attachTo attaches by tcx, or where there is none by a classifier, after record.
func (u *Uplink) attachTo(index int, p bpf.Program, record func() error) (in link.Ingress, err error) {
	err = bpf.ErrNoTCX
	if !u.cfg.classifierOnly {
		in, err = link.AttachIngress(u.cfg.Host, index, p)
	}
	if errors.Is(err, bpf.ErrNoTCX) {
		if err = record(); err == nil {
			in, err = link.AttachClassifier(u.cfg.Host, index, p)
		}
	}
	if err != nil {
		return link.Ingress{}, err
	}
	return in, nil
}

// detachLocked gives the interface back to the host alone. That it is gone is no error.
func (u *Uplink) detachLocked() error {
	var err error
	if u.in.Index != 0 {
		if u.in.FD >= 0 {
			u.forget(fdIn)
		}
		err = u.in.Detach(u.cfg.Host, u.changes.Clsact)
		u.in = link.Ingress{}
	}
	return errors.Join(err, u.undoInterface())
}

func plain(list []link.HostAddr) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, a.Addr())
	}
	return addrs
}
