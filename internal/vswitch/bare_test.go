package vswitch_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// bridged is a veth whose other end is a port of a kernel bridge: what such a port costs without us.
const bridged = "bridged veth"

// bare makes and removes interfaces as a port has them, with the least that the kernel must be asked for: what no program can
// save. typ is that of a port, or bridged. Afterwards nothing is left.
func bare(t *testing.T, typ string, crowd *netnstest.Crowd) (making, removing time.Duration) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: it ends in a namespace of its own
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			making, removing, err = bareHere(typ, crowd)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("bare %s: %v", typ, err)
	}
	return making, removing
}

// bareHere is bare with the thread's namespace as the private one.
func bareHere(typ string, crowd *netnstest.Crowd) (making, removing time.Duration, err error) {
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, 0, err
	}
	defer here.Close()
	if typ == bridged {
		if err := bareBridge(here); err != nil {
			return 0, 0, err
		}
	}
	fds, start := make([]int, crowd.Len()), time.Now()
	for i := range fds {
		name := fmt.Sprint("bare", i)
		if typ == api.PortTAP {
			fds[i], err = bareTAP(here, name)
		} else {
			err = bareVeth(here, typ, name, crowd.FD(i))
		}
		if err == nil {
			err = bareUp(here, typ, name, crowd.FD(i))
		}
		if err == nil && typ != api.PortTAP { // last: what is up before the other end costs a grace period
			err = here.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}})
		}
		if err != nil {
			return 0, 0, err
		}
	}
	making = time.Since(start)
	self, err := netns.Get()
	if err != nil {
		return 0, 0, err
	}
	defer self.Close()
	start = time.Now()
	err = atOnce(len(fds), 64, func(i int) error {
		if typ == api.PortTAP {
			return unix.Close(fds[i])
		}
		h, err := netlink.NewHandleAt(self, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("bare", i)}})
	})
	return making, time.Since(start), err
}

func bareTAP(here *netlink.Handle, name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return -1, err
	}
	return fd, here.LinkSetTxQLen(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}, 8192)
}

const bareBridgeIndex = 1000000

func bareBridge(here *netlink.Handle) error {
	b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", Index: bareBridgeIndex}}
	if err := here.LinkAdd(b); err != nil {
		return err
	}
	return here.LinkSetUp(b)
}

func bareVeth(here *netlink.Handle, typ, name string, target int) error {
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: name, NumTxQueues: 1, NumRxQueues: 1}) // else it makes more, and takes them away again
	if typ == bridged {
		pair.MasterIndex = bareBridgeIndex
	}
	pair.PeerName, pair.PeerNamespace = name, netlink.NsFd(target)
	return here.LinkAdd(pair)
}

// bareUp moves a TAP, and gives the interface an address.
func bareUp(here *netlink.Handle, typ, name string, target int) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if typ == api.PortTAP {
		if err := here.LinkSetNsFd(l, target); err != nil {
			return err
		}
	}
	there, err := netlink.NewHandleAt(netns.NsHandle(target), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer there.Close()
	addr, err := netlink.ParseAddr("10.9.0.9/16")
	if err == nil {
		err = there.AddrAdd(l, addr)
	}
	if err != nil {
		return err
	}
	return there.LinkSetUp(l)
}
