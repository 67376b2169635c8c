package server

import (
	"context"
	"iter"

	"vswitch/internal/api"
)

// Backend is what the server needs from the switch.
//
// Every method may be called from many goroutines at once. Its ctx ends when the client goes away or the server gives up draining;
// a verb that is interrupted so is done or undone, never half, and returns soon. An error that is or wraps an *api.Error is told to the
// client as it is; any other one is logged and told as internal. "Not found" is an *api.Error of code api.CodeNotFound.
type Backend interface {
	Networks
	Ports
	FDB
	Routing
	Uplinks
	Rules
	Transactor
	Configurer
	Inspector
}

// Networks are the verbs of the noun network.
type Networks interface {
	AddNetwork(ctx context.Context, r api.NetworkRequest) (api.Network, error)
	SetNetwork(ctx context.Context, name string, r api.NetworkChange) (api.Network, error)
	DeleteNetwork(ctx context.Context, name string, force bool) error
	Networks(ctx context.Context) ([]api.Network, error)
	Network(ctx context.Context, name string) (api.Network, error)
}

// Ports are the verbs of the noun port.
type Ports interface {
	AddPort(ctx context.Context, r api.PortRequest) (api.Port, error)
	SetPort(ctx context.Context, name string, r api.PortChange) (api.Port, error)
	Connect(ctx context.Context, name string, r api.ConnectRequest) (api.Port, error)
	Disconnect(ctx context.Context, name string, r api.DisconnectRequest) (api.Port, error)
	DeletePort(ctx context.Context, name string) error
	Ports(ctx context.Context) ([]api.Port, error)
	Port(ctx context.Context, name string) (api.Port, error)
}

// FDB are the verbs of the MAC tables. An empty network means all networks.
type FDB interface {
	FDB(ctx context.Context, network string) ([]api.FDBEntry, error)
	AddFDB(ctx context.Context, r api.FDBRequest) error
	DeleteFDB(ctx context.Context, r api.FDBRequest) error
	FlushFDB(ctx context.Context, network string) (int, error) // the number of entries removed; static ones stay
}

// Routing are the verbs of routers. An empty router, network or port means all of them.
type Routing interface {
	Routes(ctx context.Context, router string) ([]api.RouteEntry, error)
	AddRoute(ctx context.Context, r api.RouteRequest) (api.RouteEntry, error)
	DeleteRoute(ctx context.Context, r api.RouteRequest) error
	Published(ctx context.Context, port string) ([]api.PublishedPort, error)
	Publish(ctx context.Context, r api.PublishRequest) (api.PublishedPort, error)
	Unpublish(ctx context.Context, r api.UnpublishRequest) error
	Neighbors(ctx context.Context, network string) ([]api.Neighbor, error)
	FlushNeighbors(ctx context.Context, network string) (int, error)                          // the number of entries removed
	Connections(ctx context.Context, f api.ConnectionFilter) iter.Seq2[api.Connection, error] // an error is the last
	FlushConnections(ctx context.Context, f api.ConnectionFilter) (int, error)                // likewise
}

// Uplinks are the verbs of the noun uplink.
type Uplinks interface {
	AddUplink(ctx context.Context, r api.UplinkRequest) (api.Uplink, error)
	DeleteUplink(ctx context.Context, name string) error
	Uplinks(ctx context.Context) ([]api.Uplink, error)
	Uplink(ctx context.Context, name string) (api.Uplink, error)
}

// Rules are the verbs of rules. An empty name means those of all networks and ports.
type Rules interface {
	Rules(ctx context.Context, on string) ([]api.RuleEntry, error)
	AddRule(ctx context.Context, r api.RuleRequest) (api.RuleEntry, error)
	DeleteRule(ctx context.Context, r api.RuleDeletion) error
}

// Transactor carries out several verbs as one.
type Transactor interface {
	Transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error)
}

// Configurer reads and writes the whole configuration.
type Configurer interface {
	Config(ctx context.Context) (api.Config, error)
	Apply(ctx context.Context, c api.Config, o api.ApplyOptions) (api.Applied, error)
}

// Inspector tells what the switch does and would do. It changes nothing but the flow cache.
type Inspector interface {
	Flows(ctx context.Context, port string) ([]api.Flow, error) // an empty port means all
	FlushFlows(ctx context.Context) (int, error)                // the number of flows forgotten
	Trace(ctx context.Context, r api.TraceRequest) (api.Trace, error)
	Stats(ctx context.Context) (api.Stats, error)
	Drops(ctx context.Context) ([]api.Drop, error)
	Show(ctx context.Context) (api.Show, error)
	Daemon(ctx context.Context) (api.Daemon, error)
}
