package bpf_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/link/linktest"
)

// What the program does to frames is tested in internal/link.
func TestAttachDrop(t *testing.T) {
	linktest.NeedsTCX(t)
	private := linktest.Private(t)
	const lo = 1
	err := private.Do(func() error {
		fd, err := bpf.AttachDrop(lo)
		if err != nil {
			return err
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the fd's flags are %#x, %v; want FD_CLOEXEC", flags, err)
		}
		if _, err := bpf.AttachDrop(lo); !errors.Is(err, unix.EEXIST) {
			t.Errorf("attached twice: %v", err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		again, err := bpf.AttachDrop(lo)
		if err != nil {
			t.Errorf("after the fd was closed: %v", err)
		}
		return unix.Close(again)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := private.Do(func() error { _, err := bpf.AttachDrop(99); return err }); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such interface: %v; want %v", err, unix.ENODEV)
	}
}
