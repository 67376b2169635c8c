package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/internal/port"
)

// DefaultTxQueueLen is how many frames a TAP holds for us until it drops. The kernel's 1000 lose half of a burst while the
// switch waits for its turn on a busy CPU.
const DefaultTxQueueLen = 8192

const (
	tunPath = "/dev/net/tun"

	// Flags of TUNSETIFF (linux/if_tun.h). The device is a TAP without packet info, with a vnet header.
	tapFlags   = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	iffPersist = 0x0800

	// Flags of TUNSETOFFLOAD (linux/if_tun.h). TUN_F_UFO (0x10) is never asked for: nobody cuts such frames in user space.
	tunCsum, tunTSO4, tunTSO6, tunECN, tunUSO = 0x01, 0x02, 0x04, 0x08, 0x20 | 0x40
)

// offloadRungs are what we ask of TUNSETOFFLOAD, the best first: USO came with Linux 6.2, both bits together.
var offloadRungs = []int{
	tunCsum | tunTSO4 | tunTSO6 | tunECN | tunUSO,
	tunCsum | tunTSO4 | tunTSO6 | tunECN,
	tunCsum | tunTSO4 | tunTSO6,
	tunCsum,
	0,
}

// A dead process's TAPs are closed by the kernel one by one, so that ReopenTAP may find its device busy for a while.
const (
	reopenWait  = 2 * time.Second
	reopenRetry = 5 * time.Millisecond
)

// TAPConfig says how to make a TAP.
type TAPConfig struct {
	Name       string           // of the device in the private namespace; see DeviceName
	MAC        net.HardwareAddr // nil: the kernel's choice
	MTU        int              // bytes; 0: 1500
	TxQueueLen int              // frames; 0: DefaultTxQueueLen
}

// TAP is an attached TAP device.
type TAP struct {
	FD      int    // non-blocking; the caller's
	Index   int    // in the namespace where the device is now
	Name    string // likewise
	Offload port.Offload
}

// CreateTAP makes a persistent TAP in the private namespace and attaches to it; the interface is left down. The fd pins the
// private namespace and not the one to which Place moves the device, so the device dies with that one and says so on the
// fd. undo deletes the device, wherever it is by then, and closes the fd: it is for who has not yet handed the fd on.
func CreateTAP(private *Namespace, c TAPConfig) (TAP, func() error, error) {
	var done undo
	tap := TAP{Name: c.Name, FD: -1}
	err := private.Do(func() (err error) {
		if err = makeTAP(c.Name); err != nil {
			return err
		}
		tap.FD, err = openTAP(c.Name)
		return err
	})
	if tap.FD < 0 {
		if s, e := Lookup(private, c.Name); e == nil && !errors.Is(err, unix.EBUSY) {
			_ = Delete(private, s.Index)
		}
		return TAP{}, nil, fmt.Errorf("create TAP %s: %w", c.Name, err)
	}
	done.add(func() error { return unix.Close(tap.FD) })
	done.add(func() error { return DeleteTAP(tap.FD) })
	if tap.Offload, err = setOffload(tap.FD); err == nil {
		tap.Index, err = setUpTAP(private, c)
	}
	if err != nil {
		return TAP{}, nil, done.fail(fmt.Errorf("create TAP %s: %w", c.Name, err))
	}
	return tap, done.run, nil
}

// makeTAP creates the persistent device in the calling thread's namespace. water opens its file without O_CLOEXEC, so no
// process may be started until it is closed again.
func makeTAP(name string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dev, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: name, Persist: true},
	})
	if errors.Is(err, os.ErrNotExist) {
		return api.Errorf(api.CodeUnsupported, "the kernel has no %s: load its module with 'modprobe tun'", tunPath)
	}
	if err != nil {
		return err
	}
	return dev.Close()
}

// openTAP attaches to the TAP of that name in the calling thread's namespace. It makes the device if there is none; such a
// one is not persistent and is gone when the fd is closed.
func openTAP(name string) (int, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", tunPath, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(tapFlags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, packet.VnetLen)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("attach to it: %w", err)
	}
	return fd, nil
}

// setOffload asks the device to hand us super-frames and frames without checksums; it always takes what we write.
func setOffload(fd int) (port.Offload, error) {
	var err error
	for _, bits := range offloadRungs {
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, bits); err == nil {
			return offloadOf(bits), nil
		}
	}
	return 0, fmt.Errorf("set offloads: %w", err)
}

func offloadOf(bits int) port.Offload {
	var o port.Offload
	if bits&tunCsum != 0 {
		o |= port.OffloadCsum
	}
	if bits&tunTSO4 != 0 {
		o |= port.OffloadTSO4
	}
	if bits&tunTSO6 != 0 {
		o |= port.OffloadTSO6
	}
	if bits&tunUSO == tunUSO {
		o |= port.OffloadUSO
	}
	return o
}

// setUpTAP gives the new device what its user asked for, and returns its index.
func setUpTAP(private *Namespace, c TAPConfig) (int, error) {
	h, err := private.netlink()
	if err != nil {
		return 0, err
	}
	l, err := h.LinkByName(c.Name)
	if err != nil {
		return 0, lookupError(private, c.Name, err)
	}
	if c.TxQueueLen == 0 {
		c.TxQueueLen = DefaultTxQueueLen
	}
	if err := h.LinkSetTxQLen(l, c.TxQueueLen); err != nil {
		return 0, fmt.Errorf("set its queue to %d frames: %w", c.TxQueueLen, err)
	}
	return l.Attrs().Index, setAddressing(h, l, c.MAC, c.MTU)
}

