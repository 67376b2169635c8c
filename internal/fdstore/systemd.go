package fdstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// listenFDsStart is the number of the first fd that systemd passes, SD_LISTEN_FDS_START.
	listenFDsStart = 3
	// maxListenNames bounds LISTEN_FDNAMES. The kernel refuses to execute a program with a variable of 128 KiB: the
	// unit would never start again.
	maxListenNames = 120 << 10
)

// systemd is the fd store of the service manager. It is given fds by datagrams (sd_notify) and gives them back only
// when the unit starts (sd_listen_fds). It ignores an fd that it has already, under whatever name.
type systemd struct {
	log   *slog.Logger
	limit int // FileDescriptorStoreMax=, 0 when unknown

	mu        sync.Mutex
	closed    bool            // guarded by mu
	inherited map[string]int  // guarded by mu; came at start and nobody took them yet: ours
	held      map[string]loan // guarded by mu; put or taken, in systemd's store
}

var _ Store = (*systemd)(nil)

func openSystemd(log *slog.Logger) (*systemd, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, errors.New("open systemd's fd store: NOTIFY_SOCKET is not set: start the daemon as a unit with" +
			" Type=notify and FileDescriptorStoreMax=, or choose another store")
	}
	limit, _ := strconv.Atoi(os.Getenv("FDSTORE"))
	inherited, err := listenFDs(log)
	if err != nil {
		return nil, fmt.Errorf("open systemd's fd store: %w", err)
	}
	return &systemd{log: log, limit: limit, inherited: inherited, held: map[string]loan{}}, nil
}

// listenFDs returns the fds that systemd has passed to this process, with close-on-exec set, and unsets the variables
// that say so: they are not for our children.
func listenFDs(log *slog.Logger) (map[string]int, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(v)
	}
	fds := map[string]int{}
	if pid != strconv.Itoa(os.Getpid()) {
		return fds, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number of fds", count)
	}
	for i := range n {
		fd := listenFDsStart + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("fd %d of LISTEN_FDS=%d: %w", fd, n, err)
		}
		name := "unknown" // as sd_listen_fds_with_names calls it
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		if _, twice := fds[name]; twice { // systemd passes the newest first
			log.Warn("systemd passed two fds of one name, the older is closed", "name", name)
			_ = unix.Close(fd)
			continue
		}
		fds[name] = fd
	}
	return fds, nil
}

func (s *systemd) Kind() string { return "systemd" }

// Check has nothing to do: systemd's store has no place that others can take away.
func (s *systemd) Check() {}

func (s *systemd) Put(name string, fd int) error {
	if err := checkName(name); err != nil {
		return err
	}
	l, err := borrow(fd)
	if err != nil {
		return fmt.Errorf("put %q in systemd's fd store: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.roomLocked(name); err != nil {
		return fmt.Errorf("put %q in systemd's fd store: %w", name, err)
	}
	// systemd keeps any number of fds under one name, so the older one has to go first.
	if err := s.removeLocked(name); err != nil {
		return fmt.Errorf("put %q in systemd's fd store: remove the older one: %w", name, err)
	}
	// Without FDPOLL=0 it forgets an fd as soon as that polls as hung up: a TAP whose device is gone is ours to delete.
	if err := notify("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", fd); err != nil {
		return fmt.Errorf("put %q in systemd's fd store: %w", name, err)
	}
	s.held[name] = l
	return nil
}

func (s *systemd) PutAll(fds map[string]int) error {
	for name, fd := range fds {
		if err := s.Put(name, fd); err != nil {
			return err
		}
	}
	return nil
}

// roomLocked refuses what systemd would drop without telling us.
func (s *systemd) roomLocked(name string) error {
	if s.closed {
		return ErrClosed
	}
	if s.hasLocked(name) {
		return nil
	}
	if s.limit > 0 && len(s.held)+len(s.inherited) >= s.limit {
		return fmt.Errorf("it is full with %d fds: raise FileDescriptorStoreMax= of the unit", s.limit)
	}
	size := len(name)
	for n := range s.held {
		size += len(n) + 1
	}
	for n := range s.inherited {
		size += len(n) + 1
	}
	if size > maxListenNames {
		return fmt.Errorf("all names together exceed %d bytes, which systemd could not pass back: use shorter names",
			maxListenNames)
	}
	return nil
}

func (s *systemd) hasLocked(name string) bool {
	_, inherited := s.inherited[name]
	_, held := s.held[name]
	return inherited || held
}

func (s *systemd) Delete(names ...string) error {
	if err := checkNames(names); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for _, name := range names {
		if err := s.removeLocked(name); err != nil {
			return fmt.Errorf("delete %q from systemd's fd store: %w", name, err)
		}
	}
	return nil
}

// removeLocked makes systemd and us forget name. All that systemd holds came through this process, so that a name
// that we do not know needs no message.
func (s *systemd) removeLocked(name string) error {
	if !s.hasLocked(name) {
		return nil
	}
	if err := notify("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
		return err
	}
	if fd, ok := s.inherited[name]; ok {
		_ = unix.Close(fd)
		delete(s.inherited, name)
	}
	delete(s.held, name)
	return nil
}

func (s *systemd) Take() (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	taken := make(map[string]int, len(s.held)+len(s.inherited))
	for name, l := range s.held {
		fd, err := l.dup()
		if err != nil {
			for _, fd := range taken {
				_ = unix.Close(fd)
			}
			return nil, fmt.Errorf("take %q from systemd's fd store: %w", name, err)
		}
		taken[name] = fd
	}
	// systemd has its own copies of what it passed us, so these are the caller's from now on.
	for name, fd := range s.inherited {
		l, err := borrow(fd)
		if err != nil {
			s.log.Error("an fd from systemd was closed by someone else", "name", name, "err", err)
			continue
		}
		s.held[name] = l
		taken[name] = fd
	}
	clear(s.inherited)
	return taken, nil
}

func (s *systemd) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, fd := range s.inherited {
		_ = unix.Close(fd)
	}
	clear(s.inherited)
	return nil
}
