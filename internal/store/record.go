package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"vswitch/internal/api"
)

// schema is the version of the file and of each record in it. It goes up when older daemons could not understand what is
// written; a new field that they may ignore does not raise it.
const schema = 1

// Phase says how far the attachment of a port has come. A daemon that starts finds ports in any of them: it finishes or
// rolls back what is being added, and finishes what is being deleted.
//
//	          Put                 Put                  Put                    Delete
//	(nothing) ---> PhaseAdding -------> PhasePresent -------> PhaseDeleting -------> (nothing)
type Phase string

const (
	PhaseAdding   Phase = "adding"   // written before the first change to the system
	PhasePresent  Phase = "present"  // written after the last
	PhaseDeleting Phase = "deleting" // written before the first step of removal
)

// PortRecord is what is kept of a port.
type PortRecord struct {
	Port   api.Port  `json:"port"` // intent; its Status is not stored
	Phase  Phase     `json:"phase"`
	Remake bool      `json:"remake,omitempty"` // present, but its device was taken away for a while: make it anew
	Next   *api.Port `json:"next,omitempty"`   // present: what it is being made; a start that finds it goes back to Port
	Device Device    `json:"device,omitzero"`
}

// Device is where the port's device was when the record was written. The store does not look into it.
type Device struct {
	Ifindex    int    `json:"ifindex,omitempty"` // in the container's namespace
	HostIf     string `json:"host_if,omitempty"` // veth: our end's name in the private namespace
	NetnsDev   uint64 `json:"netns_dev,omitempty"`
	NetnsInode uint64 `json:"netns_inode,omitempty"`
}

type networkValue struct {
	Version int         `json:"version"`
	Network api.Network `json:"network"`
}

type portValue struct {
	Version int `json:"version"`
	PortRecord
}

type routeValue struct {
	Version int             `json:"version"`
	Route   api.StaticRoute `json:"route"`
}

// routeID is the key of a route's record.
func routeID(k api.RouteKey) string { return fmt.Sprintf("%s/%v/%d", k.Router, k.Prefix, k.Metric) }

func encodeRoute(r api.StaticRoute) ([]byte, error) {
	if err := checkRoute(&r); err != nil {
		return nil, err
	}
	return encode(routeValue{schema, r})
}

func decodeRoute(key string, value []byte) (api.StaticRoute, error) {
	var v routeValue
	if err := decode(value, &v, &v.Version); err != nil {
		return api.StaticRoute{}, err
	}
	if id := routeID(v.Route.Key()); id != key {
		return api.StaticRoute{}, fmt.Errorf("it is about route %.140q", id)
	}
	return v.Route, checkRoute(&v.Route)
}

func checkRoute(r *api.StaticRoute) error {
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
		return fmt.Errorf("%v is no prefix of a route", r.Prefix)
	}
	return api.CheckName("router", r.Router)
}

type ruleValue struct {
	Version int      `json:"version"`
	Rule    api.Rule `json:"rule"`
}

func encodeRule(r api.Rule) ([]byte, error) {
	if r.ID == "" {
		return nil, errors.New("a rule has no id")
	}
	return encode(ruleValue{schema, r})
}

func decodeRule(key string, value []byte) (api.Rule, error) {
	var v ruleValue
	err := decode(value, &v, &v.Version)
	if err == nil && v.Rule.ID != key {
		err = fmt.Errorf("it is about rule %.70q", v.Rule.ID)
	}
	return v.Rule, err
}

func encodeNetwork(n api.Network) ([]byte, error) {
	n.Ports = 0
	if err := checkNetwork(&n); err != nil {
		return nil, err
	}
	return encode(networkValue{schema, n})
}

func encodePort(r PortRecord) ([]byte, error) {
	r.Port.Status = api.PortStatus{}
	if r.Next != nil {
		next := *r.Next
		next.Status = api.PortStatus{}
		r.Next = &next
	}
	if err := checkPort(&r); err != nil {
		return nil, err
	}
	return encode(portValue{schema, r})
}

// sumSize is how many bytes stand behind the JSON of a record: its CRC-32C, big-endian, in hexadecimal.
const sumSize = 2 * crc32.Size

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(b, sum(b)...), nil
}

// sum tells a record that was written from one that has been changed since: JSON alone would take another digit for another address.
func sum(b []byte) []byte {
	return fmt.Appendf(nil, "%0*x", sumSize, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeNetwork(key string, value []byte) (api.Network, error) {
	var v networkValue
	if err := decode(value, &v, &v.Version); err != nil {
		return api.Network{}, err
	}
	if v.Network.ID != key {
		return api.Network{}, fmt.Errorf("it is about network %.70q", v.Network.ID)
	}
	return v.Network, checkNetwork(&v.Network)
}

func decodePort(key string, value []byte) (PortRecord, error) {
	var v portValue
	if err := decode(value, &v, &v.Version); err != nil {
		return PortRecord{}, err
	}
	if v.Port.ID != key {
		return PortRecord{}, fmt.Errorf("it is about port %.70q", v.Port.ID)
	}
	return v.PortRecord, checkPort(&v.PortRecord)
}

func decode(value []byte, v any, version *int) error {
	end := len(value) - sumSize
	if end < 0 || string(sum(value[:end])) != string(value[end:]) {
		return errors.New("its checksum is wrong")
	}
	value = value[:end]
	if err := json.Unmarshal(value, v); err != nil {
		return err
	}
	if *version != schema {
		return fmt.Errorf("its version is %d, not %d", *version, schema)
	}
	return nil
}

// checkNetwork refuses records without what makes them one. It guards against damage, not against foolish intent.
func checkNetwork(n *api.Network) error {
	if n.ID == "" {
		return errors.New("it has no id")
	}
	return api.CheckName("network", n.Name)
}

func checkPort(r *PortRecord) error {
	if r.Port.ID == "" {
		return errors.New("it has no id")
	}
	if err := api.CheckName("port", r.Port.Name); err != nil {
		return err
	}
	switch r.Phase {
	case PhaseAdding, PhasePresent, PhaseDeleting:
		if r.Port.Network == "" && r.Phase != PhaseAdding { // disconnected
			return nil
		}
		return api.CheckName("network", r.Port.Network)
	}
	return fmt.Errorf("there is no phase %.70q", r.Phase)
}
