package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"vswitch/internal/api"
)

// Check looks whether the file that is open is still the one at its path; what is written elsewhere is lost at the next start.
// One that was deleted, alone or with its directory, is written again, from what is open. One in whose place there is another
// is an *api.Error with CodeRefused: somebody means it to be used.
func (s *Store) Check() error {
	s.mu.RLock()
	err := s.inPlace()
	s.mu.RUnlock()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(s.inPlace(), fs.ErrNotExist) {
		return nil // somebody else was quicker
	}
	return s.rewriteLocked()
}

func (s *Store) inPlace() error {
	now, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		return explain("look at", s.path, err)
	case !os.SameFile(now, s.self):
		return api.Errorf(api.CodeRefused, "state file %s was replaced while vswitchd has another one open, and changes would be lost: restart vswitchd to go on with the new one, or put the old one back", s.path)
	}
	return nil
}

// rewriteLocked puts a copy of the open file in its place, and goes on with that.
func (s *Store) rewriteLocked() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return explain("make", s.dir, err)
	}
	if err := s.relockLocked(); err != nil {
		return err
	}
	temp := s.path + ".new"
	copyTo := func(tx *bbolt.Tx) error { return tx.CopyFile(temp, 0o600) }
	if err := guard(func() error { return s.db.View(copyTo) }); err != nil {
		os.Remove(temp)
		return explain("write", temp, err)
	}
	if err := syncFile(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return explain("create", s.path, err)
	}
	if err := syncFile(s.dir); err != nil {
		return err
	}
	old := s.db
	if err := s.use(); err != nil {
		return err
	}
	old.Close()
	s.log.Warn("the state file was deleted under us, and is written again", "path", s.path)
	return nil
}

// relockLocked takes the directory's lock again, if its file was deleted, too.
func (s *Store) relockLocked() error {
	path := filepath.Join(s.dir, pidName)
	ours, err := s.pidFile.Stat()
	if err != nil {
		return explain("look at", path, err)
	}
	if now, err := os.Stat(path); err == nil && os.SameFile(now, ours) {
		return nil
	}
	f, err := lock(path)
	if err != nil {
		return err
	}
	s.pidFile.Close()
	s.pidFile = f
	return nil
}
