package vswitch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/pipeline"
	"vswitch/internal/port"
	"vswitch/internal/store"
	"vswitch/internal/uplink"
	"vswitch/nat"
	"vswitch/router"
)

// uplinkPortMTU lets all pass that the TAP of an uplink does: what is too large for the interface is the router's affair.
const uplinkPortMTU = 65517

// peerMAC is whom frames to an uplink are addressed to. The kernel gives them the next hop's instead.
var peerMAC = [6]byte{0x02, 5: 1}

// way is an uplink at work. It changes with ways.mu held.
type way struct {
	api.Uplink
	work  work           // nil when it could not be opened again: err says why
	share *uplink.Uplink // the same, when it is shared
	leg   *leg
	end   func() // ends what follows the interface, and waits for that
	err   string
	state uplink.State // as it was last reported
	wired wiring
	pools map[netip.Addr]*nat.Pool
}

// work is what an uplink does at its interface.
type work interface {
	State() uplink.State
	Run(ctx context.Context, report func(uplink.State)) error
	Close() error
	Remove() error
}

// wiring is what the router knows of a way.
type wiring struct {
	up    bool
	spare bool // down, while another one is up: its connections end
	mtu   int
	addrs []netip.Addr // best first
}

// ways are the uplinks at work by id.
type ways struct {
	mu sync.Mutex // never held while a way is opened or removed
	by map[string]*way
}

// openWay shares an uplink's interface with what was kept of it, and follows it. Who opened it lets settleWays route by it.
func (s *Switch) openWay(u api.Uplink, held map[string]int, changes uplink.Changes) error {
	w := &way{Uplink: u, pools: make(map[netip.Addr]*nat.Pool)}
	p, err := s.work(w, held, changes)
	if err != nil {
		s.claimed.release(u.ID)
		return err
	}
	if w.leg, err = s.plugLeg(legName(u.Name), p, uplinkPortMTU); err == nil {
		err = s.path.Start(w.leg.id)
	}
	if err != nil {
		if w.leg != nil {
			s.unplugLeg(w.leg)
		}
		s.discardWay(w)
		return err
	}
	w.state = w.work.State()
	s.putWay(w)
	s.followWay(w)
	return nil
}

// legName is what users see of an uplink's leg in traces and counters.
func legName(uplink string) string { return "uplink:" + uplink }

// work begins the way's work at its interface and returns its port.
func (s *Switch) work(w *way, held map[string]int, changes uplink.Changes) (port.Port, error) {
	u, log := &w.Uplink, s.log.With("uplink", w.Name)
	if u.Mode == api.UplinkDedicated {
		st, err := uplink.OpenStation(uplink.StationConfig{
			ID: u.ID, Interface: u.Interface, Host: s.host, MAC: gatewayMAC(u.ID), Addrs: addrsOf(u.IPs),
			Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimed.claim(u.ID), Logger: log,
		}, held, changes)
		if err != nil {
			return nil, err
		}
		w.work = st
		return st.Port(), nil
	}
	sh, err := uplink.Open(uplink.Config{
		ID: u.ID, Interface: u.Interface, Host: s.host, FirstPort: u.NATPorts.First, LastPort: u.NATPorts.Last, TxQueueLen: s.cfg.TxQueueLen,
		Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimed.claim(u.ID), Logger: log,
	}, held, changes)
	if err != nil {
		return nil, err
	}
	w.work, w.share = sh, sh
	return sh.Port(), nil
}

func addrsOf(prefixes []netip.Prefix) (addrs []netip.Addr) {
	for _, p := range prefixes {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

func (s *Switch) putWay(w *way) {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	s.ways.by[w.ID] = w
}

// followWay begins to follow the interface.
func (s *Switch) followWay(w *way) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.work.Run(ctx, func(st uplink.State) { s.reported(w, st) }); err != nil {
			s.log.Error("follow the interface of an uplink", "uplink", w.Name, "err", err)
		}
	}()
	w.end = func() { cancel(); <-done }
}

