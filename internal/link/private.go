package link

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// privateSysctls make the daemon's namespace silent: a new namespace has IPv6, and takes IPv4 settings from the host's.
var privateSysctls = []struct{ path, value string }{
	{"/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"},
	{"/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"},
	{"/proc/sys/net/ipv4/ip_forward", "0"},
	{"/proc/sys/net/ipv6/conf/all/forwarding", "0"},
}

// NewPrivate makes the daemon's own network namespace, without IPv6, forwarding or a name. It lives as long as its fd, or a
// device's fd opened in it; FromFD makes a handle of a stored fd again.
func NewPrivate() (*Namespace, error) {
	fd := -1
	err := onOwnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		for _, s := range privateSysctls {
			if err = setSysctl(s.path, s.value); err != nil {
				return err
			}
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the private network namespace: %w", err)
	}
	return FromFD(fd, "")
}

// setSysctls writes settings of an interface in the calling thread's namespace; the paths are below net, with %s for its name.
func setSysctls(list []struct{ path, value string }, ifname string) error {
	for _, s := range list {
		if err := setSysctl("/proc/sys/net/"+fmt.Sprintf(s.path, ifname), s.value); err != nil {
			return fmt.Errorf("set up interface %s: %w", ifname, err)
		}
	}
	return nil
}

// setSysctl writes a setting of the calling thread's namespace. A setting that the kernel lacks, as all of IPv6 may be, is
// no error.
func setSysctl(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
