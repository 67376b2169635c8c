package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// socketGroup may use the control socket, when the host has such a group.
const socketGroup = "vswitch"

// Listen makes the control socket at path, mode 0660 and owned by root:vswitch when that group exists, and its folder with mode 0755.
// A socket left over by a dead daemon is replaced; one that answers, or a file that is no socket, is an error. The socket appears with
// its final mode: it is made in a private folder beside its place and moved. Closing the listener removes it, unless it was replaced.
func Listen(path string) (net.Listener, error) {
	group := socketGroup
	if _, err := user.LookupGroup(group); err != nil {
		group = ""
	}
	return listen(path, group, 0o660)
}

// ListenReadOnly is Listen for a socket that everybody may use, or only the group if there is one given.
func ListenReadOnly(path, group string) (net.Listener, error) {
	if group == "" {
		return listen(path, "", 0o666)
	}
	return listen(path, group, 0o660)
}

func listen(path, group string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the control socket's folder: %w", err)
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	defer os.RemoveAll(private)
	born := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := install(born, path, group, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("make the control socket %s: %w", path, err), l.Close())
	}
	self, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the control socket: %w", err), l.Close())
	}
	return &socket{UnixListener: l, path: path, self: self}, nil
}

// checkFree refuses a path where somebody answers, or where something else than a socket lies.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket: remove it or choose another path for the control socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("another daemon answers on %s: stop it first or choose another path for the control socket", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("cannot tell whether a daemon answers on %s: %w", path, err)
}

// install gives the socket its mode and group and moves it to its place.
func install(born, path, group string, mode fs.FileMode) error {
	if group != "" && os.Geteuid() == 0 {
		g, err := user.LookupGroup(group)
		if err != nil {
			return fmt.Errorf("%w: make the group or name another one", err)
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
		if err := os.Chown(born, 0, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(born, mode); err != nil {
		return err
	}
	return os.Rename(born, path)
}

// socket is the listener on the control socket.
type socket struct {
	*net.UnixListener
	path   string
	self   fs.FileInfo
	unlink sync.Once
}

// Close stops listening and removes the socket, if the one at its path is still ours.
func (s *socket) Close() error {
	s.unlink.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.self) {
			os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}

// Addr returns the address where clients find the socket.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
