package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/port"
)

// SetTAPCarrier plugs the cable of the TAP of fd, or pulls it: its interface stays up, but nothing is sent by it. A TAP that is
// attached to anew has a carrier. An error that is port.ErrGone says that the device died.
func SetTAPCarrier(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, value)
	if errors.Is(err, unix.EBADFD) {
		err = port.ErrGone
	}
	if err != nil {
		return fmt.Errorf("set the carrier of a TAP: %w", err)
	}
	return nil
}

// SetVethCarrier plugs the cable of a veth pair, or pulls it, by setting our end up or down. With the second of the ends both have a
// carrier. But the end that was up first drops what it is to send until the kernel's link watch has run: LookupIndex of it makes it run
// (rtnl_getlink in net/core/rtnetlink.c, Linux 6.8; before, it is a matter of milliseconds).
func SetVethCarrier(private *Namespace, index int, on bool) error {
	h, err := private.netlink()
	if err != nil {
		return err
	}
	end := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	set := h.LinkSetDown
	if on {
		set = h.LinkSetUp
	}
	if err := set(end); err != nil {
		return lookupError(private, fmt.Sprintf("number %d", index), err)
	}
	return nil
}
