package vswitch

import (
	"vswitch/internal/api"
	"vswitch/internal/machine"
)

// reservedFiles is how many file descriptors ports leave to the rest: to the clients of two sockets, to the state, to what verbs
// and looks open for a moment. Where fewer than twice as many may be open, half of them are reserved.
const reservedFiles = 384

func reserve(limit int) int { return min(reservedFiles, limit/2) }

// filesLeft returns how many file descriptors are left for ports, and the limit of open files.
func (s *Switch) filesLeft() (left, limit int, err error) {
	if limit, err = machine.OpenFiles(); err != nil {
		return 0, 0, err
	}
	left = limit - reserve(limit)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.ports {
		switch {
		case e.dev == nil:
			left -= len(e.held)
		case e.dev.dropFD >= 0:
			left -= 2
		default:
			left--
		}
	}
	return max(0, left), limit, nil
}

// checkFiles refuses a port for which no file descriptor is left, before anything is done: existing ports and the control socket
// shall go on.
func (s *Switch) checkFiles() error {
	left, limit, err := s.filesLeft()
	if err == nil && left == 0 {
		err = api.Errorf(api.CodeExhausted, "no file descriptor is left for another port: the limit of open files is %d; raise it (LimitNOFILE= in the unit, or ulimit -n) and restart vswitchd, or delete ports", limit)
	}
	return err
}
