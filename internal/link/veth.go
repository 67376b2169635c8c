package link

import (
	"cmp"
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

// defaultMTU is that of Ethernet. The netlink library would give the other end ours.
const defaultMTU = 1500

// oneQueue is how many queues each end has in either direction. It is what the kernel uses anyway; but when not asked, it makes one for
// each core and takes the others away again, end by end after a grace period under the lock of all network configuration (veth_init_queues
// in drivers/net/veth.c, netif_set_real_num_tx_queues in net/core/dev.c).
const oneQueue = 1

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
	FD     int    // the AF_PACKET socket, non-blocking; the caller's
	Index  int    // of our end, in the private namespace
	Name   string // likewise
	Drop   string // what keeps the kernel's stack away: DropClsact or DropTCX
	DropFD int    // DropTCX: the link's fd, the caller's, to be kept open; else -1

	peer netlink.Link // the other end as it was made
}

// CreateVeth makes a pair with one end in the private namespace and the other in c.Target, both down and without addresses. undo
// deletes the pair and closes the fds: it is for who has not yet handed them on.
//
// Place sets the other end up, and keeps the kernel's stack from ours. Then SetVethCarrier sets up ours, and both have a carrier. In this
// order the kernel seldom waits for a grace period under the lock of all network configuration, as it does for what is up without a
// carrier (dev_deactivate_many in net/sched/sch_generic.c).
func CreateVeth(private *Namespace, c VethConfig) (Veth, func() error, error) {
	var done undo
	h, err := private.netlink()
	if err != nil {
		return Veth{}, nil, err
	}
	v := Veth{FD: -1, Index: vethIndex(c.Name), Name: c.Name, DropFD: -1}
	pair := netlink.NewVeth(netlink.LinkAttrs{
		Name: v.Name, Index: v.Index, MTU: ourMTU, TxQLen: -1, NumTxQueues: oneQueue, NumRxQueues: oneQueue,
	})
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = c.PeerName, c.MAC, uint32(cmp.Or(c.MTU, defaultMTU))
	pair.PeerNamespace = netlink.NsFd(c.Target.fd)
	if c.TxQueueLen != 0 {
		pair.TxQLen, pair.PeerTxQLen = c.TxQueueLen, c.TxQueueLen
	}
	if err := h.LinkAdd(pair); err != nil {
		return Veth{}, nil, vethError(c, err)
	}
	done.add(func() error { return deleteByName(private, c.Name) })
	done.add(v.close)
	for _, step := range []func() error{
		func() error { return v.prepareDrop(private) },
		func() error { return v.open(private) },
		func() error { return v.prepare(c.Target, c.PeerName) },
	} {
		if err := step(); err != nil {
			return Veth{}, nil, done.fail(fmt.Errorf("create veth %s: %w", c.Name, err))
		}
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

// open opens the socket of our end.
func (v *Veth) open(private *Namespace) error {
	return private.Do(func() (err error) {
		v.FD, err = openPacket(v.Index)
		return err
	})
}

// prepare looks at the other end, and switches off what our socket can't read.
func (v *Veth) prepare(target *Namespace, name string) error {
	return target.Do(func() error {
		h, err := target.netlinkHere()
		if err != nil {
			return err
		}
		if v.peer, err = h.LinkByName(name); err != nil {
			return lookupError(target, name, err)
		}
		return disableFeatures(name, unspeakable(v.FD))
	})
}

// PeerIndex returns the index of the other end in its namespace.
func (v *Veth) PeerIndex() int { return v.peer.Attrs().Index }

// Place is link.Place for the other end, where it was made. It also ends what CreateVeth began of ours: so late, a grace period has often
// passed for which it would wait otherwise.
func (v *Veth) Place(private, target *Namespace, c PlaceConfig) (State, func() error, error) {
	st, undo, err := place(target, v.peer, target, c)
	if err != nil || v.Drop != DropClsact {
		return st, undo, err
	}
	if err := addClassifier(private, v.Index); err != nil {
		return State{}, nil, errors.Join(err, undo())
	}
	return st, undo, nil
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
