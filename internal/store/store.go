package store

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"vswitch/internal/api"
)

// Names in the state directory.
const (
	stateName = "state.db"
	pidName   = "vswitchd.pid"
)

// Store is the intent on disk.
//
//	maps     id -> network, id -> port
//	writes   control verbs, before they answer: what a call wrote is on the disk when it returns
//	reads    the daemon when it starts
//	limits   the disk
//	safety   safe for concurrent use; one writer at a time. One process at a time, by a lock on the directory's pid file
type Store struct {
	db      *bbolt.DB
	pidFile *os.File
	damaged []Damaged
}

// Damaged is a record that could not be read when the store was opened. It is kept in the file, aside.
type Damaged struct {
	Key    string // "networks/ID" or "ports/ID"
	Reason string
}

// Open opens the store in dir, or makes a new one where there is none. Records that can't be read are put aside, logged and
// told by Damaged. Errors are *api.Error: CodeConflict when another process has the directory open, CodeRefused when the
// state is damaged or of a newer daemon, or the directory is not writable. It never starts anew in place of a file that it
// can't read.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, explain("make", dir, err)
	}
	pidFile, err := lock(filepath.Join(dir, pidName))
	if err != nil {
		return nil, err
	}
	s := &Store{pidFile: pidFile}
	if err := s.open(filepath.Join(dir, stateName), log); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(path string, log *slog.Logger) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return err
		}
		log.Info("made a new state file", "path", path)
	}
	db, err := open(path)
	if err != nil {
		return err
	}
	s.db = db
	if err := guard(s.setAside); err != nil {
		return explain("write", path, err)
	}
	for _, d := range s.damaged {
		log.Warn("a record is damaged and was put aside", "path", path, "record", d.Key, "reason", d.Reason)
	}
	return nil
}

// setAside moves the records that can't be read to a bucket of their own.
func (s *Store) setAside() error {
	var bad []func(tx *bbolt.Tx) error
	examine := func(tx *bbolt.Tx, bucket []byte, read func(key string, value []byte) error) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			err := read(string(k), v)
			if err == nil {
				return nil
			}
			key, value := string(k), append([]byte{}, v...)
			aside := string(bucket) + "/" + key
			s.damaged = append(s.damaged, Damaged{aside, err.Error()})
			bad = append(bad, func(tx *bbolt.Tx) error {
				return errors.Join(tx.Bucket(bucketDamaged).Put([]byte(aside), value), tx.Bucket(bucket).Delete([]byte(key)))
			})
			return nil
		})
	}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return errors.Join(
			examine(tx, bucketNetworks, func(key string, value []byte) error { _, err := decodeNetwork(key, value); return err }),
			examine(tx, bucketPorts, func(key string, value []byte) error { _, err := decodePort(key, value); return err }))
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, move := range bad {
			if err := move(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close ends the use of the store. It is idempotent, and waits for calls that are under way.
func (s *Store) Close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if s.pidFile != nil {
		s.pidFile.Close()
		s.pidFile = nil
	}
	return err
}

// Damaged returns the records that were put aside when the store was opened.
func (s *Store) Damaged() []Damaged { return s.damaged }

// Tx changes the store as one: all of it is written, or nothing.
type Tx struct{ tx *bbolt.Tx }

// Update calls f and writes what it changed. When it returns nil, the changes are on the disk; otherwise nothing has
// changed. f must not keep the Tx, nor call the Store. Errors are f's own, or *api.Error with CodeRefused when the disk is
// full or fails.
func (s *Store) Update(f func(*Tx) error) error {
	var own error
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			own = f(&Tx{tx})
			return own
		})
	})
	if err == nil || errors.Is(err, own) {
		return err
	}
	return explain("write", s.db.Path(), err)
}

// PutNetwork adds the network or replaces the one of the same id.
func (t *Tx) PutNetwork(n api.Network) error {
	v, err := encodeNetwork(n)
	if err != nil {
		return api.Errorf(api.CodeInternal, "store network %s: %v", n.Name, err)
	}
	return t.tx.Bucket(bucketNetworks).Put([]byte(n.ID), v)
}

// DeleteNetwork deletes the network with that id; that there is none is no error.
func (t *Tx) DeleteNetwork(id string) error { return t.tx.Bucket(bucketNetworks).Delete([]byte(id)) }

// PutPort adds the port or replaces the one of the same id.
func (t *Tx) PutPort(r PortRecord) error {
	v, err := encodePort(r)
	if err != nil {
		return api.Errorf(api.CodeInternal, "store port %s: %v", r.Port.Name, err)
	}
	return t.tx.Bucket(bucketPorts).Put([]byte(r.Port.ID), v)
}

// DeletePort deletes the port with that id; that there is none is no error.
func (t *Tx) DeletePort(id string) error { return t.tx.Bucket(bucketPorts).Delete([]byte(id)) }

// PutNetwork is Tx.PutNetwork alone.
func (s *Store) PutNetwork(n api.Network) error {
	return s.Update(func(tx *Tx) error { return tx.PutNetwork(n) })
}

// DeleteNetwork is Tx.DeleteNetwork alone.
func (s *Store) DeleteNetwork(id string) error {
	return s.Update(func(tx *Tx) error { return tx.DeleteNetwork(id) })
}

// PutPort is Tx.PutPort alone.
func (s *Store) PutPort(r PortRecord) error {
	return s.Update(func(tx *Tx) error { return tx.PutPort(r) })
}

// DeletePort is Tx.DeletePort alone.
func (s *Store) DeletePort(id string) error {
	return s.Update(func(tx *Tx) error { return tx.DeletePort(id) })
}

// Networks returns all networks by id.
func (s *Store) Networks() ([]api.Network, error) { return all(s, bucketNetworks, decodeNetwork) }

// Ports returns all ports by id.
func (s *Store) Ports() ([]PortRecord, error) { return all(s, bucketPorts, decodePort) }

func all[T any](s *Store, bucket []byte, decode func(key string, value []byte) (T, error)) (records []T, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
				r, err := decode(string(k), v)
				if err != nil {
					return api.Errorf(api.CodeInternal, "read record %s/%s: %v", bucket, k, err)
				}
				records = append(records, r)
				return nil
			})
		})
	})
	if e := new(api.Error); err != nil && !errors.As(err, &e) {
		err = explain("read", s.db.Path(), err)
	}
	return records, err
}