// reported takes note of an interface's new state.
func (s *Switch) reported(w *way, st uplink.State) {
	s.ways.mu.Lock()
	was := w.state
	w.state = st
	s.ways.mu.Unlock()
	s.settleWays()
	if usable(&was) != usable(&st) || was.Problem != st.Problem {
		d := s.describeUplink(&w.Uplink)
		s.log.Info("uplink is "+d.Status.State, "uplink", w.Name, "interface", st.Name, "problem", st.Problem)
		s.events.Publish("uplink."+d.Status.State, w.Name, d.Status.Problem)
	}
}

// hostChanges returns what writes down what an uplink changes of the host.
func (s *Switch) hostChanges(id string) func(uplink.Changes) error {
	return func(c uplink.Changes) error {
		return s.store.Update(func(tx *store.Tx) error {
			if c == (uplink.Changes{}) {
				return tx.DeleteHostChanges(id)
			}
			b, err := json.Marshal(c)
			if err != nil {
				return err
			}
			return tx.PutHostChanges(store.HostChanges{ID: id, Changes: b})
		})
	}
}

// removeWay gives the interface back to the host. It can't fail: what could not be undone is logged, and tried again by the next start.
func (s *Switch) removeWay(id string) {
	s.ways.mu.Lock()
	w := s.ways.by[id]
	delete(s.ways.by, id)
	s.ways.mu.Unlock()
	if w == nil {
		return
	}
	if w.work == nil {
		s.undoHostChanges(id)
		return
	}
	w.end()
	s.routeBy(w.leg.name, w.Router, nil)
	s.settleWays()
	s.unplugLeg(w.leg)
	for _, p := range w.pools {
		s.conns.RemovePool(p)
	}
	s.discardWay(w)
}

// remakeWay shares an interface anew whose port died: somebody removed its device. Callers hold verb.
func (s *Switch) remakeWay(id packet.PortID) {
	s.ways.mu.Lock()
	var dead *way
	for _, w := range s.ways.by {
		if w.leg != nil && w.leg.id == id {
			dead = w
		}
	}
	s.ways.mu.Unlock()
	if dead == nil {
		return
	}
	s.log.Info("the device of an uplink is gone; it is made anew", "uplink", dead.Name)
	s.removeWay(dead.ID)
	if err := s.openWay(dead.Uplink, nil, uplink.Changes{}); err != nil {
		s.log.Error("share an uplink's interface", "uplink", dead.Name, "err", err)
		s.events.Publish("uplink.down", dead.Name, err.Error())
		s.putWay(&way{Uplink: dead.Uplink, err: err.Error()})
	}
	s.settleWays()
}

func (s *Switch) discardWay(w *way) {
	if err := w.work.Remove(); err != nil {
		s.log.Error("give an interface back to the host; the next start will finish it", "uplink", w.Name, "err", err)
	}
	s.claimed.release(w.ID)
}

// closeWays lets go of all uplinks, and leaves their interfaces shared for the next daemon. The data plane has ended.
func (s *Switch) closeWays() (errs []error) {
	for _, w := range s.ways.by {
		if w.work != nil {
			w.end()
			errs = append(errs, w.work.Close())
		}
	}
	return errs
}

// usable tells whether frames can leave by the interface.
func usable(st *uplink.State) bool { return st.Index != 0 && st.Attached != "" && st.Up && st.Carrier }

// settleWays makes the routers heed what is known of all uplinks.
func (s *Switch) settleWays() {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	up := make(map[string]bool) // routers that have one that is
	for _, w := range s.ways.by {
		up[w.Router] = up[w.Router] || w.work != nil && usable(&w.state)
	}
	for _, w := range s.ways.by {
		if w.work == nil {
			continue
		}
		is := wiring{up: usable(&w.state), mtu: w.state.MTU, addrs: preferred(w.state.Addrs)}
		if w.share == nil {
			is.addrs = addrsOf(w.IPs)
		}
		is.spare = !is.up && up[w.Router]
		if !is.up { // what it had may come back
			is.mtu = w.wired.mtu
			if w.share != nil {
				is.addrs = w.wired.addrs
			}
		}
		if w.wired.mtu != 0 && reflect.DeepEqual(is, w.wired) {
			continue
		}
		if is.mtu == 0 {
			is.mtu = defaultMTU
		}
		came := is.up && !w.wired.up
		w.wired = is
		s.wireWay(w)
		if came {
			s.announceWay(w)
		}
	}
}

