package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/port/tap"
)

// The ports that a shared uplink takes for connections of the switch's own making, unless it is told otherwise: Linux gives none of
// them to connections of the host (net.ipv4.ip_local_port_range ends at 60999).
const (
	DefaultFirstPort = 61000
	DefaultLastPort  = 65535
)

// tapMTU is what the TAP lets through in bytes: any frame that the interface may have, with the tag that it doesn't have.
const tapMTU = 65517

// Config says what to share and how.
type Config struct {
	ID        string          // names the TAP and the stored fds; it outlives restarts
	Interface string          // a name, or api.AutoUplink
	Host      *link.Namespace // where the interface is; stays the caller's, and open until Close or Remove

	FirstPort, LastPort uint16 // for the switch's own connections; 0 and 0: the default
	TxQueueLen          int    // of the TAP, in frames; 0: link.DefaultTxQueueLen

	Again  bool                  // it was opened before: its interface is waited for, also when nothing is held
	Store  Store                 // of fds
	Record func(Changes) error   // writes down what of the host is changed, before it is; nil and it is forgotten
	Claim  func(index int) error // says of an interface, before it is shared, whether it may be; 0: it is none's any more. nil: any may
	Logger *slog.Logger          // nil discards

	classifierOnly bool   // as on kernels without tcx
	lro            string // the feature that is switched off; "": link.LRO
}

// Store is the part of an fd store that an uplink needs; see fdstore.Store.
type Store interface {
	PutAll(fds map[string]int) error
	Delete(names ...string) error
}

// An Uplink is a shared interface at work. Its methods are safe for concurrent use.
type Uplink struct {
	cfg    Config
	log    *slog.Logger
	steer  *bpf.Steering
	port   *tap.Tap
	tap    link.TAP
	follow *link.Follower
	own    map[bpf.Table]*bpf.PortSet // of FirstPort to LastPort those that no socket of the host had

	mu      sync.Mutex
	changer              // guarded by mu
	in, out link.Ingress // on the interface and on the TAP; with Index 0: none. Guarded by mu
	loaded  bool         // guarded by mu; in and out run programs of this process
	detour  bpf.Detour   // guarded by mu; of out
	state   State        // guarded by mu
}

// transports are the tables of ports, and their protocols.
var transports = []struct {
	table    bpf.Table
	protocol uint8
}{{bpf.TCP, unix.IPPROTO_TCP}, {bpf.UDP, unix.IPPROTO_UDP}, {bpf.SCTP, unix.IPPROTO_SCTP}}

// Open shares an interface. held are the fds that an earlier process stored under FDName of this ID, by what they are, and changes
// what it recorded; with them it goes on where that one stopped, without a gap. held belongs to the Uplink from then on, even when
// it fails.
//
// An api.Error says why the interface can't be shared. It has to exist, except for api.AutoUplink, unless something is held or it is opened Again: then it
// is waited for, as State's Problem says. After an error nothing is left of what Open did, nor of held.
func Open(cfg Config, held map[string]int, changes Changes) (u *Uplink, err error) {
	if cfg.FirstPort == 0 && cfg.LastPort == 0 {
		cfg.FirstPort, cfg.LastPort = DefaultFirstPort, DefaultLastPort
	}
	u = &Uplink{cfg: cfg, log: cfg.Logger, changer: changer{cfg.Host, cfg.Record, cmp.Or(cfg.lro, link.LRO), changes}}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	fresh := len(held) == 0 && !cfg.Again
	defer func() {
		if err == nil {
			return
		}
		if undone := u.Remove(); undone != nil {
			err = errors.Join(err, undone)
		}
		u = nil
	}()
	if cfg.FirstPort == 0 || cfg.FirstPort > cfg.LastPort {
		closeAll(held)
		return u, api.Errorf(api.CodeInvalid, "uplink ports %d-%d: give two numbers from 1 to 65535, the smaller first", cfg.FirstPort, cfg.LastPort)
	}
	if u.follow, err = link.Follow(cfg.Host); err != nil { // before the first look, so that nothing is missed
		closeAll(held)
		return u, err
	}
	u.adopt(held)
	if fresh && cfg.Interface != api.AutoUplink {
		if err = usable(cfg.Host, cfg.Interface); err != nil {
			return u, err
		}
	}
	for _, step := range []func() error{u.reserve, u.makeSteering, u.makeTAP, u.takePorts, u.keep} {
		if err = step(); err != nil {
			return u, err
		}
	}
	if _, err = u.look(); err != nil && !fresh { // what the earlier process attached works on
		u.log.Warn("go on with an uplink", "uplink", cfg.ID, "err", err)
		err = nil
	}
	return u, err
}

