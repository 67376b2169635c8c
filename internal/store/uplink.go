package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"vswitch/internal/api"
)

type uplinkValue struct {
	Version int        `json:"version"`
	Uplink  api.Uplink `json:"uplink"`
}

// HostChanges are what an uplink changed of the host, also while its own record is not written yet, or deleted already. The store does not
// look into it.
type HostChanges struct {
	ID      string          `json:"id"` // of the uplink
	Changes json.RawMessage `json:"changes"`
}

type changesValue struct {
	Version int `json:"version"`
	HostChanges
}

// PutUplink adds the uplink or replaces the one of the same id.
func (t *Tx) PutUplink(u api.Uplink) error {
	u.Status = api.UplinkStatus{}
	v, err := encode(uplinkValue{schema, u})
	if err == nil {
		err = checkUplink(&u)
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "store uplink %s: %v", u.Name, err)
	}
	return t.put(bucketUplinks, u.ID, v)
}

// DeleteUplink deletes the uplink with that id; that there is none is no error. What it changed of the host is not its affair.
func (t *Tx) DeleteUplink(id string) error { return t.delete(bucketUplinks, id) }

// PutHostChanges writes down what an uplink changed of the host, in place of what it had changed.
func (t *Tx) PutHostChanges(c HostChanges) error {
	v, err := encode(changesValue{schema, c})
	if err != nil {
		return api.Errorf(api.CodeInternal, "store what uplink %s changes of the host: %v", c.ID, err)
	}
	return t.put(bucketChanges, c.ID, v)
}

// DeleteHostChanges says that nothing is changed any more.
func (t *Tx) DeleteHostChanges(id string) error { return t.delete(bucketChanges, id) }

// put writes a record into a bucket that may not be there yet, and delete takes one out.
func (t *Tx) put(bucket []byte, key string, value []byte) error {
	b, err := t.tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), value)
}

func (t *Tx) delete(bucket []byte, key string) error {
	b := t.tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

// Uplinks returns all uplinks by id.
func (s *Store) Uplinks() ([]api.Uplink, error) { return all(s, bucketUplinks, decodeUplink) }

// HostChanges returns what all uplinks changed of the host, by their ids.
func (s *Store) HostChanges() ([]HostChanges, error) { return all(s, bucketChanges, decodeChanges) }

func decodeUplink(key string, value []byte) (api.Uplink, error) {
	var v uplinkValue
	if err := decode(value, &v, &v.Version); err != nil {
		return api.Uplink{}, err
	}
	if v.Uplink.ID != key {
		return api.Uplink{}, fmt.Errorf("it is about uplink %.70q", v.Uplink.ID)
	}
	return v.Uplink, checkUplink(&v.Uplink)
}

func decodeChanges(key string, value []byte) (HostChanges, error) {
	var v changesValue
	if err := decode(value, &v, &v.Version); err != nil {
		return HostChanges{}, err
	}
	if v.ID != key {
		return HostChanges{}, fmt.Errorf("it is about uplink %.70q", v.ID)
	}
	return v.HostChanges, nil
}

func checkUplink(u *api.Uplink) error {
	if u.ID == "" {
		return errors.New("it has no id")
	}
	if err := api.CheckName("uplink", u.Name); err != nil {
		return err
	}
	return api.CheckName("router", u.Router)
}
