package link

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// ourMTU is that of our end: whatever MTU the container gives the other end, it is the switch that drops what is too large,
// and counts it.
const ourMTU = 65535

// VethConfig says how to make a veth pair.
type VethConfig struct {
	Name       string           // of our end in the private namespace; see DeviceName
	Target     *Namespace       // where the other end is born: to move it there would cost some 15 ms
	PeerName   string           // of the other end
	MAC        net.HardwareAddr // of the other end; nil: the kernel's choice
	MTU        int              // bytes, of the other end; 0: 1500
	TxQueueLen int              // frames, of both ends; 0: the kernel's default
}

// Veth is a veth pair of which we hold one end through an AF_PACKET socket.
type Veth struct {
	FD        int    // the AF_PACKET socket, non-blocking; the caller's
	Index     int    // of our end, in the private namespace
	Name      string // likewise
	PeerIndex int    // of the other end, in its namespace
	Drop      string // what keeps the kernel's stack away: DropClsact or DropTCX
	DropFD    int    // DropTCX: the link's fd, the caller's, to be kept open; else -1
}

// CreateVeth makes a pair with one end in the private namespace, up and without addresses, and the other in c.Target, still
// down. undo deletes the pair and closes the fds: it is for who has not yet handed them on.
//
// Place configures the other end. Ours has a carrier only then, and drops what we write until the kernel's link watch has run.
// LookupIndex makes it run (rtnl_getlink in net/core/rtnetlink.c, Linux 6.8; before, it is a matter of milliseconds).
func CreateVeth(private *Namespace, c VethConfig) (Veth, func() error, error) {
	var done undo
	h, err := private.netlink()
	if err != nil {
		return Veth{}, nil, err
	}
	// Our end may be up before it is looked after: it has no carrier yet.
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: c.Name, Index: vethIndex(c.Name), MTU: ourMTU, TxQLen: -1, Flags: net.FlagUp})
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = c.PeerName, c.MAC, uint32(c.MTU)
	pair.PeerNamespace = netlink.NsFd(c.Target.fd)
	if c.TxQueueLen != 0 {
		pair.TxQLen, pair.PeerTxQLen = c.TxQueueLen, c.TxQueueLen
	}
	if err := h.LinkAdd(pair); err != nil {
		return Veth{}, nil, vethError(c, err)
	}
	done.add(func() error { return deleteByName(private, c.Name) })
	v, err := openVeth(private, c.Name)
	if err != nil {
		return Veth{}, nil, done.fail(fmt.Errorf("create veth %s: %w", c.Name, err))
	}
	done.add(v.close)
	if err := c.Target.Do(func() error { return disableFeatures(c.PeerName, unspeakable(v.FD)) }); err != nil {
		return Veth{}, nil, done.fail(fmt.Errorf("create veth %s: %w", c.Name, err))
	}
	return v, done.run, nil
}

// vethIndex chooses the index of our end, such as no interface elsewhere has. If the other end had by chance the same in its
// namespace, the kernel would not hurry when that end comes up, and drop what we write for up to a second
// (linkwatch_urgent_event in net/core/link_watch.c).
func vethIndex(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return 1<<30 | int(h.Sum32()>>2)
}

func vethError(c VethConfig, err error) error {
	if errors.Is(err, unix.EEXIST) {
		if _, e := Lookup(c.Target, c.PeerName); e == nil {
			return TakenError(c.PeerName, c.Target)
		}
	}
	return fmt.Errorf("create veth %s with peer %s in network namespace %s: %w", c.Name, c.PeerName, c.Target, err)
}

func deleteByName(ns *Namespace, name string) error {
	s, err := Lookup(ns, name)
	switch {
	case api.HasCode(err, api.CodeNotFound):
		return nil
	case err != nil:
		return err
	}
	return Delete(ns, s.Index)
}

// openVeth keeps the stack from our end, sets it up and opens its socket. The socket comes last: bound to an interface that
// is down, it would begin its life with an error.
func openVeth(private *Namespace, name string) (Veth, error) {
	h, err := private.netlink()
	if err != nil {
		return Veth{}, err
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return Veth{}, lookupError(private, name, err)
	}
	v := Veth{FD: -1, Index: l.Attrs().Index, Name: name, PeerIndex: l.Attrs().ParentIndex, DropFD: -1}
	err = private.Do(func() error {
		err := v.attachDrop(h)
		if err == nil && l.Attrs().RawFlags&unix.IFF_UP == 0 {
			err = h.LinkSetUp(l)
		}
		if err == nil {
			v.FD, err = openPacket(v.Index)
		}
		return err
	})
	if err != nil {
		_ = v.close()
		return Veth{}, err
	}
	return v, nil
}

// close closes the fds.
func (v *Veth) close() error {
	var errs []error
	for _, fd := range []int{v.FD, v.DropFD} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	v.FD, v.DropFD = -1, -1
	return errors.Join(errs...)
}
