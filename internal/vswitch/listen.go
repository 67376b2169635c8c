package vswitch

import (
	"errors"
	"net/netip"
	"sync"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/packet"
	"vswitch/internal/relay"
	"vswitch/nat"
)

// maxListeners is how many single published ports of a family have listeners in the host.
const maxListeners = 1024

// listeners are how programs of the host reach published ports at its own addresses.
type listeners struct {
	relay *relay.Relay

	mu      sync.Mutex
	open    map[relay.Place]*relay.Listener // guarded by mu, like the rest
	missing map[relay.Place]absent          // that could not be opened
}

// absent is a listener that could not be opened.
type absent struct {
	target relay.Target
	why    string
}

// spot is a place where to listen, and for what.
type spot struct {
	relay.Place
	relay.Target
}

// spots returns where the host listens for the publications: single ports on router main, TCP and UDP, at addresses that are not the router's.
func (s *Switch) spots(list []*nat.Publication) (all []spot) {
	if s.hostPort.Port == nil || len(list) == 0 {
		return nil
	}
	main := s.router(api.MainRouter).Snapshot()
	zone := s.zone(api.MainRouter)
	for _, q := range list {
		if q.Zone != zone || q.Low != q.High || q.Proto == packet.ProtoSCTP || q.Addr.IsValid() && main.Own(q.Addr) != nil {
			continue
		}
		for _, to := range q.To {
			at := q.Addr
			switch {
			case at.IsValid() && at.Is4() != to.Is4():
				continue
			case !at.IsValid() && to.Is4():
				at = netip.IPv4Unspecified()
			case !at.IsValid():
				at = netip.IPv6Unspecified()
			}
			all = append(all, spot{relay.Place{Proto: api.ProtocolName(q.Proto), Addr: at, Port: q.Low},
				relay.Target{To: netip.AddrPortFrom(to, q.ToPort), From: q.From}})
		}
	}
	return all
}

// listen opens the listeners of publications to come that are not open yet, and returns how to undo that.
func (s *Switch) listen(come []*nat.Publication) (undo func(), err error) {
	var opened []relay.Place
	undo = func() { s.listeners.close(opened) }
	for _, x := range s.spots(come) {
		done, err := s.openListener(x)
		if err != nil {
			undo()
			return nil, err
		}
		if done {
			opened = append(opened, x.Place)
		}
	}
	return undo, nil
}

// openListener opens one, unless it is open or there are too many.
func (s *Switch) openListener(x spot) (opened bool, err error) {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[x.Place] != nil || len(l.open) >= 2*maxListeners {
		return false, nil
	}
	var in *relay.Listener
	err = s.host.Do(func() (err error) {
		in, err = l.relay.Listen(x.Place, x.Target)
		return err
	})
	if errors.Is(err, relay.ErrTaken) {
		return false, api.Errorf(api.CodeConflict, "a program of the host has %v: 'ss -tulnp sport = :%d' says which; stop it, publish another port, or start vswitchd with --host-port=off",
			x.Place, x.Port)
	}
	if err != nil {
		return false, err
	}
	l.open[x.Place] = in
	delete(l.missing, x.Place)
	return true, nil
}

// relisten lets the host's listeners be those of what is published now.
func (s *Switch) relisten(gone, come []*nat.Publication) {
	l := &s.listeners
	stays := make(map[relay.Place]bool)
	for _, x := range s.spots(come) {
		stays[x.Place] = true
		l.mu.Lock()
		in := l.open[x.Place]
		l.mu.Unlock()
		if in != nil {
			in.Retarget(x.Target)
			continue
		}
		if _, err := s.openListener(x); err != nil {
			s.lacks(x, err)
		}
	}
	var goes []relay.Place
	for _, x := range s.spots(gone) {
		if !stays[x.Place] {
			goes = append(goes, x.Place)
		}
	}
	l.close(goes)
}

// lacks notes that a listener can't be opened, and tells of it once.
func (s *Switch) lacks(x spot, err error) {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.missing[x.Place].why != err.Error() {
		s.log.Warn("programs of the host don't reach a published port", "err", err)
		s.events.Publish("publish.error", x.String(), err.Error())
	}
	l.missing[x.Place] = absent{x.Target, err.Error()}
}

// listenAgain tries to open what is missing.
func (s *Switch) listenAgain() {
	l := &s.listeners
	l.mu.Lock()
	var list []spot
	for place, m := range l.missing {
		list = append(list, spot{place, m.target})
	}
	l.mu.Unlock()
	if len(list) == 0 || !s.verb.TryLock() { // a verb may be about to take one of them back
		return
	}
	defer s.verb.Unlock()
	for _, x := range list {
		if opened, _ := s.openListener(x); opened {
			s.log.Info("programs of the host reach a published port", "port", x.String())
		}
	}
}

// disown takes the listeners' ports out of a set of those that sockets of the host hold.
func (l *listeners) disown(proto uint8, held *bpf.PortSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.open {
		if p.Proto == api.ProtocolName(proto) && !p.Addr.IsLoopback() {
			held.Remove(p.Port)
		}
	}
}

// close closes listeners.
func (l *listeners) close(places []relay.Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range places {
		delete(l.missing, p)
		if in := l.open[p]; in != nil {
			_ = in.Close() // of sockets nobody else knows
			delete(l.open, p)
		}
	}
}

// closeAll closes all, and waits until nothing is relayed.
func (l *listeners) closeAll() {
	l.mu.Lock()
	all := make([]relay.Place, 0, len(l.open))
	for p := range l.open {
		all = append(all, p)
	}
	l.mu.Unlock()
	l.close(all)
	l.relay.Wait()
}

// Ways by which programs of the host reach a published port at the host's own addresses.
const (
	byListener = "listener"
	byNothing  = ""
)

// byHost tells how programs of the host reach something that is published, or why they don't.
func (s *Switch) byHost(list []*nat.Publication) (how, why string) {
	l := &s.listeners
	spots := s.spots(list)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range spots {
		if m, ok := l.missing[x.Place]; ok {
			return byNothing, m.why
		}
		if l.open[x.Place] == nil {
			return byNothing, ""
		}
		how = byListener
	}
	return how, ""
}
