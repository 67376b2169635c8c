package store

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// Secret returns what the state keeps under a name: what fresh returns at the first time. Where that can't be written, the error comes with it.
func (s *Store) Secret(name string, fresh func() []byte) ([]byte, error) {
	var secret []byte
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(bucketSecrets); b != nil {
				secret = bytes.Clone(b.Get([]byte(name)))
			}
			return nil
		})
	})
	if err != nil {
		return fresh(), explain("read", s.path, err)
	}
	if secret != nil {
		return secret, nil
	}
	secret = fresh()
	return secret, s.Update(func(t *Tx) error { return t.put(bucketSecrets, name, secret) })
}