// preferred returns the addresses, those that new connections should have first.
func preferred(list []link.HostAddr) (addrs []netip.Addr) {
	rank := func(a link.HostAddr) int {
		return map[bool]int{true: 2}[a.Deprecated] + map[bool]int{true: 1}[a.Secondary]
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b link.HostAddr) int { return rank(a) - rank(b) })
	for _, a := range list {
		if a.Addr().IsGlobalUnicast() {
			addrs = append(addrs, a.Addr())
		}
	}
	return addrs
}

// wireWay gives the router an interface, pools of ports and routes as w.wired says. Callers hold ways.mu.
func (s *Switch) wireWay(w *way) {
	c := s.translation(w.Router, w.leg.number)
	keep := make(map[netip.Addr]*nat.Pool)
	var routes []router.StaticRoute
	for _, a := range w.wired.addrs {
		i, all := 0, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if a.Is6() {
			i, all = 1, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if w.wired.spare {
			break
		}
		pool := w.pools[a]
		if pool == nil && c.Pools[i] == nil {
			pool = s.newPool(w, a)
		}
		if pool == nil {
			continue
		}
		keep[a] = pool // also one that is no longer the best: its connections go on
		if c.Pools[i] == nil {
			c.Pools[i] = pool
			if w.wired.up && w.share != nil {
				routes = append(routes, router.StaticRoute{Prefix: all, Interface: w.leg.name, Metric: w.Metric})
			}
		}
	}
	w.leg.line.SetNAT(c)
	i := &router.Interface{MAC: gatewayMAC(w.ID), MTU: w.wired.mtu, Uplink: true}
	if w.share != nil {
		i.Peer, i.Shared, i.External = peerMAC, true, w.wired.addrs
	} else {
		i.Prefixes = w.IPs
		routes = w.gatewayRoutes()
	}
	w.leg.line.SetGateway(s.router(w.Router), i)
	s.routeBy(w.leg.name, w.Router, routes)
	for a, pool := range w.pools {
		if keep[a] == nil {
			s.conns.RemovePool(pool)
		}
	}
	w.pools = keep
	s.steerAll(w)
}

// gatewayRoutes are the default routes of a dedicated uplink.
func (w *way) gatewayRoutes() (routes []router.StaticRoute) {
	for _, via := range w.Gateways {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if w.wired.up {
			routes = append(routes, router.StaticRoute{Prefix: all, NextHops: []netip.Addr{via}, Interface: w.leg.name, Metric: w.Metric})
		}
	}
	return routes
}

// announceWay tells the segment where the addresses of a dedicated uplink are: its tables of MACs, and neighbors that knew an older owner.
func (s *Switch) announceWay(w *way) {
	if w.share != nil {
		return
	}
	for _, a := range w.wired.addrs {
		if a.Is4() {
			s.path.Send(w.leg.id, pipeline.GratuitousARP(gatewayMAC(w.ID), a))
		} else {
			s.path.Send(w.leg.id, pipeline.UnsolicitedNA(gatewayMAC(w.ID), a))
		}
	}
}

// describeUplink adds to an intent what there is of it.
func (s *Switch) describeUplink(u *api.Uplink) api.Uplink {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	out := *u
	out.Status = api.UplinkStatus{State: api.UplinkDown}
	w := s.ways.by[u.ID]
	switch {
	case w == nil: // after a dry run
		return out
	case w.work == nil:
		out.Status.Problem = w.err
		return out
	}
	st := &w.state
	out.Status.Interface, out.Status.MTU, out.Status.Attached, out.Status.Problem = st.Name, st.MTU, st.Attached, st.Problem
	if w.share != nil {
		out.Status.Device = link.DeviceName(u.ID)
	} else {
		out.Status.Addresses, out.Status.MAC = u.IPs, macString(gatewayMAC(u.ID))
	}
	for _, a := range st.Addrs {
		out.Status.Addresses = append(out.Status.Addresses, a.Prefix)
	}
	switch {
	case usable(st):
		out.Status.State = api.UplinkUp
	case st.Problem != "":
	case st.Index != 0 && !st.Up:
		out.Status.Problem = "interface " + st.Name + " is down"
	case st.Index != 0 && !st.Carrier:
		out.Status.Problem = "interface " + st.Name + " has no carrier"
	}
	return out
}

// loadUplinks brings back the uplinks of the stored intent, by what was kept of them, and undoes what others left.
func (s *Switch) loadUplinks() error {
	list, err := s.store.Uplinks()
	if err != nil {
		return err
	}
	changes, err := s.storedChanges()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b api.Uplink) int { return strings.Compare(a.Name, b.Name) })
	for _, u := range list {
		held := s.heldUplinks[u.ID]
		delete(s.heldUplinks, u.ID)
		s.mu.Lock()
		s.uplinks[u.Name] = u
		s.mu.Unlock()
		if err := s.openWay(u, held, changes[u.ID]); err != nil {
			s.log.Error("share an uplink's interface", "uplink", u.Name, "err", err)
			s.events.Publish("uplink.down", u.Name, err.Error())
			s.putWay(&way{Uplink: u, err: err.Error()})
		}
		delete(changes, u.ID)
	}
	s.settleWays()
	s.discardUplinks(changes)
	return nil
}

