package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Transaction is a list of operations of which all are carried out, as if one after the other, or none.
type Transaction struct {
	Operations []Operation `json:"operations"`
	DryRun     bool        `json:"dry_run,omitempty"` // find out whether it can be done, and do nothing
}

// Names of operations: the verbs that change the configuration.
const (
	OpAddNetwork = "add-network"
	OpSetNetwork = "set-network"
	OpDelNetwork = "del-network"
	OpAddPort    = "add-port"
	OpSetPort    = "set-port"
	OpConnect    = "connect"
	OpDisconnect = "disconnect"
	OpDelPort    = "del-port"
	OpAddFDB     = "add-fdb"
	OpDelFDB     = "del-fdb"
	OpAddRoute   = "add-route"
	OpDelRoute   = "del-route"
	OpPublish    = "publish"
	OpUnpublish  = "unpublish"
	OpAddUplink  = "add-uplink"
	OpDelUplink  = "del-uplink"
	OpAddRule    = "add-rule"
	OpDelRule    = "del-rule"
)

// MaxOperations is how many operations a transaction can have.
const MaxOperations = 10000

// Operation is one verb and what it is asked. Its JSON is that of the request with one more key, "op". A change says by its key
// "name" what it is about.
type Operation struct {
	Op      string
	Request any // a pointer to the type that requests has for Op
}

// requests are the operations that there are, and what each takes.
var requests = map[string]func() any{
	OpAddNetwork: func() any { return new(NetworkRequest) },
	OpSetNetwork: func() any { return new(NetworkChange) },
	OpDelNetwork: func() any { return new(DeleteRequest) },
	OpAddPort:    func() any { return new(PortRequest) },
	OpSetPort:    func() any { return new(PortChange) },
	OpConnect:    func() any { return new(NamedConnect) },
	OpDisconnect: func() any { return new(NamedDisconnect) },
	OpDelPort:    func() any { return new(DeleteRequest) },
	OpAddFDB:     func() any { return new(FDBRequest) },
	OpDelFDB:     func() any { return new(FDBRequest) },
	OpAddRoute:   func() any { return new(RouteRequest) },
	OpDelRoute:   func() any { return new(RouteRequest) },
	OpPublish:    func() any { return new(PublishRequest) },
	OpUnpublish:  func() any { return new(UnpublishRequest) },
	OpAddUplink:  func() any { return new(UplinkRequest) },
	OpDelUplink:  func() any { return new(DeleteRequest) },
	OpAddRule:    func() any { return new(RuleRequest) },
	OpDelRule:    func() any { return new(RuleDeletion) },
}

// Operations returns the names of all operations, sorted.
func Operations() []string { return slices.Sorted(maps.Keys(requests)) }

// DeleteRequest names what is to be deleted in a transaction.
type DeleteRequest struct {
	Name     string `json:"name"`
	Force    bool   `json:"force,omitempty"`     // del-network: its ports too
	IfExists bool   `json:"if_exists,omitempty"` // that there is none is no error
}

// NamedConnect is a ConnectRequest in a transaction.
type NamedConnect struct {
	Name string `json:"name"` // of the port
	ConnectRequest
}

// NamedDisconnect is a DisconnectRequest in a transaction.
type NamedDisconnect struct {
	Name string `json:"name"` // of the port
	DisconnectRequest
	IfExists bool `json:"if_exists,omitempty"` // that there is none, or that it is on no network, is no error
}

// TransactionResult tells what a transaction did or, with DryRun, would do.
type TransactionResult struct {
	DryRun  bool              `json:"dry_run,omitempty"`
	Results []OperationResult `json:"results"` // in the order of the operations
}

// OperationResult tells what an operation did.
type OperationResult struct {
	Op        string         `json:"op"`
	Object    string         `json:"object"`              // name of the network, port or uplink, the MAC address, the prefix, or the rule
	Unchanged bool           `json:"unchanged,omitempty"` // it was so already, and that was said to be no error
	Network   *Network       `json:"network,omitempty"`   // of add-network and set-network
	Port      *Port          `json:"port,omitempty"`      // of add-port, set-port, connect and disconnect
	Route     *RouteEntry    `json:"route,omitempty"`     // of add-route
	Published *PublishedPort `json:"published,omitempty"` // of publish
	Uplink    *Uplink        `json:"uplink,omitempty"`    // of add-uplink
	Rule      *RuleEntry     `json:"rule,omitempty"`      // of add-rule
}

// Object returns the name of what the operation is about.
func (o *Operation) Object() string {
	switch r := o.Request.(type) {
	case *NetworkRequest:
		return r.Name
	case *PortRequest:
		return r.Name
	case *DeleteRequest:
		return r.Name
	case *NetworkChange:
		return named(r.Name)
	case *PortChange:
		return named(r.Name)
	case *NamedConnect:
		return r.Name
	case *NamedDisconnect:
		return r.Name
	case *FDBRequest:
		return r.MAC
	case *RouteRequest:
		return r.Prefix.String()
	case *PublishRequest:
		return r.Port
	case *UnpublishRequest:
		return r.Port
	case *UplinkRequest:
		return cmp.Or(r.Name, r.Interface)
	case *RuleRequest:
		return r.On
	case *RuleDeletion:
		return r.ID
	}
	return ""
}

func named(name *string) string {
	if name == nil {
		return ""
	}
	return *name
}

// MarshalJSON writes the request with the key "op".
func (o Operation) MarshalJSON() ([]byte, error) {
	op, err := json.Marshal(o.Op)
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(o.Request)
	if err != nil {
		return nil, err
	}
	out := append([]byte(`{"op":`), op...)
	if rest := bytes.TrimPrefix(request, []byte("{")); len(rest) > 1 {
		out = append(out, ',')
		return append(out, rest...), nil
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. It refuses unknown operations and keys; errors of its own are *Error.
func (o *Operation) UnmarshalJSON(b []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return Errorf(CodeInvalid, "an operation is no JSON object: %.200s", err)
	}
	if err := json.Unmarshal(keys["op"], &o.Op); err != nil {
		return Errorf(CodeInvalid, `an operation lacks its "op": use %s`, strings.Join(Operations(), ", "))
	}
	request, ok := requests[o.Op]
	if !ok {
		return Errorf(CodeInvalid, "%.40q can't be in a transaction, which has verbs that change the configuration only: use %s",
			o.Op, strings.Join(Operations(), ", "))
	}
	delete(keys, "op")
	rest, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	o.Request = request()
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	if err := d.Decode(o.Request); err != nil {
		return Errorf(CodeInvalid, "operation %s: %.200s", o.Op, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
