package vswitch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vswitch/internal/hostport"
	"vswitch/internal/link"
	"vswitch/internal/uplink"
)

// takeHeld gets the kept file descriptors, by port and what they are, and the private namespace among them.
func (s *Switch) takeHeld() error {
	fds, err := s.fds.Take()
	if err != nil {
		return fmt.Errorf("take over file descriptors: %w", err)
	}
	held := make(map[string]map[string]int)
	s.held, s.heldUplinks = held, make(map[string]map[string]int)
	for name, fd := range fds {
		if id, what, ok := uplink.SplitFDName(name); ok {
			if s.heldUplinks[id] == nil {
				s.heldUplinks[id] = make(map[string]int)
			}
			s.heldUplinks[id][what] = fd
			continue
		}
		if name == fdPrivate {
			if s.private, err = link.FromFD(fd, ""); err != nil {
				s.log.Warn("the kept namespace is unusable; a new one is made", "err", err)
				s.private = nil
			}
			continue
		}
		if name == hostport.FDName {
			s.heldHost = fd
			continue
		}
		id, what, ok := splitFDName(name)
		if !ok {
			s.log.Warn("an unknown file descriptor was kept; it is closed", "name", name)
			s.dropHeld(name, fd)
			continue
		}
		if held[id] == nil {
			held[id] = make(map[string]int)
		}
		held[id][what] = fd
	}
	return s.fail.at("start.taken")
}

// makePrivate makes the private namespace, if none was kept.
func (s *Switch) makePrivate() (err error) {
	if s.private != nil {
		return nil
	}
	if s.private, err = link.NewPrivate(); errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: run vswitchd as root", err)
	} else if err != nil {
		return err
	}
	s.fresh = true
	if err := s.fds.Put(fdPrivate, s.private.FD()); err != nil {
		return fmt.Errorf("keep the private namespace: %w", err)
	}
	return s.fail.at("start.private")
}

func (s *Switch) dropHeld(name string, fd int) {
	if err := s.fds.Delete(name); err != nil {
		s.log.Warn("take a file descriptor out of the store", "name", name, "err", err)
	}
	unix.Close(fd)
}
