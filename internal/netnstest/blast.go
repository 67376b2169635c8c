package netnstest

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blastBatch is how many frames go into one system call.
const blastBatch = 64

// mmsghdr is struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	_   [8]byte // bytes sent, and padding
}

// Blast sends n frames of the given size as fast as the interface takes them, by sendmmsg(2). fill writes the i-th frame. What
// the interface's queue has no room for is lost, as the kernel does it.
func (s *PacketSocket) Blast(n, size int, fill func(i int, frame []byte)) {
	s.lab.t.Helper()
	if err := s.blast(n, size, fill); err != nil {
		s.lab.t.Fatalf("send frames: %v", err)
	}
}

func (s *PacketSocket) blast(n, size int, fill func(i int, frame []byte)) error {
	if err := s.file.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var frames [blastBatch][]byte
	var vectors [blastBatch]unix.Iovec
	var messages [blastBatch]mmsghdr
	for i := range frames {
		frames[i] = make([]byte, size)
		vectors[i] = unix.Iovec{Base: &frames[i][0], Len: uint64(size)}
		messages[i].hdr = unix.Msghdr{Iov: &vectors[i], Iovlen: 1}
	}
	for sent := 0; sent < n; {
		batch := min(blastBatch, n-sent)
		for i := range batch {
			fill(sent+i, frames[i])
		}
		var errno unix.Errno
		err := conn.Write(func(fd uintptr) bool {
			_, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&messages)), uintptr(batch), 0, 0, 0)
			return !errors.Is(errno, unix.EAGAIN)
		})
		if err == nil && errno != 0 && errno != unix.ENOBUFS {
			err = os.NewSyscallError("sendmmsg", errno)
		}
		if err != nil {
			return err
		}
		sent += batch // those after one that had no room are lost too
	}
	return nil
}
