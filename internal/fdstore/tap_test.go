package fdstore_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/fdstore"
)

// childTAP is a daemon that owns a TAP, not a persistent one, and is killed.
func childTAP() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	ifr, err := unix.NewIfreq("tap7")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, ifr); err != nil {
		return err
	}
	s, err := fdstore.Open(fdstore.Config{Mode: "keeper", Dir: os.Getenv("DIR")})
	if err != nil {
		return err
	}
	if err := s.Put("tap7", fd); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

func TestTAPKeepsCarrier(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := runDir(t)
	cmd := child(t, "tap")
	cmd.Env = append(cmd.Env, "DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	killWhenReady(t, cmd)

	s := open(t, dir)
	fds, err := s.Take()
	must(t, err)
	fd, ok := fds["tap7"]
	if !ok {
		t.Fatalf("took %v", fds)
	}
	defer func() { _ = unix.Close(fd) }()
	netns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	must(t, err)
	defer func() { _ = unix.Close(netns) }()
	dev := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			dev <- err
			return
		}
		i, err := net.InterfaceByName("tap7")
		if err == nil && i.Flags&(net.FlagUp|net.FlagRunning) != net.FlagUp|net.FlagRunning {
			err = fmt.Errorf("tap7 is %v, want it up with carrier", i.Flags)
		}
		dev <- err
	}()
	must(t, <-dev)
}
