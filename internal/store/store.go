package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// schema is the version of what is stored. A state of a higher one is refused: it may mean what we don't understand.
const schema = 1

const (
	fileName = "vswitch.db"
	pidName  = "vswitchd.pid"

	// lockTimeout is how long another daemon that is on its way out may hold the state.
	lockTimeout = 2 * time.Second
)

var (
	bucketMeta     = []byte("meta")
	bucketNetworks = []byte("networks")
	bucketPorts    = []byte("ports")
	bucketAside    = []byte("unreadable") // records that could not be read, by bucket/key
	keySchema      = []byte("schema")
)

// PortRecord is a port with how far its attachment got: "adding", "present" or "deleting".
type PortRecord struct {
	api.Port
	Phase string `json:"phase"`
}

// Store is the state directory's file. What its methods wrote is on disk when they return. They are safe for concurrent use.
type Store struct {
	db  *bbolt.DB
	dir string
	log *slog.Logger
}

// Open opens the state in dir, which is made when missing. It fails with an *api.Error when another daemon uses the state, or
// when it is torn, unreadable or of a later version: it never starts from nothing instead.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w; choose another with --state-dir", err)
	}
	path := filepath.Join(dir, fileName)
	db, err := open(path)
	if err != nil {
		return nil, openError(dir, path, err)
	}
	s := &Store{db: db, dir: dir, log: log}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := os.WriteFile(filepath.Join(dir, pidName), []byte(pid), 0o600); err != nil {
		log.Warn("write the pid file; a second daemon can't name this one", "err", err)
	}
	return s, nil
}

// open is bbolt's, which panics on some torn files.
func open(path string) (db *bbolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %v", berrors.ErrInvalid, p)
		}
	}()
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
}

// openError says what to do about a state that can't be opened.
func openError(dir, path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		who := "another vswitchd"
		if b, rerr := os.ReadFile(filepath.Join(dir, pidName)); rerr == nil {
			who = "the vswitchd of pid " + strings.TrimSpace(string(b))
		}
		e := api.Errorf(api.CodeConflict, "%s uses the state in %s; stop it, or give this one another --state-dir", who, dir)
		e.Object = who
		return e
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return api.Errorf(api.CodeRefused, "open %s: %v; vswitchd must be able to write there, or choose another --state-dir", path, err)
	case errors.Is(err, unix.ENOSPC):
		return api.Errorf(api.CodeRefused, "open %s: %v; make room on that disk", path, err)
	}
	return api.Errorf(api.CodeRefused, "%s is damaged or no state of vswitch: %v; restore it from a copy, or move it away to start "+
		"without networks and ports", path, err)
}

// prepare makes the buckets and holds the version against ours.
func (s *Store) prepare() error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketNetworks, bucketPorts, bucketAside} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		v := meta.Get(keySchema)
		if v == nil {
			return meta.Put(keySchema, []byte(strconv.Itoa(schema)))
		}
		n, err := strconv.Atoi(string(v))
		if err != nil || n < 1 {
			return api.Errorf(api.CodeRefused, "the state in %s has version %.20q, which no vswitch writes; restore it from a copy", s.dir, v)
		}
		if n > schema {
			return api.Errorf(api.CodeRefused, "the state in %s is of version %d, this vswitch knows %d: use the newer vswitch again", s.dir, n, schema)
		}
		return nil
	})
	var known *api.Error
	if err != nil && !errors.As(err, &known) {
		return fmt.Errorf("prepare the state in %s: %w", s.dir, err)
	}
	return err
}

// Close lets go of the state.
func (s *Store) Close() error {
	if err := os.Remove(filepath.Join(s.dir, pidName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("remove the pid file", "err", err)
	}
	return s.db.Close()
}

// PutNetwork writes a network under its id.
func (s *Store) PutNetwork(n api.Network) error {
	n.Ports = 0
	return s.put(bucketNetworks, n.ID, n)
}

// DeleteNetwork removes a network; it is no error when there is none.
func (s *Store) DeleteNetwork(id string) error { return s.remove(bucketNetworks, id) }

// Networks returns all networks by id.
func (s *Store) Networks() ([]api.Network, error) { return all[api.Network](s, bucketNetworks) }

// PutPort writes a port under its id.
func (s *Store) PutPort(r PortRecord) error {
	r.Status = api.PortStatus{}
	return s.put(bucketPorts, r.ID, r)
}

// DeletePort removes a port; it is no error when there is none.
func (s *Store) DeletePort(id string) error { return s.remove(bucketPorts, id) }

// Ports returns all ports by id.
func (s *Store) Ports() ([]PortRecord, error) { return all[PortRecord](s, bucketPorts) }

func (s *Store) put(bucket []byte, id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a record: %w", err)
	}
	err = s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), b) })
	return s.writeError(err)
}

func (s *Store) remove(bucket []byte, id string) error {
	return s.writeError(s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(id)) }))
}

// writeError says what to do about a state that can't be written. The verb that wanted to has not happened.
func (s *Store) writeError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return api.Errorf(api.CodeRefused, "write the state in %s: %v; make room on that disk and try again", s.dir, err)
	}
	return api.Errorf(api.CodeRefused, "write the state in %s: %v", s.dir, err)
}

// all reads a bucket. Records that can't be read are reported and moved aside, so that one bad record costs no other.
func all[T any](s *Store, bucket []byte) ([]T, error) {
	var out []T
	bad := make(map[string][]byte)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			var r T
			if err := json.Unmarshal(v, &r); err != nil {
				s.log.Error("a record of the state is unreadable; it is kept aside", "bucket", string(bucket), "id", string(k), "err", err)
				bad[string(k)] = append([]byte(nil), v...)
				return nil
			}
			out = append(out, r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the state in %s: %w", s.dir, err)
	}
	if len(bad) == 0 {
		return out, nil
	}
	return out, s.writeError(s.db.Update(func(tx *bbolt.Tx) error {
		for k, v := range bad {
			if err := tx.Bucket(bucketAside).Put([]byte(string(bucket)+"/"+k), v); err != nil {
				return err
			}
			if err := tx.Bucket(bucket).Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	}))
}
