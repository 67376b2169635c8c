package vswitch

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/relay"
	"vswitch/nat"
)

// maxListeners is how many single published ports of a family have listeners in the host. What is beyond, and ranges, are looked up.
const maxListeners = 1024

// listeners are how programs of the host reach published ports at its own addresses.
type listeners struct {
	relay *relay.Relay

	mu      sync.Mutex
	open    map[spot]*relay.Listener // nil: the spot is looked up. Guarded by mu, like the rest
	singles int                      // of those that are not
	lookup  *relay.Lookup            // nil: none was needed yet
	missing map[spot]string          // why they could not be opened
}

// spot is where to listen: a port, or a range of them.
type spot struct {
	relay.Place
	last uint16
}

// String is as in "0.0.0.0:80-89/tcp".
func (x spot) String() string {
	if x.last == x.Port {
		return x.Place.String()
	}
	return fmt.Sprintf("%v-%d/%s", netip.AddrPortFrom(x.Addr, x.Port), x.last, x.Proto)
}

func (l *listeners) init(s *Switch) {
	l.relay = relay.New(relay.Config{Find: s.findPublished, Logger: s.log, Enter: func(f func() error) error { return s.host.Do(f) }})
	l.open, l.missing = make(map[spot]*relay.Listener), make(map[spot]string)
}

// findPublished returns where a connection of a program of the host goes.
func (s *Switch) findPublished(proto string, at netip.AddrPort, client netip.Addr) (to netip.AddrPort, ok bool) {
	endpoint, q, drop := s.heard.Lookup(nat.NewTuple(s.zone(api.MainRouter), protocols[proto], netip.AddrPortFrom(client, 0), at))
	return endpoint.AddrPort(at.Addr().Is6()), q != nil && drop == packet.DropNone
}

// spots returns where the host listens for the publications: those of TCP and UDP on router main, at addresses that are not the router's.
func (s *Switch) spots(list []*nat.Publication) (all []spot) {
	if s.hostPort.Port == nil || len(list) == 0 {
		return nil
	}
	main := s.router(api.MainRouter).Snapshot()
	zone := s.zone(api.MainRouter)
	for _, q := range list {
		if q.Zone != zone || q.Proto == packet.ProtoSCTP || q.Addr.IsValid() && main.Own(q.Addr) != nil {
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
			all = append(all, spot{relay.Place{Proto: api.ProtocolName(q.Proto), Addr: at, Port: q.Low}, q.High})
		}
	}
	return all
}

// listen opens the listeners of publications to come that are not open yet, and returns how to undo that.
func (s *Switch) listen(come []*nat.Publication) (undo func(), err error) {
	opened, err := s.openSpots(s.spots(come), func(_ spot, err error) error { return err })
	undo = func() { s.listeners.close(opened) }
	if err != nil {
		undo()
	}
	return undo, err
}

// openSpots listens at spots where that is not done, and returns where it was not. It ends with the first error that bad does not swallow.
func (s *Switch) openSpots(list []spot, bad func(spot, error) error) (opened []spot, err error) {
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	bound := make(map[string]*bpf.PortSet)
	for _, x := range list {
		if _, ok := l.open[x]; ok {
			continue
		}
		in, err := s.openSpot(x, bound)
		if err != nil {
			if err := bad(x, err); err != nil {
				return opened, err
			}
			continue
		}
		if l.open[x] = in; in != nil {
			l.singles++
		}
		delete(l.missing, x)
		opened = append(opened, x)
	}
	if l.lookup != nil {
		err = l.lookup.Flush()
	}
	return opened, err
}

// openSpot listens at a spot by a listener, or by none: then it is looked up. bound are the ports of the host's sockets by protocol, as far as
// somebody asked. Callers hold listeners.mu.
func (s *Switch) openSpot(x spot, bound map[string]*bpf.PortSet) (in *relay.Listener, err error) {
	l := &s.listeners
	if x.last == x.Port && l.singles < 2*maxListeners {
		if in, err = l.relay.Listen(x.Place); errors.Is(err, relay.ErrTaken) {
			err = takenByProgram(x, x.Port)
		}
		return in, err
	}
	held := bound[x.Proto]
	if held == nil {
		ports, err := link.BoundPorts(s.host, protocols[x.Proto])
		if err != nil {
			return nil, err
		}
		held = &ports
		l.without(protocols[x.Proto], held, func(spot) bool { return true })
		bound[x.Proto] = held
	}
	for p := int(x.Port); p <= int(x.last); p++ {
		if held.Has(uint16(p)) {
			return nil, takenByProgram(x, uint16(p))
		}
	}
	if l.lookup == nil {
		if l.lookup, err = l.relay.OpenLookup(s.host.FD()); err != nil {
			return nil, api.Errorf(api.CodeUnsupported, "programs of the host can't reach %v: %v; publish single ports, or start vswitchd with --host-port=off", x, err)
		}
	}
	return nil, l.lookup.Set(x.Place, x.last, true)
}

