package vswitch

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/uplink"
	"vswitch/nat"
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
	read  bool // its port is
	pools map[netip.Addr]*nat.Pool
	gone  map[netip.Addr]time.Time // since when the interface lacks an address of pools
}

// work is what an uplink does at its interface.
type work interface {
	State() uplink.State
	Run(ctx context.Context, report func(uplink.State)) error
	Close() error
	Remove() error
}

// ways are the uplinks at work by id.
type ways struct {
	mu sync.Mutex // never held while a way is opened or removed
	by map[string]*way
}

// kept is what there is of an uplink that was open before.
type kept struct {
	again   bool
	fds     map[string]int // by what they are
	changes uplink.Changes // of the host
}

// openWay opens an uplink with what was kept of it, and follows its interface. It routes by it with the next settleWays; until then frames wait
// in its queue.
func (s *Switch) openWay(u api.Uplink, k kept) error {
	w := &way{Uplink: u, pools: make(map[netip.Addr]*nat.Pool), gone: make(map[netip.Addr]time.Time)}
	p, err := s.work(w, k)
	if err != nil {
		s.claimed.release(u.ID)
		return err
	}
	if w.leg, err = s.plugLeg(legName(u.Name), p, uplinkPortMTU); err != nil {
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
func (s *Switch) work(w *way, k kept) (port.Port, error) {
	u, log := &w.Uplink, s.log.With("uplink", w.Name)
	if u.Mode == api.UplinkDedicated {
		st, err := uplink.OpenStation(uplink.StationConfig{
			ID: u.ID, Interface: u.Interface, Host: s.host, MAC: gatewayMAC(u.ID), Addrs: addrsOf(u.IPs),
			Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimed.claim(u.ID), Logger: log, Again: k.again,
		}, k.fds, k.changes)
		if err != nil {
			return nil, err
		}
		w.work = st
		return st.Port(), nil
	}
	sh, err := uplink.Open(uplink.Config{
		ID: u.ID, Interface: u.Interface, Host: s.host, FirstPort: u.NATPorts.First, LastPort: u.NATPorts.Last, TxQueueLen: s.cfg.TxQueueLen,
		Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimed.claim(u.ID), Logger: log, Again: k.again,
	}, k.fds, k.changes)
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
	if usable(&was) != usable(&st) || was.Problem != st.Problem || was.Elsewhere6 != st.Elsewhere6 {
		d := s.describeUplink(&w.Uplink)
		s.log.Info("uplink is "+d.Status.State, "uplink", w.Name, "interface", st.Name, "problem", d.Status.Problem)
		s.events.Publish("uplink."+d.Status.State, w.Name, d.Status.Problem)
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
	if err := s.openWay(dead.Uplink, kept{again: true}); err != nil {
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
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	for _, other := range s.ways.by {
		if other.share == nil {
			continue
		}
		if err := other.share.Reserve(); err != nil {
			s.log.Error("reserve the ports of an uplink", "uplink", other.Name, "err", err)
		}
	}
}

// restWays ends to follow the interfaces of uplinks: what is stored of them stays as it is.
func (s *Switch) restWays() {
	for _, w := range s.ways.by {
		if w.work != nil {
			w.end()
		}
	}
}

// closeWays lets go of all uplinks, and leaves their interfaces shared for the next daemon. The data plane has ended, and they are at rest.
func (s *Switch) closeWays() (errs []error) {
	for _, w := range s.ways.by {
		if w.work != nil {
			errs = append(errs, w.work.Close())
		}
	}
	return errs
}

// leadBy tells whether an uplink of the router is at the interface. Callers hold mu.
func (w *ways) leadBy(ifname, router string) bool {
	for _, x := range w.by {
		if x.Router == router && x.work != nil && x.state.Name == ifname {
			return true
		}
	}
	return false
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
		if st.Problem == "" && st.Elsewhere6 != "" && !s.ways.leadBy(st.Elsewhere6, w.Router) {
			out.Status.Problem = "IPv6 has no way out by " + st.Name + ", the host's leads by " + st.Elsewhere6 +
				": 'vsctl add-uplink " + st.Elsewhere6 + "' adds it"
		}
	case st.Problem != "":
	case st.Index != 0 && !st.Up:
		out.Status.Problem = "interface " + st.Name + " is down"
	case st.Index != 0 && !st.Carrier:
		out.Status.Problem = "interface " + st.Name + " has no carrier"
	}
	return out
}