// usable refuses an interface that isn't there or can't be an uplink, before anything is made.
func usable(host *link.Namespace, name string) error {
	s, err := link.Lookup(host, name)
	if err != nil {
		return err
	}
	return link.CheckShareable(host, s.Index)
}

// makeSteering makes the maps unless they were adopted.
func (u *Uplink) makeSteering() (err error) {
	if u.steer == nil {
		u.steer, err = bpf.NewSteering()
	}
	return err
}

// makeTAP makes the TAP unless it was adopted.
func (u *Uplink) makeTAP() error {
	if u.port != nil {
		u.port.SetGate(u.steer)
		return nil
	}
	var err error
	u.tap, _, err = link.CreateUplinkTAP(u.cfg.Host, link.TAPConfig{
		Name: link.DeviceName(u.cfg.ID), MTU: tapMTU, TxQueueLen: u.cfg.TxQueueLen,
	})
	if err == nil {
		u.port = tap.New(u.cfg.ID, u.tap.FD, u.tap.Offload)
		u.port.SetGate(u.steer)
	}
	return err
}

// takePorts steers the ports and echo identifiers of the switch's own connections. Those that are steered already stay so; of others those that sockets
// of the host hold are left alone.
func (u *Uplink) takePorts() error {
	u.own = make(map[bpf.Table]*bpf.PortSet)
	for _, t := range transports {
		held, err := link.HeldPorts(u.cfg.Host, t.protocol)
		if err != nil {
			return err
		}
		own := new(bpf.PortSet)
		for p := int(u.cfg.FirstPort); p <= int(u.cfg.LastPort); p++ {
			if port := uint16(p); u.steer.Has(t.table, port) || !held.Has(port) {
				own.Add(port)
				u.steer.Set(t.table, port)
			}
		}
		u.own[t.table] = own
	}
	for p := int(u.cfg.FirstPort); p <= int(u.cfg.LastPort); p++ {
		u.steer.Set(bpf.Echo, uint16(p)) // which costs the host nothing: it gets these replies too
	}
	return nil
}

// Port is the switch's port: what it reads came in by the interface and is the switch's, or may be. What it writes leaves by the
// interface, by the host's route to its destination and without regard to the frame's MACs. It is unplugged before Close or Remove,
// which close it.
func (u *Uplink) Port() *tap.Tap { return u.port }

// Ports returns the ports that connections of the switch's own making may use: of the range those that no socket of the host
// held. t is TCP, UDP or SCTP.
func (u *Uplink) Ports(t bpf.Table) bpf.PortSet { return *u.own[t] }

// Publish steers a port to the switch. Whether the host uses it is for the caller to find out; see Held.
func (u *Uplink) Publish(t bpf.Table, port uint16) { u.steer.Set(t, port) }

// Republish makes want what is published of a protocol; what was and is stays steered throughout, and so do Ports. It
// leaves to the host what is published no longer, also by an earlier process.
func (u *Uplink) Republish(t bpf.Table, want bpf.PortSet) {
	for i, w := range u.own[t] {
		want[i] |= w
	}
	u.steer.Replace(t, &want)
}

// Held returns the ports of a protocol that sockets of the host hold now.
func (u *Uplink) Held(t bpf.Table) (bpf.PortSet, error) {
	for _, x := range transports {
		if x.table == t {
			return link.HeldPorts(u.cfg.Host, x.protocol)
		}
	}
	return bpf.PortSet{}, fmt.Errorf("table %d has no sockets", t)
}

// Close lets go and leaves the interface shared as long as the fd store keeps the fds, for another process to go on. Run has returned
// before.
func (u *Uplink) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.closeLocked()
}

func (u *Uplink) closeLocked() error {
	var errs []error
	for _, in := range []*link.Ingress{&u.in, &u.out} {
		if in.Index != 0 && in.FD >= 0 {
			errs = append(errs, unix.Close(in.FD))
		}
		*in = link.Ingress{}
	}
	if u.follow != nil {
		errs = append(errs, u.follow.Close())
		u.follow = nil
	}
	if u.steer != nil {
		errs = append(errs, u.steer.Close())
		u.steer = nil
	}
	if u.port != nil {
		errs = append(errs, u.port.Close())
		u.port = nil // the numbers of its fds may be others' from now on
	}
	return errors.Join(errs...)
}

// Remove gives the interface back: of the uplink nothing is left, nor of what it changed. Run has returned before. It goes on after
// errors.
func (u *Uplink) Remove() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	errs := []error{u.detachLocked()}
	if u.port != nil {
		errs = append(errs, link.DeleteTAP(u.tap.FD)) // now: it would live on with a copy of the fd
	}
	if u.cfg.Store != nil {
		errs = append(errs, u.cfg.Store.Delete(fdNames(u.cfg.ID)...))
	}
	errs = append(errs, u.closeLocked(), u.undo())
	return errors.Join(errs...)
}
