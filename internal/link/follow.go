package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Follower hears when interfaces, addresses or default routes of one namespace may have changed. It doesn't say what: who follows
// looks at what there is now, so that nothing is missed or told in the wrong order. Unlike a Watcher it keeps its namespace alive.
type Follower struct {
	file *os.File // so that waiting takes no thread
	fd   int      // of file, whose Fd would make it blocking
	buf  []byte
	all  bool // the end of any route is news

	woken atomic.Bool
}

// FollowAll is Follow that also hears when other routes are deleted.
func FollowAll(ns *Namespace) (*Follower, error) {
	f, err := Follow(ns)
	if err == nil {
		f.all = true
	}
	return f, err
}

// Follow begins to listen.
func Follow(ns *Namespace) (*Follower, error) {
	fd := -1
	err := ns.Do(func() (err error) {
		fd, err = openFollow()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("follow network namespace %s: %w", ns, err)
	}
	return &Follower{file: os.NewFile(uintptr(fd), "netlink"), fd: fd, buf: make([]byte, watchRead)}, nil
}

// openFollow opens the socket in the calling thread's namespace.
func openFollow() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	var groups uint32
	for _, g := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE} {
		groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Wait returns nil when something may have changed since the Follower was made or Wait returned last, and ctx's error when it ends. It
// is called from one goroutine.
func (f *Follower) Wait(ctx context.Context) error {
	_ = f.file.SetReadDeadline(time.Time{})
	if f.woken.Swap(false) { // asked behind the deadline, so that a Wake ends either this Wait or the next
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = f.file.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		var news bool
		news, failed = f.drain()
		return news || failed != nil
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.woken.Store(false)
		return ctx.Err() // nil when it was an earlier ctx that ended late, or Wake
	case err != nil || failed != nil:
		return fmt.Errorf("follow interfaces: %w", errors.Join(err, failed))
	}
	return nil
}

// Wake makes Wait return nil, the one under way or the next. It never blocks.
func (f *Follower) Wake() {
	f.woken.Store(true)
	_ = f.file.SetReadDeadline(time.Unix(1, 0))
}

// drain reads all that waits, and tells whether any of it is news.
func (f *Follower) drain() (news bool, err error) {
	for {
		n, _, err := unix.Recvfrom(f.fd, f.buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return news, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS): // something was lost
			news = true
		case err != nil:
			return news, err
		default:
			news = news || f.isNews(f.buf[:n])
		}
	}
}

// isNews tells whether messages say anything that matters. A router's kernel may have much to say of routes; only default routes do.
func (f *Follower) isNews(b []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for _, m := range messages {
		route := m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE
		if !route || f.all && m.Header.Type == unix.RTM_DELROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[1] == 0 { // rtm_dst_len
			return true
		}
	}
	return false
}

// Close gives the socket back; Wait has returned before.
func (f *Follower) Close() error { return f.file.Close() }
