package vswitch

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/port"
	"vswitch/internal/port/tap"
	"vswitch/internal/port/veth"
)

// device is a port's device as the daemon holds it: file descriptors, and for a veth our end in the private namespace.
type device struct {
	kind    string // api.PortTAP, api.PortVeth; "": none, but a socket at an interface of the host's
	id      string // of the port; the names in the fd store derive from it
	fd      int    // TAP or AF_PACKET socket; port closes it
	dropFD  int    // veth: BPF link that keeps the kernel's stack off; -1 when none is held
	index   int    // TAP: of the device where it is placed; veth: of our end
	hostIf  string // veth: our end's name
	drop    string // veth: what keeps the kernel's stack off
	offload port.Offload
	port    port.Port
	plugged bool   // the cable was, when the device was made or taken over
	before  uint64 // frames to the container that the device had dropped when we took it over

	mu     sync.RWMutex // held by looks at the file descriptors, which hold no lock of the Switch
	closed bool         // guarded by mu; the descriptors' numbers may be another's
}

// Names in the fd store: "port.ID.WHAT" for a port's, and one for the private namespace.
const (
	fdPrivate  = "netns"
	fdPrefix   = "port."
	fdFrames   = "frames"
	fdDropLink = "drop"
)

func fdName(id, what string) string { return fdPrefix + id + "." + what }

// splitFDName is fdName's inverse.
func splitFDName(name string) (id, what string, ok bool) {
	rest, ok := strings.CutPrefix(name, fdPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

// placer puts a device's interface where the container finds it.
type placer func(link.PlaceConfig) (st link.State, undo func() error, err error)

// createDevice makes the device of a port in the private namespace (a veth's other end in target) and wraps it. place
// completes it in target, undo removes it again.
func (s *Switch) createDevice(p *api.Port, target *link.Namespace) (d *device, place placer, undo func() error, err error) {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("port %s: %w", p.Name, err)
	}
	name := link.DeviceName(p.ID)
	if p.Type == api.PortVeth {
		v, undo, err := link.CreateVeth(s.private, link.VethConfig{
			Name: name, Target: target, PeerName: p.IfName, MAC: mac, MTU: p.MTU,
		})
		if err != nil {
			return nil, nil, nil, err
		}
		d, err := newVeth(p, v)
		if err != nil {
			return nil, nil, nil, errors.Join(err, undo())
		}
		return d, func(c link.PlaceConfig) (link.State, func() error, error) {
			return v.Place(s.private, target, c)
		}, undo, nil
	}
	t, undo, err := link.CreateTAP(s.private, link.TAPConfig{Name: name, MAC: mac, MTU: p.MTU, TxQueueLen: s.cfg.TxQueueLen})
	if err != nil {
		return nil, nil, nil, err
	}
	return newTAP(p, t), func(c link.PlaceConfig) (link.State, func() error, error) {
		return link.Place(s.private, t.Index, target, c)
	}, undo, nil
}

func newTAP(p *api.Port, t link.TAP) *device {
	return &device{
		kind: api.PortTAP, id: p.ID, fd: t.FD, dropFD: -1, index: t.Index, offload: t.Offload,
		port: tap.New(p.Name, t.FD, t.Offload), plugged: true,
	}
}

func newVeth(p *api.Port, v link.Veth) (*device, error) {
	w, err := veth.New(p.Name, v.FD)
	if err != nil {
		return nil, err
	}
	return &device{
		kind: api.PortVeth, id: p.ID, fd: v.FD, dropFD: v.DropFD, index: v.Index, hostIf: v.Name, drop: v.Drop, offload: w.Offload(), port: w,
	}, nil
}

// keep puts the device's file descriptors into the fd store.
func (s *Switch) keep(d *device) error {
	fds := map[string]int{fdName(d.id, fdFrames): d.fd}
	if d.dropFD >= 0 {
		fds[fdName(d.id, fdDropLink)] = d.dropFD
	}
	if err := s.fds.PutAll(fds); err != nil {
		return fmt.Errorf("keep the device of the port open: %w", err)
	}
	return nil
}

// keeperReplaced tells of a keeper that went away.
func (s *Switch) keeperReplaced(err error) {
	if err != nil {
		s.events.Publish("keeper.lost", "", fmt.Sprintf("the keeper went away and can't be replaced: the next start would have to find devices again: %v", err))
		return
	}
	s.events.Publish("keeper.replaced", "", "the keeper went away; a new one has all file descriptors")
}

// lookCarrier tells a veth whether its other end takes frames. What news of it said may be old by the time they are heard, so
// it is the present state that counts. The look also lets an end go to work whose other end has just come up, see
// link.SetVethCarrier.
func (s *Switch) lookCarrier(d *device) {
	v, ok := d.port.(*veth.Veth)
	if !ok {
		return // a TAP's writes tell
	}
	if st, err := link.LookupIndex(s.private, d.index); err == nil {
		v.SetCarrier(st.Carrier)
	}
}

// forget takes the device's file descriptors out of the fd store. They must still be open.
func (s *Switch) forget(id string) {
	if err := s.fds.Delete(fdName(id, fdFrames), fdName(id, fdDropLink)); err != nil {
		s.log.Warn("take file descriptors out of the store", "port", id, "err", err)
	}
}

// condemn prepares the device's removal: a TAP vanishes when its last file descriptor is closed. To be called while d.fd is
// open.
func (s *Switch) condemn(d *device) {
	if d.kind != api.PortTAP {
		return
	}
	if err := link.Condemn(d.fd); err != nil && !errors.Is(err, unix.EBADFD) { // EBADFD: it vanished before
		s.log.Warn("remove a TAP", "port", d.id, "err", err)
	}
}

// destroy ends the device's removal, after it was unplugged.
func (s *Switch) destroy(d *device) {
	if err := d.close(); err != nil {
		s.log.Warn("close a port", "port", d.id, "err", err)
	}
	if d.kind == api.PortVeth {
		if err := link.Delete(s.private, d.index); err != nil {
			s.log.Warn("remove a veth", "port", d.id, "err", err)
		}
	}
}

// close closes the device's file descriptors, once. The interface stays where others hold it or it is persistent.
func (d *device) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	err := d.port.Close()
	if d.dropFD >= 0 {
		err = errors.Join(err, unix.Close(d.dropFD))
	}
	return err
}

// adoptDevice goes on with file descriptors that were kept.
func (s *Switch) adoptDevice(p *api.Port, held map[string]int) (*device, error) {
	fd := held[fdFrames]
	if p.Type == api.PortVeth {
		st, err := link.Lookup(s.private, link.DeviceName(p.ID))
		if err != nil {
			return nil, err
		}
		v := link.Veth{FD: fd, Index: st.Index, Name: st.Name, Drop: link.DropClsact, DropFD: -1}
		if drop, ok := held[fdDropLink]; ok {
			v.Drop, v.DropFD = link.DropTCX, drop
		}
		d, err := newVeth(p, v)
		if err == nil {
			d.plugged = st.Up
		}
		return d, err
	}
	t, err := link.AdoptTAP(fd)
	if err != nil {
		return nil, err
	}
	return newTAP(p, t), nil
}

func offloadText(o port.Offload) string {
	var s []string
	for _, x := range []struct {
		bit  port.Offload
		name string
	}{{port.OffloadCsum, "csum"}, {port.OffloadTSO4, "tso4"}, {port.OffloadTSO6, "tso6"}, {port.OffloadUSO, "uso"}} {
		if o&x.bit != 0 {
			s = append(s, x.name)
		}
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, " ")
}
