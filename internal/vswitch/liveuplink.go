package vswitch

import (
	"cmp"
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

// liveUplink is an uplink at work. It changes with liveUplinks.mu held.
type liveUplink struct {
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

// liveUplinks are the uplinks at work by id.
type liveUplinks struct {
	mu sync.Mutex // never held while one is opened or removed
	by map[string]*liveUplink
}

// kept is what there is of an uplink that was open before.
type kept struct {
	again   bool
	fds     map[string]int // by what they are
	changes uplink.Changes // of the host
}

// openUplink opens an uplink with what was kept of it, and follows its interface. It routes by it with the next settleUplinks; until then frames wait
// in its queue.
func (s *Switch) openUplink(u api.Uplink, k kept) error {
	live := &liveUplink{Uplink: u, pools: make(map[netip.Addr]*nat.Pool), gone: make(map[netip.Addr]time.Time)}
	p, err := s.work(live, k)
	if err != nil {
		s.claimed.release(u.ID)
		return err
	}
	if live.leg, err = s.plugLeg(legName(u.Name), p, uplinkPortMTU); err != nil {
		s.giveBackUplink(live)
		return err
	}
	live.state = live.work.State()
	s.putUplink(live)
	s.followUplink(live)
	return nil
}

// legName is what users see of an uplink's leg in traces and counters.
func legName(uplink string) string { return "uplink:" + uplink }

// work begins the uplink's work at its interface and returns its port.
func (s *Switch) work(live *liveUplink, k kept) (port.Port, error) {
	u, log := &live.Uplink, s.log.With("uplink", live.Name)
	if u.Mode == api.UplinkDedicated {
		st, err := uplink.OpenStation(uplink.StationConfig{
			ID: u.ID, Interface: u.Interface, Host: s.host, MAC: gatewayMAC(u.ID), Addrs: addrsOf(u.IPs),
			Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimInterface(u.ID), Logger: log, Again: k.again,
		}, k.fds, k.changes)
		if err != nil {
			return nil, err
		}
		live.work = st
		return st.Port(), nil
	}
	sh, err := uplink.Open(uplink.Config{
		ID: u.ID, Interface: u.Interface, Host: s.host, FirstPort: u.NATPorts.First, LastPort: u.NATPorts.Last, TxQueueLen: s.cfg.TxQueueLen,
		Store: s.fds, Record: s.hostChanges(u.ID), Claim: s.claimInterface(u.ID), Logger: log, Again: k.again,
	}, k.fds, k.changes)
	if err != nil {
		return nil, err
	}
	live.work, live.share = sh, sh
	return sh.Port(), nil
}

func addrsOf(prefixes []netip.Prefix) (addrs []netip.Addr) {
	for _, p := range prefixes {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

func (s *Switch) putUplink(live *liveUplink) {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	s.liveUplinks.by[live.ID] = live
}

// followUplink begins to follow the interface.
func (s *Switch) followUplink(live *liveUplink) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := live.work.Run(ctx, func(st uplink.State) { s.reported(live, st) }); err != nil {
			s.log.Error("follow the interface of an uplink", "uplink", live.Name, "err", err)
		}
	}()
	live.end = func() { cancel(); <-done }
}

// reported takes note of an interface's new state. Who is shown it finds that the routers heed it.
func (s *Switch) reported(live *liveUplink, st uplink.State) {
	s.liveUplinks.mu.Lock()
	was := live.state
	live.state = st
	s.settleUplinksLocked()
	s.liveUplinks.mu.Unlock()
	if usable(&was) != usable(&st) || usable(&st) && was.Index != st.Index || was.Problem != st.Problem || was.Elsewhere6 != st.Elsewhere6 {
		d := s.describeUplink(&live.Uplink)
		s.log.Info("uplink is "+d.Status.State, "uplink", live.Name, "interface", st.Name, "problem", d.Status.Problem)
		s.events.Publish("uplink."+d.Status.State, live.Name, cmp.Or(d.Status.Problem, "interface "+st.Name))
	}
}

// removeUplink gives the interface back to the host. It can't fail: what could not be undone is logged, and tried again by the next start.
func (s *Switch) removeUplink(id string) {
	s.liveUplinks.mu.Lock()
	live := s.liveUplinks.by[id]
	delete(s.liveUplinks.by, id)
	s.liveUplinks.mu.Unlock()
	if live == nil {
		return
	}
	if live.work == nil {
		s.undoHostChanges(id)
		return
	}
	live.end()
	s.routeBy(live.leg.name, live.Router, nil)
	s.settleUplinks()
	s.unplugLeg(live.leg)
	for _, p := range live.pools {
		s.conns.RemovePool(p)
	}
	s.giveBackUplink(live)
}

// remakeUplink shares an interface anew whose port died: somebody removed its device. Callers hold verb.
func (s *Switch) remakeUplink(id packet.PortID) {
	s.liveUplinks.mu.Lock()
	var dead *liveUplink
	for _, live := range s.liveUplinks.by {
		if live.leg != nil && live.leg.id == id {
			dead = live
		}
	}
	s.liveUplinks.mu.Unlock()
	if dead == nil {
		return
	}
	s.log.Info("the device of an uplink is gone; it is made anew", "uplink", dead.Name)
	s.removeUplink(dead.ID)
	if err := s.openUplink(dead.Uplink, kept{again: true}); err != nil {
		s.log.Error("share an uplink's interface", "uplink", dead.Name, "err", err)
		s.events.Publish("uplink.down", dead.Name, err.Error())
		s.putUplink(&liveUplink{Uplink: dead.Uplink, err: err.Error()})
	}
	s.settleUplinks()
}

func (s *Switch) giveBackUplink(live *liveUplink) {
	if err := live.work.Remove(); err != nil {
		s.log.Error("give an interface back to the host; the next start will finish it", "uplink", live.Name, "err", err)
	}
	s.claimed.release(live.ID)
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	for _, other := range s.liveUplinks.by {
		if other.share == nil {
			continue
		}
		if err := other.share.Reserve(); err != nil {
			s.log.Error("reserve the ports of an uplink", "uplink", other.Name, "err", err)
		}
	}
}

// restUplinks ends to follow the interfaces of uplinks: what is stored of them stays as it is.
func (s *Switch) restUplinks() {
	for _, live := range s.liveUplinks.by {
		if live.work != nil {
			live.end()
		}
	}
}

// closeUplinks lets go of all uplinks, and leaves their interfaces shared for the next daemon. The data plane has ended, and they are at rest.
func (s *Switch) closeUplinks() (errs []error) {
	for _, live := range s.liveUplinks.by {
		if live.work != nil {
			errs = append(errs, live.work.Close())
		}
	}
	return errs
}

// leadBy tells whether an uplink of the router is at the interface. Callers hold mu.
func (all *liveUplinks) leadBy(ifname, router string) bool {
	for _, live := range all.by {
		if live.Router == router && live.work != nil && live.state.Name == ifname {
			return true
		}
	}
	return false
}

// describeUplink adds to an intent what there is of it.
func (s *Switch) describeUplink(u *api.Uplink) api.Uplink {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	out := *u
	out.Status = api.UplinkStatus{State: api.UplinkDown}
	live := s.liveUplinks.by[u.ID]
	switch {
	case live == nil: // after a dry run
		return out
	case live.work == nil:
		out.Status.Problem = live.err
		return out
	}
	st := &live.state
	out.Status.Interface, out.Status.MTU, out.Status.Attached, out.Status.Problem = st.Name, st.MTU, st.Attached, st.Problem
	if live.share != nil {
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
		if st.Problem == "" && st.Elsewhere6 != "" && !s.liveUplinks.leadBy(st.Elsewhere6, live.Router) {
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