func takenByProgram(x spot, port uint16) error {
	what := x.String()
	if x.last != x.Port {
		what = fmt.Sprintf("port %d of %s", port, what)
	}
	return api.Errorf(api.CodeConflict, "a program of the host has %s: 'ss -tulnp sport = :%d' says which; stop it, publish another port, or start vswitchd with --host-port=off",
		what, port)
}

// relisten lets the host's listeners be those of what is published now.
func (s *Switch) relisten(gone, come []*nat.Publication) {
	comes := s.spots(come)
	stays := make(map[spot]bool)
	for _, x := range comes {
		stays[x] = true
	}
	var goes []spot
	for _, x := range s.spots(gone) {
		if !stays[x] {
			goes = append(goes, x)
		}
	}
	s.listeners.close(goes)
	_, _ = s.openSpots(comes, s.lacks)
	if len(gone) > 0 {
		s.listeners.relay.Review()
	}
}

// lacks notes that a spot can't be listened at, and tells of it once. Callers hold listeners.mu.
func (s *Switch) lacks(x spot, err error) error {
	l := &s.listeners
	if l.missing[x] != err.Error() {
		s.log.Warn("programs of the host don't reach a published port", "err", err)
		s.events.Publish("publish.error", x.String(), err.Error())
	}
	l.missing[x] = err.Error()
	return nil
}

// listenAgain tries to open what is missing.
func (s *Switch) listenAgain() {
	l := &s.listeners
	l.mu.Lock()
	var list []spot
	for x := range l.missing {
		list = append(list, x)
	}
	l.mu.Unlock()
	if len(list) == 0 || !s.verb.TryLock() { // a verb may be about to take one of them back
		return
	}
	defer s.verb.Unlock()
	opened, _ := s.openSpots(list, s.lacks)
	for _, x := range opened {
		s.log.Info("programs of the host reach a published port", "port", x.String())
	}
}

// disown takes the listeners' ports, which are not on loopback alone, out of a set of those that sockets of the host hold.
func (l *listeners) disown(proto uint8, held *bpf.PortSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.without(proto, held, func(x spot) bool { return !x.Addr.IsLoopback() })
}

// without takes ports of the listeners that count out of a set. Callers hold mu.
func (l *listeners) without(proto uint8, held *bpf.PortSet, counts func(spot) bool) {
	for x := range l.open {
		for p := int(x.Port); p <= int(x.last) && protocols[x.Proto] == proto && counts(x); p++ {
			held.Remove(uint16(p))
		}
	}
}

// close ends to listen at spots.
func (l *listeners) close(spots []spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range spots {
		delete(l.missing, x)
		in, ok := l.open[x]
		delete(l.open, x)
		switch {
		case in != nil:
			l.singles--
			_ = in.Close() // of sockets nobody else knows
		case ok:
			_ = l.lookup.Set(x.Place, x.last, false)
		}
	}
	if l.lookup != nil {
		_ = l.lookup.Flush() // the maps are there
	}
}

// closeAll ends all of it, and waits until nothing is relayed.
func (l *listeners) closeAll() {
	l.mu.Lock()
	var all []spot
	for x := range l.open {
		all = append(all, x)
	}
	l.mu.Unlock()
	l.close(all)
	if l.lookup != nil {
		_ = l.lookup.Close()
	}
	l.relay.Wait()
}

// byHost tells how programs of the host reach something that is published, or why they don't.
func (s *Switch) byHost(list []*nat.Publication) (how, why string) {
	l := &s.listeners
	spots := s.spots(list)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range spots {
		in, ok := l.open[x]
		switch {
		case !ok:
			return "", l.missing[x]
		case in == nil:
			how = api.HostLookup
		default:
			how = api.HostListener
		}
	}
	return how, ""
}
