package uplink

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/packet"
	"vswitch/internal/port"
	"vswitch/internal/port/veth"
)

// AttachedPacket is State.Attached of a Station.
const AttachedPacket = "packet"

// StationConfig says where a station is to be, and which one.
type StationConfig struct {
	ID        string          // names the stored fd; it outlives restarts
	Interface string          // a name
	Host      *link.Namespace // where the interface is; stays the caller's, and open until Close or Remove

	MAC   [6]byte      // the station's
	Addrs []netip.Addr // by which it is looked for: whoever reads the Port answers

	Again  bool                  // as in Config
	Store  Store                 // of fds
	Record func(Changes) error   // writes down what of the host is changed, before it is; nil and it is forgotten
	Claim  func(index int) error // as in Config
	Logger *slog.Logger          // nil discards

	lro string // as in Config
}

// A Station is a host of the switch's own on the segment of an interface of the host, with a MAC and addresses that the host has no part in:
//
//	            the host's stack
//	                  |
//	segment -------- up0 ---- to the station's MAC, ARP, ICMPv6 to groups: copied ----> the switch reads
//	                  ^
//	                  +---- the queueing discipline <---------------------------------- the switch writes
//
// A packet socket reads and writes frames, with super-frames whole. The host's stack ignores frames for another MAC than its own
// (PACKET_OTHERHOST), so it is not kept from anything. Host and station do not reach each other: the interface doesn't give back what it
// sends. Its methods are safe for concurrent use.
type Station struct {
	cfg    StationConfig
	log    *slog.Logger
	fd     int // of port
	port   *veth.Veth
	gate   *bpf.Gate // before it
	macs   [][6]byte // what the interface receives for it
	follow *link.Follower

	mu      sync.Mutex
	changer       // guarded by mu
	state   State // guarded by mu
	index   int   // of the interface that the socket is at; 0: none. Guarded by mu
}

// OpenStation puts a station on an interface's segment. held and changes are as in Open.
//
// An api.Error says why it can't be there. The interface has to exist unless something is held, or it is opened Again.
// After an error nothing is left of what OpenStation did, nor of held.
func OpenStation(cfg StationConfig, held map[string]int, changes Changes) (s *Station, err error) {
	s = &Station{cfg: cfg, log: cfg.Logger, fd: -1, changer: changer{cfg.Host, cfg.Record, cmp.Or(cfg.lro, link.LRO), changes}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.macs = groups(cfg.MAC, cfg.Addrs)
	fresh := len(held) == 0 && !cfg.Again
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Remove())
			s = nil
		}
	}()
	s.adopt(held)
	if fresh {
		if err = usable(cfg.Host, cfg.Interface); err != nil {
			return s, err
		}
	}
	if s.follow, err = link.Follow(cfg.Host); err != nil { // before the first look, so that nothing is missed
		return s, err
	}
	if s.fd < 0 {
		if s.fd, err = link.OpenSegment(cfg.Host); err != nil {
			return s, err
		}
	}
	if err = s.filter(); err != nil {
		return s, err
	}
	if s.port, err = veth.New(cfg.ID, s.fd); err != nil {
		return s, err
	}
	if cfg.Store != nil {
		if err = cfg.Store.PutAll(map[string]int{FDName(cfg.ID, fdFrames): s.fd}); err != nil {
			return s, err
		}
	}
	if _, err = s.look(); err != nil && !fresh {
		s.log.Warn("go on with an uplink", "uplink", cfg.ID, "err", err)
		err = nil
	}
	return s, err
}

// adopt goes on with the socket of an earlier process.
func (s *Station) adopt(held map[string]int) {
	if fd, ok := held[fdFrames]; ok {
		index, err := link.Joined(fd)
		if err != nil {
			s.log.Warn("open the packet socket anew", "err", err)
		} else {
			delete(held, fdFrames)
			s.fd, s.index = fd, index
		}
	}
	closeAll(held)
}

// filter keeps the host's own frames out of the socket, and floods of SYNs.
func (s *Station) filter() (err error) {
	if s.gate, err = bpf.NewGate(); err != nil {
		return err
	}
	p, err := bpf.LoadSegment(s.cfg.MAC, s.gate)
	if err != nil {
		return err
	}
	defer p.Close()
	return link.Filter(s.fd, p)
}

// groups returns the MACs to be received beside ARP: the station's own, and those of the multicast groups by which Neighbor Discovery asks for
// its addresses (RFC 4291 2.7.1, RFC 2464 7).
func groups(mac [6]byte, addrs []netip.Addr) [][6]byte {
	macs := [][6]byte{mac, {0x33, 0x33, 0, 0, 0, 1}, {0x33, 0x33, 0xff, mac[3], mac[4], mac[5]}} // all nodes; its link-local address
	for _, a := range addrs {
		if a.Is6() {
			b := a.As16()
			macs = append(macs, [6]byte{0x33, 0x33, 0xff, b[13], b[14], b[15]})
		}
	}
	return macs
}

