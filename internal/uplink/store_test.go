package uplink_test

import (
	"sync"

	"golang.org/x/sys/unix"

	"vswitch/internal/uplink"
)

// store holds duplicates of fds, as a keeper does.
type store struct {
	mu  sync.Mutex
	fds map[string]int // guarded by mu
}

func (s *store) PutAll(fds map[string]int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if old, ok := s.fds[name]; ok {
			_ = unix.Close(old)
		}
		s.fds[name] = dup
	}
	return nil
}

func (s *store) Delete(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if fd, ok := s.fds[name]; ok {
			_ = unix.Close(fd)
			delete(s.fds, name)
		}
	}
	return nil
}

// take returns duplicates by what they are.
func (s *store) take() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[string]int)
	for name, fd := range s.fds {
		if _, what, ok := uplink.SplitFDName(name); ok {
			held[what], _ = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		}
	}
	return held
}

func closeAll(fds map[string]int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func (s *store) names() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fds)
}

func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, fd := range s.fds {
		_ = unix.Close(fd)
		delete(s.fds, name)
	}
}