// teardownUplinks removes the records of all uplinks, and what they left.
func (s *Switch) teardownUplinks() (n int, err error) {
	list, err := s.store.Uplinks()
	if err != nil {
		return 0, err
	}
	for _, u := range list {
		if err := s.store.Update(func(tx *store.Tx) error { return tx.DeleteUplink(u.ID) }); err != nil {
			return 0, err
		}
	}
	changes, err := s.storedChanges()
	s.discardUplinks(changes)
	return len(list), err
}

// discardUplinks lets go of what was kept of uplinks that are no more, and undoes what they changed of the host.
func (s *Switch) discardUplinks(changes map[string]uplink.Changes) {
	for id, held := range s.heldUplinks {
		for what, fd := range held {
			s.dropHeld(uplink.FDName(id, what), fd)
		}
	}
	s.heldUplinks = nil
	for id := range changes {
		s.undoHostChanges(id)
	}
}

// storedChanges returns what uplinks changed of the host, by their ids.
func (s *Switch) storedChanges() (map[string]uplink.Changes, error) {
	records, err := s.store.HostChanges()
	if err != nil {
		return nil, err
	}
	all := make(map[string]uplink.Changes)
	for _, r := range records {
		var c uplink.Changes
		if err := json.Unmarshal(r.Changes, &c); err != nil {
			return nil, fmt.Errorf("what uplink %s changed of the host: %w", r.ID, err)
		}
		all[r.ID] = c
	}
	return all, nil
}

// undoHostChanges changes back what an uplink that is no more has changed, or leaves that to the next start.
func (s *Switch) undoHostChanges(id string) {
	all, err := s.storedChanges()
	if c, ok := all[id]; ok && err == nil {
		if err = uplink.Undo(s.host, c); err == nil {
			err = s.hostChanges(id)(uplink.Changes{})
		}
	}
	if err != nil {
		s.log.Error("change back what an uplink changed of the host; the next start tries again", "id", id, "err", err)
	}
}

// claims of interfaces: an interface is shared by one uplink at a time, also while auto follows the host's default route.
type interfaceClaims struct {
	mu sync.Mutex
	by map[string]int // id of the uplink -> index of the interface
}

// claim returns what takes an interface for an uplink, instead of the one it had; 0: none.
func (c *interfaceClaims) claim(id string) func(index int) error {
	return func(index int) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for other, at := range c.by {
			if index != 0 && at == index && other != id {
				return api.Errorf(api.CodeRefused, "another uplink shares the interface already")
			}
		}
		if c.by == nil {
			c.by = make(map[string]int)
		}
		c.by[id] = index
		return nil
	}
}

func (c *interfaceClaims) release(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, id)
}

// of returns the index of the interface that the uplink has, or 0.
func (c *interfaceClaims) of(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[id]
}