// Port is the switch's port, on which it is the station: it answers for its addresses, and asks for those of others. It is unplugged before
// Close or Remove, which close it.
func (s *Station) Port() port.Port { return stationPort{s.port, s.gate} }

// State returns what the last look found. It has no addresses: the station's are not the interface's.
func (s *Station) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run follows the interface as Uplink.Run does.
func (s *Station) Run(ctx context.Context, report func(State)) error {
	return run(ctx, s.follow, s.look, func() { report(s.State()) }, s.log.With("uplink", s.cfg.ID))
}

// look puts the station where the interface is now.
func (s *Station) look() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.findLocked()
	if err == nil && now.Index != 0 {
		if now.Index != s.index {
			err = s.moveLocked(now.State)
		}
		if err == nil {
			err = s.rename(now.Name)
		}
	} else if err == nil {
		s.index = 0
	}
	switch {
	case vanished(s.cfg.Host, now.Index, err):
		now, err = State{Problem: wentAway}, nil
		s.index = 0
	case err != nil:
		was := s.state
		was.Problem = err.Error()
		now = was
	}
	now.Attached = ""
	if s.index != 0 {
		now.Attached = AttachedPacket
	}
	s.port.SetCarrier(s.index != 0 && now.Up && now.Carrier)
	changed = !reflect.DeepEqual(s.state, now)
	s.state = now
	return changed, err
}

// findLocked finds the interface; Index is 0 when it is gone, or can't have a station.
func (s *Station) findLocked() (State, error) {
	var found link.State
	err := error(api.Errorf(api.CodeNotFound, "never seen"))
	if s.index != 0 {
		found, err = link.LookupIndex(s.cfg.Host, s.index)
	}
	if api.HasCode(err, api.CodeNotFound) {
		found, err = link.Lookup(s.cfg.Host, s.cfg.Interface)
	}
	switch {
	case api.HasCode(err, api.CodeNotFound):
		return State{Problem: "interface " + s.cfg.Interface + " is gone; the uplink waits for it to return"}, nil
	case err != nil:
		return State{}, err
	}
	return checked(s.cfg.Host, found, s.cfg.Claim)
}

// moveLocked takes the station from the interface where it is to another one.
func (s *Station) moveLocked(to link.State) error {
	if s.index != 0 {
		if err := link.Leave(s.fd, s.index, s.macs); err != nil {
			return err
		}
	}
	s.index = 0
	if err := s.move(to.Name); err != nil {
		return err
	}
	if err := link.Join(s.fd, to.Index, s.macs); err != nil {
		return err
	}
	s.index = to.Index
	return nil
}

// Close lets go and leaves the station's queue to the fd store, for another process to go on. Run has returned before.
func (s *Station) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *Station) closeLocked() error {
	var errs []error
	if s.follow != nil {
		errs = append(errs, s.follow.Close())
		s.follow = nil
	}
	switch {
	case s.port != nil:
		errs = append(errs, s.port.Close())
	case s.fd >= 0:
		errs = append(errs, unix.Close(s.fd))
	}
	s.fd = -1
	if s.gate != nil {
		errs = append(errs, s.gate.Close())
	}
	return errors.Join(errs...)
}

// Remove takes the station from the segment: nothing is left of it, nor of what it changed. Run has returned before. It goes on after
// errors.
func (s *Station) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.cfg.Store != nil {
		errs = append(errs, s.cfg.Store.Delete(FDName(s.cfg.ID, fdFrames)))
	}
	errs = append(errs, s.closeLocked(), s.undoInterface())
	return errors.Join(errs...)
}

// stationPort is a port that outlives its interface, since the socket is bound to the next one, and has a gate before it.
type stationPort struct {
	*veth.Veth
	gate *bpf.Gate
}

var (
	_ port.Throttle = stationPort{}
	_ port.Counters = stationPort{}
)

// Served implements port.Throttle.
func (p stationPort) Served(drained bool) { p.gate.Served(drained) }

// KernelDrops implements port.Counters: what the gate refused did not get into the socket's buffer either.
func (p stationPort) KernelDrops() (rx, counted uint64, err error) {
	rx, counted, err = p.Veth.KernelDrops()
	return rx + p.gate.Refused(), counted, err
}

func (p stationPort) Read(f *packet.Frame) error  { return stays(p.Veth.Read(f)) }
func (p stationPort) Write(f *packet.Frame) error { return stays(p.Veth.Write(f)) }

func stays(err error) error {
	if errors.Is(err, port.ErrGone) {
		return port.ErrDown
	}
	return err
}
