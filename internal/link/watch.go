package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	LinkChanged   EventKind = iota // an interface is new, or anything of its State may have changed
	LinkRemoved                    // an interface was deleted, or moved elsewhere
	NamespaceDied                  // the namespace is gone with all that was in it; it is watched no more
	EventsLost                     // the kernel had too much to say: look at everything again
)

// Event is a change in a watched namespace.
type Event struct {
	Kind      EventKind
	Namespace NamespaceID // zero for EventsLost
	Link      State       // for LinkChanged and LinkRemoved
}

const (
	watchBuffer = 8 << 20  // bytes: some thousand messages
	watchRead   = 64 << 10 // bytes: more than the kernel puts into one datagram

	ownNSID = unix.NETNSA_NSID_NOT_ASSIGNED // stands for the socket's own namespace, which has no id in itself
)

// Watcher reports changes of interfaces in many namespaces. One socket in the private namespace hears them all: with
// NETLINK_LISTEN_ALL_NSID the kernel passes on the messages of each namespace that has an id (nsid) in the socket's own
// and writes the id beside them (netlink(7)). An id keeps no namespace alive; RTM_DELNSID says that one died.
type Watcher struct {
	private *Namespace
	remote  remote
	file    *os.File // the socket; a *os.File so that waiting takes no thread

	mu      sync.Mutex
	fd      int                     // of file, whose Fd would make it blocking; guarded by mu
	buf     []byte                  // guarded by mu
	watched map[int32]*watchedSpace // by nsid; guarded by mu
	nsids   map[NamespaceID]int32   // of those watched; guarded by mu
	backlog []Event                 // heard, but not yet reported; guarded by mu
}

type watchedSpace struct {
	id    NamespaceID
	count int // Adds not yet removed
}

// NewWatcher opens a watcher in the private namespace, which it watches from the start.
func NewWatcher(private *Namespace) (*Watcher, error) {
	fd := -1
	err := private.Do(func() (err error) {
		fd, err = openWatch()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	r, err := openRemote(private)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	w := &Watcher{
		private: private,
		remote:  r,
		file:    os.NewFile(uintptr(fd), "netlink"),
		fd:      fd,
		buf:     make([]byte, watchRead),
		watched: map[int32]*watchedSpace{ownNSID: {id: private.id, count: 1}},
		nsids:   map[NamespaceID]int32{private.id: ownNSID},
	}
	return w, nil
}

// openWatch opens the socket in the calling thread's namespace.
func openWatch() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer)
	}
	if err == nil {
		groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_NSID-1))
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Add begins to watch ns, whose handle may then be closed. What changed before is not reported: look it up after Add. A
// namespace that is added more than once is watched until each remove was called; they are idempotent.
func (w *Watcher) Add(ns *Namespace) (remove func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	nsid, err := w.nsid(ns)
	if err == nil {
		// The id may have been another namespace's, whose end still waits in the socket: it must not be taken for the end of ns.
		err = w.drainLocked()
	}
	if err != nil {
		return nil, fmt.Errorf("watch network namespace %s: %w", ns, err)
	}
	s := w.watched[nsid]
	if s != nil && s.id != ns.id { // its end was lost
		w.unwatchLocked(nsid, s)
		w.backlog = append(w.backlog, Event{Kind: NamespaceDied, Namespace: s.id})
		s = nil
	}
	if s == nil {
		s = &watchedSpace{id: ns.id}
		w.watched[nsid] = s
		w.nsids[ns.id] = nsid
	}
	s.count++
	if len(w.backlog) > 0 {
		w.wake()
	}
	return sync.OnceFunc(func() { w.remove(nsid, s) }), nil
}

func (w *Watcher) remove(nsid int32, s *watchedSpace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.count--; s.count == 0 && w.watched[nsid] == s {
		w.unwatchLocked(nsid, s)
	}
}

func (w *Watcher) unwatchLocked(nsid int32, s *watchedSpace) {
	delete(w.watched, nsid)
	if w.nsids[s.id] == nsid {
		delete(w.nsids, s.id)
	}
}

