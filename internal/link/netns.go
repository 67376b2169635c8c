package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// namedDirs is where 'ip netns add' keeps its names; /var/run is a link to /run on most systems, but not on all.
var namedDirs = []string{"/run/netns", "/var/run/netns"}

// NamespaceID identifies a network namespace among those that live now: the device and inode of its nsfs file. The kernel
// may give the inode of a dead namespace to a new one.
type NamespaceID struct{ Dev, Inode uint64 }

// Namespace is a handle of a network namespace: an fd, and a netlink socket inside once one is needed. Both keep the
// namespace alive, so a handle of a container's namespace is closed as soon as the work in it is done; only the private
// namespace's handle is kept. Its methods are safe for concurrent use, except Close.
type Namespace struct {
	fd   int
	path string
	id   NamespaceID

	mu   sync.Mutex
	sock *netlink.Handle // guarded by mu; nil until used

	trial      sync.Mutex
	classifies bool // guarded by trial; see tryClassifier
}

// OpenNetns opens the namespace at path: /run/netns/NAME, /proc/PID/ns/net, or any bind mount of such a file.
func OpenNetns(path string) (*Namespace, error) {
	h, err := netns.GetFromPath(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return FromFD(int(h), path)
}

// Host opens the namespace in which the daemon itself was started.
func Host() (*Namespace, error) { return OpenNetns("/proc/self/ns/net") }

// FromFD makes a handle of an fd that somebody opened before, and owns the fd from then on, even when it fails. path is
// where it was opened, for Alive and for people; it may be empty.
func FromFD(fd int, path string) (*Namespace, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	err := unix.Fstatfs(fd, &fs)
	if err == nil && fs.Type != unix.NSFS_MAGIC {
		err = errNotNetns
	}
	if err == nil {
		err = isNetns(fd)
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, openError(path, err)
	}
	return &Namespace{fd: fd, path: path, id: NamespaceID{st.Dev, st.Ino}}, nil
}

var errNotNetns = errors.New("not a network namespace")

// isNetns tells a network namespace from one of another type (NS_GET_NSTYPE in linux/nsfs.h).
func isNetns(fd int) error {
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = errNotNetns
	}
	return err
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return api.Errorf(api.CodeNotFound, "network namespace %s: no such file", path)
	case errors.Is(err, errNotNetns):
		return api.Errorf(api.CodeInvalid, "network namespace %s: the file is not a network namespace; give one like /run/netns/NAME or /proc/PID/ns/net", path)
	}
	return fmt.Errorf("open network namespace %s: %w", path, err)
}

func pidPath(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// ResolveSpec returns the path of the namespace that the user means: the name of one made by 'ip netns add', an absolute
// path, or a pid. A pid may be given as spec too; a name of the same spelling goes before it. An empty spec asks for pid.
func ResolveSpec(spec string, pid int) (string, error) {
	if spec == "" {
		if pid <= 0 {
			return "", api.Errorf(api.CodeInvalid, "no network namespace given; give a name, an absolute path or a pid")
		}
		return resolvePID(pid)
	}
	if strings.HasPrefix(spec, "/") {
		if _, err := os.Stat(spec); err != nil {
			return "", openError(spec, errors.Unwrap(err))
		}
		return filepath.Clean(spec), nil
	}
	if strings.ContainsRune(spec, '/') || spec == "." || spec == ".." {
		return "", api.Errorf(api.CodeInvalid, "network namespace %q: a path must be absolute, a name has no '/'", spec)
	}
	for _, dir := range namedDirs {
		path := filepath.Join(dir, spec)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	if n, err := strconv.Atoi(spec); err == nil && n > 0 {
		return resolvePID(n)
	}
	return "", api.Errorf(api.CodeNotFound, "network namespace %q: no such name in %s; make it with 'ip netns add %s' or give a path",
		spec, namedDirs[0], spec)
}

func resolvePID(pid int) (string, error) {
	path := pidPath(pid)
	switch _, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return "", api.Errorf(api.CodeNotFound, "network namespace of pid %d: no such process", pid)
	case err != nil:
		return "", api.Errorf(api.CodeRefused, "network namespace of pid %d: %v", pid, err)
	}
	return path, nil
}

// Identify returns the identity of the namespace at path without opening it, and so without keeping it alive.
func Identify(path string) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return NamespaceID{}, openError(path, err)
	}
	return NamespaceID{st.Dev, st.Ino}, nil
}

// FD returns the namespace's file descriptor, which stays the handle's.
func (n *Namespace) FD() int { return n.fd }

// ID returns the namespace's identity.
func (n *Namespace) ID() NamespaceID { return n.id }

// Path returns where the namespace was opened; it may be empty.
func (n *Namespace) Path() string { return n.path }

// String names the namespace for people: its 'ip netns' name when it has one, else its path.
func (n *Namespace) String() string {
	for _, dir := range namedDirs {
		if filepath.Dir(n.path) == dir {
			return filepath.Base(n.path)
		}
	}
	if n.path == "" {
		return fmt.Sprintf("net:[%d]", n.id.Inode)
	}
	return n.path
}

// Do runs fn inside the namespace, on a thread that nobody else uses meanwhile. It returns fn's error.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		home, err := netns.Get()
		if err == nil {
			defer home.Close()
			err = netns.Set(netns.NsHandle(n.fd))
		}
		if err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n, err)
		}
		err = fn()
		if netns.Set(home) == nil { // else the thread is thrown away
			runtime.UnlockOSThread()
		}
		return err
	})
}

// onOwnThread runs fn on a goroutine whose thread ends with it, unless fn unlocks it. The process's first thread cannot end, and
// /proc/self/ns shows its namespaces: it only waits.
func onOwnThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onOwnThread(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}

// netlink returns the netlink socket inside the namespace and opens it first if need be.
func (n *Namespace) netlink() (*netlink.Handle, error) {
	return n.netlinkBy(func() (*netlink.Handle, error) { return netlink.NewHandleAt(netns.NsHandle(n.fd), unix.NETLINK_ROUTE) })
}

// netlinkHere is netlink for a thread that is in the namespace.
func (n *Namespace) netlinkHere() (*netlink.Handle, error) {
	return n.netlinkBy(func() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) })
}

func (n *Namespace) netlinkBy(open func() (*netlink.Handle, error)) (*netlink.Handle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		sock, err := open()
		if err != nil {
			return nil, fmt.Errorf("netlink in network namespace %s: %w", n, err)
		}
		n.sock = sock
	}
	return n.sock, nil
}

// Close gives the handle back; the namespace stays when somebody else has it. It is idempotent.
func (n *Namespace) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock != nil {
		n.sock.Close()
		n.sock = nil
	}
	if n.fd < 0 {
		return nil
	}
	err := unix.Close(n.fd)
	n.fd = -1
	return err
}