// setAddressing sets MAC and MTU where they are given and differ.
func setAddressing(h *netlink.Handle, l netlink.Link, mac net.HardwareAddr, mtu int) error {
	a := l.Attrs()
	if mtu != 0 && mtu != a.MTU {
		if err := h.LinkSetMTU(l, mtu); err != nil {
			return api.Errorf(api.CodeRefused, "interface %s: the kernel refuses an MTU of %d: %v", a.Name, mtu, err)
		}
		a.MTU = mtu
	}
	if mac != nil && mac.String() != a.HardwareAddr.String() {
		if err := h.LinkSetHardwareAddr(l, mac); err != nil {
			return api.Errorf(api.CodeRefused, "interface %s: the kernel refuses MAC %s: %v", a.Name, mac, err)
		}
		a.HardwareAddr = mac
	}
	return nil
}

// ReopenTAP attaches again to a persistent TAP that a dead process left in ns. Its fd, unlike that of CreateTAP, keeps ns
// alive: who holds it watches for the end of ns by other means. While the kernel still closes the dead process's
// fd, it waits for up to 2 s. An api.Error not_found says that there is no such TAP any more.
func ReopenTAP(ctx context.Context, ns *Namespace, name string) (TAP, error) {
	s, err := Lookup(ns, name)
	if err != nil {
		return TAP{}, err
	}
	if s.Kind != "tuntap" {
		return TAP{}, api.Errorf(api.CodeRefused, "interface %s in network namespace %s is a %s and no TAP", name, ns, s.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, reopenWait)
	defer cancel()
	fd := -1
	err = ns.Do(func() (err error) {
		fd, err = waitTAP(ctx, name)
		return err
	})
	if err != nil {
		return TAP{}, fmt.Errorf("reopen TAP %s in network namespace %s: %w", name, ns, err)
	}
	if _, flags, e := ifreqOf(fd); e != nil || flags&iffPersist == 0 {
		_ = unix.Close(fd) // it went away meanwhile, and we made another
		return TAP{}, api.Errorf(api.CodeNotFound, "interface %s: not in network namespace %s", name, ns)
	}
	offload, err := setOffload(fd)
	if err != nil {
		_ = unix.Close(fd)
		return TAP{}, fmt.Errorf("reopen TAP %s in network namespace %s: %w", name, ns, err)
	}
	return TAP{FD: fd, Index: s.Index, Name: name, Offload: offload}, nil
}

func waitTAP(ctx context.Context, name string) (int, error) {
	tick := time.NewTicker(reopenRetry)
	defer tick.Stop()
	for {
		fd, err := openTAP(name)
		if !errors.Is(err, unix.EBUSY) {
			return fd, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return -1, fmt.Errorf("another process holds it: %w", err)
		}
	}
}

// AdoptTAP takes over an attached fd that came from elsewhere, as from the fd store. An error that is port.ErrGone says that the device
// died. The fd stays open in any case.
func AdoptTAP(fd int) (TAP, error) {
	ns, s, err := WhereIs(fd)
	if err != nil {
		return TAP{}, err
	}
	defer ns.Close()
	offload, err := setOffload(fd)
	if err != nil {
		return TAP{}, fmt.Errorf("adopt TAP %s: %w", s.Name, err)
	}
	return TAP{FD: fd, Index: s.Index, Name: s.Name, Offload: offload}, nil
}

// WhereIs tells in which namespace the TAP of fd is now, and its state: name and index may have changed. The caller closes
// the namespace, whose handle has no path. An error that is port.ErrGone says that the device died.
func WhereIs(fd int) (ns *Namespace, s State, err error) {
	for range 3 { // it may be moved and renamed while we look
		if ns, s, err = whereIs(fd); !api.HasCode(err, api.CodeNotFound) {
			break
		}
	}
	return ns, s, err
}

func whereIs(fd int) (*Namespace, State, error) {
	name, _, err := ifreqOf(fd)
	if err != nil {
		return nil, State{}, err
	}
	nsfd, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if errors.Is(err, unix.EINVAL) {
		err = unix.ENODEV // its namespace is dead, and the kernel is about to take the device away (get_net_ns in net/core/net_namespace.c)
	}
	if err != nil {
		return nil, State{}, tapError(name, err)
	}
	ns, err := FromFD(nsfd, "")
	if err != nil {
		return nil, State{}, err
	}
	s, err := Lookup(ns, name)
	if err != nil {
		_ = ns.Close()
		return nil, State{}, err
	}
	return ns, s, nil
}

// LookupTAP returns the state of the TAP of fd, which is thought to be in ns. Unlike WhereIs it opens nothing. An api.Error not_found says
// that it is elsewhere, one that is port.ErrGone that the device died.
func LookupTAP(ns *Namespace, fd int) (State, error) {
	name, _, err := ifreqOf(fd)
	if err != nil {
		return State{}, err
	}
	return Lookup(ns, name)
}

// ifreqOf asks a TAP for its present name and flags.
func ifreqOf(fd int) (name string, flags uint16, err error) {
	req, err := unix.NewIfreq("any") // the kernel fills it in
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.TUNGETIFF, req)
	}
	if err != nil {
		return "", 0, tapError("of an unknown name", err)
	}
	return req.Name(), req.Uint16(), nil
}

func tapError(name string, err error) error {
	if errors.Is(err, unix.EBADFD) || errors.Is(err, unix.ENODEV) {
		err = port.ErrGone
	}
	return fmt.Errorf("TAP %s: %w", name, err)
}

// DeleteTAP removes the device of fd, wherever it is; the fd stays open and finds its device gone. That it is gone already is
// no error.
func DeleteTAP(fd int) error {
	ns, s, err := WhereIs(fd)
	if errors.Is(err, port.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	return Delete(ns, s.Index)
}