// nsid returns the id of ns in the private namespace. It gives it one if need be.
func (w *Watcher) nsid(ns *Namespace) (int32, error) {
	if ns.id == w.private.id {
		return ownNSID, nil
	}
	h, err := w.private.netlink()
	if err != nil {
		return 0, err
	}
	id, err := h.GetNetNsIdByFd(ns.fd)
	if err == nil && id == unix.NETNSA_NSID_NOT_ASSIGNED {
		err = h.SetNetNsIdByFd(ns.fd, unix.NETNSA_NSID_NOT_ASSIGNED) // any that is free
		if err == nil || errors.Is(err, unix.EEXIST) {
			id, err = h.GetNetNsIdByFd(ns.fd)
		}
	}
	return int32(id), err
}

// Run reports events, one after the other and in their order, until ctx ends; then it returns nil. It runs once at a time.
func (w *Watcher) Run(ctx context.Context, report func(Event)) error {
	defer context.AfterFunc(ctx, w.wake)()
	conn, err := w.file.SyscallConn()
	for err == nil {
		// The deadline is taken back before looking at what it may have been set for.
		if err = w.file.SetReadDeadline(time.Time{}); err != nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		var events []Event
		var failed error
		err = conn.Read(func(uintptr) bool {
			events, failed = w.take()
			return len(events) > 0 || failed != nil
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		for _, e := range events {
			report(e)
		}
		err = errors.Join(err, failed)
	}
	return fmt.Errorf("watch interfaces: %w", err)
}

// take returns what has been heard until now.
func (w *Watcher) take() ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.drainLocked()
	events := w.backlog
	w.backlog = nil
	return events, err
}

// wake makes a waiting Run look around.
func (w *Watcher) wake() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }

// Close releases the socket; Run has returned before.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fd = -1
	w.remote.close()
	return w.file.Close()
}

// drainLocked reads all that waits in the socket into the backlog.
func (w *Watcher) drainLocked() error {
	var control [64]byte
	for {
		n, c, flags, _, err := unix.Recvmsg(w.fd, w.buf, control[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS), err == nil && flags&unix.MSG_TRUNC != 0:
			w.backlog = append(w.backlog, Event{Kind: EventsLost})
		case err != nil:
			return err
		default:
			w.hearLocked(w.buf[:n], originOf(control[:c]))
		}
	}
}

// originOf returns the nsid of the namespace where the messages come from.
func originOf(control []byte) int32 {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return ownNSID
	}
	for _, c := range list {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(c.Data) >= 4 {
			return int32(binary.NativeEndian.Uint32(c.Data))
		}
	}
	return ownNSID
}

// hearLocked turns the messages of one datagram into events. What it cannot read is news of a kind that it does not know.
func (w *Watcher) hearLocked(b []byte, origin int32) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		w.backlog = append(w.backlog, Event{Kind: EventsLost})
		return
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
			w.hearLinkLocked(LinkChanged, m, origin)
		case unix.RTM_DELLINK:
			w.hearLinkLocked(LinkRemoved, m, origin)
		case unix.RTM_DELNSID:
			if origin == ownNSID {
				w.hearDeathLocked(m.Data)
			}
		}
	}
}

func (w *Watcher) hearLinkLocked(kind EventKind, m syscall.NetlinkMessage, origin int32) {
	s := w.watched[origin]
	if s == nil || len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC { // bridges report their ports too
		return
	}
	l, err := netlink.LinkDeserialize(&unix.NlMsghdr{Type: m.Header.Type}, m.Data)
	if err != nil {
		return
	}
	w.backlog = append(w.backlog, Event{Kind: kind, Namespace: s.id, Link: stateOf(l)})
}

// hearDeathLocked reads an RTM_DELNSID: a struct rtgenmsg, padded to 4 bytes, and attributes (linux/net_namespace.h).
func (w *Watcher) hearDeathLocked(b []byte) {
	attrs, err := nl.ParseRouteAttr(b[min(len(b), 4):])
	if err != nil {
		return
	}
	for _, a := range attrs {
		if a.Attr.Type != unix.NETNSA_NSID || len(a.Value) < 4 {
			continue
		}
		nsid := int32(binary.NativeEndian.Uint32(a.Value))
		if s := w.watched[nsid]; s != nil {
			w.unwatchLocked(nsid, s)
			w.backlog = append(w.backlog, Event{Kind: NamespaceDied, Namespace: s.id})
		}
	}
}
