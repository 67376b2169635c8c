package store

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"

	"vswitch/internal/api"
)

// Tx changes the store as one: all of it is written, or nothing.
type Tx struct{ tx *bbolt.Tx }

// queue holds the updates that wait for the disk. While one goroutine writes, others add theirs, and the next of them writes
// all: a thousand verbs at once wait for a few writes, and a single one waits for no other.
type queue struct {
	writing sync.Mutex // held over a write

	mu      sync.Mutex
	waiting []*update // guarded by mu
}

type update struct {
	f    func(*Tx) error
	done chan error // has room for the result
}

// Update calls f and writes what it changed. When it returns nil, the changes are on the disk; otherwise nothing has
// changed. f must not keep the Tx, nor call the Store; it may be called twice. Errors are f's own, or *api.Error with
// CodeRefused when the disk is full or fails, or the file is no longer in its place.
func (s *Store) Update(f func(*Tx) error) error {
	u := &update{f, make(chan error, 1)}
	q := &s.queue
	q.mu.Lock()
	q.waiting = append(q.waiting, u)
	q.mu.Unlock()
	q.writing.Lock()
	defer q.writing.Unlock()
	q.mu.Lock()
	group := q.waiting // empty when another has written ours
	q.waiting = nil
	q.mu.Unlock()
	s.writeGroup(group)
	return <-u.done
}

// writeGroup writes the updates at once. When one of them fails, each is written by itself, so that none fails for another's
// sake.
func (s *Store) writeGroup(group []*update) {
	if len(group) > 1 {
		err := s.write(func(tx *bbolt.Tx) error {
			one := &Tx{tx}
			for _, u := range group {
				if err := u.f(one); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			for _, u := range group {
				u.done <- nil
			}
			return
		}
	}
	for _, u := range group {
		u.done <- s.write(func(tx *bbolt.Tx) error { return u.f(&Tx{tx}) })
	}
}

// write is Update for the whole file.
func (s *Store) write(f func(*bbolt.Tx) error) error {
	if err := s.Check(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var own error
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			own = f(tx)
			return own
		})
	})
	if err == nil || errors.Is(err, own) {
		return err
	}
	return explain("write", s.path, err)
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

// PutRoute adds the route or replaces the one of the same key.
func (t *Tx) PutRoute(r api.StaticRoute) error {
	v, err := encodeRoute(r)
	if err != nil {
		return api.Errorf(api.CodeInternal, "store route %v: %v", r.Prefix, err)
	}
	return t.put(bucketRoutes, routeID(r.Key()), v)
}

// DeleteRoute deletes the route with that key; that there is none is no error.
func (t *Tx) DeleteRoute(k api.RouteKey) error { return t.delete(bucketRoutes, routeID(k)) }

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

// PutRule adds the rule or replaces the one of the same id.
func (t *Tx) PutRule(r api.Rule) error {
	v, err := encodeRule(r)
	if err != nil {
		return api.Errorf(api.CodeInternal, "store rule %s: %v", r.ID, err)
	}
	b, err := t.tx.CreateBucketIfNotExists(bucketRules)
	if err != nil {
		return err
	}
	return b.Put([]byte(r.ID), v)
}

// DeleteRule deletes the rule with that id; that there is none is no error.
func (t *Tx) DeleteRule(id string) error {
	b := t.tx.Bucket(bucketRules)
	if b == nil {
		return nil
	}
	return b.Delete([]byte(id))
}
