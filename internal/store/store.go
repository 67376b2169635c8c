package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

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
//	maps     id -> network, id -> port, (router, prefix, metric) -> static route, id -> rule, id -> uplink, id -> what that changed of the host
//	writes   control verbs, before they answer: what a call wrote is on the disk when it returns
//	reads    the daemon when it starts
//	limits   the disk
//	safety   safe for concurrent use; one writer at a time. One process at a time, by a lock on the directory's pid file
type Store struct {
	dir, path string
	log       *slog.Logger

	mu      sync.RWMutex // held for reading while db is used
	db      *bbolt.DB    // guarded by mu
	self    fs.FileInfo  // guarded by mu; of db's file
	pidFile *os.File     // guarded by mu
	damaged []Damaged    // guarded by mu

	queue queue
}

// Damaged is a record that makes no sense. It is kept in the file, aside.
type Damaged struct {
	Key    string // "networks/ID", "ports/ID", "routes/ROUTER/PREFIX/METRIC", "rules/ID", "uplinks/ID" or "changes/ID"
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
	s := &Store{dir: dir, path: filepath.Join(dir, stateName), log: log, pidFile: pidFile}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open() error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		if err := create(s.path); err != nil {
			return err
		}
		s.log.Info("made a new state file", "path", s.path)
	}
	if err := s.use(); err != nil {
		return err
	}
	return s.examine()
}

// use opens the file at its path. Callers hold mu, or nobody else knows the store yet.
func (s *Store) use() error {
	db, err := open(s.path)
	if err != nil {
		return err
	}
	self, err := os.Stat(s.path)
	if err != nil {
		db.Close()
		return explain("look at", s.path, err)
	}
	s.db, s.self = db, self
	return nil
}

// examine puts the records aside that can't be read.
func (s *Store) examine() error {
	bad := make(map[string]error) // by key
	look := func(tx *bbolt.Tx, bucket []byte, read func(key string, value []byte) error) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if v == nil { // it says that it is a bucket, and could not be put aside
				return damaged(s.path, fmt.Errorf("%s/%q is no record", bucket, k))
			}
			if err := read(string(k), v); err != nil {
				bad[string(bucket)+"/"+string(k)] = err
			}
			return nil
		})
	}
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			return errors.Join(
				look(tx, bucketNetworks, func(key string, value []byte) error { _, err := decodeNetwork(key, value); return err }),
				look(tx, bucketPorts, func(key string, value []byte) error { _, err := decodePort(key, value); return err }),
				look(tx, bucketRoutes, func(key string, value []byte) error { _, err := decodeRoute(key, value); return err }),
				look(tx, bucketUplinks, func(key string, value []byte) error { _, err := decodeUplink(key, value); return err }),
				look(tx, bucketChanges, func(key string, value []byte) error { _, err := decodeChanges(key, value); return err }),
				look(tx, bucketRules, func(key string, value []byte) error { _, err := decodeRule(key, value); return err }))
		})
	})
	if e := new(api.Error); errors.As(err, &e) {
		return e
	}
	if err != nil {
		return explain("read", s.path, err)
	}
	return s.setAside(bad)
}

// SetNetworkAside moves the record of the network, which makes no sense, to where it stays and is not read again.
func (s *Store) SetNetworkAside(id string, reason error) error {
	return s.setAside(map[string]error{string(bucketNetworks) + "/" + id: reason})
}

// SetPortAside is SetNetworkAside for a port.
func (s *Store) SetPortAside(id string, reason error) error {
	return s.setAside(map[string]error{string(bucketPorts) + "/" + id: reason})
}

// setAside moves records to the bucket of the damaged ones. Their text goes to the log, so that they can be put right by hand.
func (s *Store) setAside(reasons map[string]error) error {
	if len(reasons) == 0 {
		return nil
	}
	records := make(map[string][]byte)
	err := s.write(func(tx *bbolt.Tx) error {
		for key := range reasons {
			bucket, id, _ := strings.Cut(key, "/")
			from := tx.Bucket([]byte(bucket))
			records[key] = bytes.Clone(from.Get([]byte(id)))
			if err := errors.Join(tx.Bucket(bucketDamaged).Put([]byte(key), records[key]), from.Delete([]byte(id))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(reasons)) {
		s.damaged = append(s.damaged, Damaged{key, reasons[key].Error()})
		s.log.Warn("a record of the state makes no sense and was put aside: the start goes on without", "path", s.path, "record", key,
			"reason", reasons[key], "content", fmt.Sprintf("%.4096s", records[key]))
	}
	return nil
}

// Close ends the use of the store. It is idempotent, and waits for calls that are under way.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// Damaged returns the records that were put aside since the store was opened.
func (s *Store) Damaged() []Damaged {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.damaged)
}

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

// Routes returns all static routes by router, in no order of meaning.
func (s *Store) Routes() ([]api.StaticRoute, error) { return all(s, bucketRoutes, decodeRoute) }

// Rules returns all rules, in no order of meaning.
func (s *Store) Rules() ([]api.Rule, error) { return all(s, bucketRules, decodeRule) }

func all[T any](s *Store, bucket []byte, decode func(key string, value []byte) (T, error)) (records []T, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			if b == nil {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
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
		err = explain("read", s.path, err)
	}
	return records, err
}
