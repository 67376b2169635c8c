package api

// Config is a whole configuration: what a user asks for, without what has its default.
type Config struct {
	Networks map[string]NetworkConfig `json:"networks"`          // by name
	Routers  map[string]RouterConfig  `json:"routers,omitempty"` // by name
	Uplinks  map[string]UplinkConfig  `json:"uplinks,omitempty"` // by name
}

// RouterConfig is what a router has of its own. Routers themselves come with the networks that join them.
type RouterConfig struct {
	Routes []RouteConfig `json:"routes,omitempty"`
}

// UplinkConfig is an uplink as an UplinkRequest asks for it. The request's Name and MayExist are not used.
type UplinkConfig struct {
	UplinkRequest
}

// NetworkConfig is a network as a NetworkRequest asks for it, with its ports by name. The request's Name and MayExist are not
// used.
type NetworkConfig struct {
	NetworkRequest
	Rules []string              `json:"rules,omitempty"` // as vsctl add-rule takes them, from the direction on
	Ports map[string]PortConfig `json:"ports,omitempty"`
}

// PortConfig is a port as a PortRequest asks for it. The request's Name, Network and MayExist are not used.
type PortConfig struct {
	PortRequest
	StaticFDB []StaticMAC `json:"static_fdb,omitempty"`
	Rules     []string    `json:"rules,omitempty"` // likewise
}

// ApplyOptions say how a configuration is applied.
type ApplyOptions struct {
	DryRun   bool // find out what would be done, and whether it can be, and do nothing
	NoDelete bool // leave networks, ports and entries alone that the configuration does not name
}

// Applied tells what applying a configuration changed or, with DryRun, would change.
type Applied struct {
	DryRun  bool     `json:"dry_run,omitempty"`
	Changes []Change `json:"changes"` // in the order in which they are made
}

// Actions of a Change.
const (
	ActionAdd     = "add"
	ActionChange  = "change"  // in place
	ActionReplace = "replace" // deleted and added again
	ActionDelete  = "delete"
)

// Kinds of what a Change is about.
const (
	KindNetwork = "network"
	KindPort    = "port"
	KindFDB     = "fdb"
	KindRoute   = "route"
	KindUplink  = "uplink"
	KindRule    = "rule"
)

// Change is one difference between two configurations.
type Change struct {
	Action  string `json:"action"`
	Kind    string `json:"kind"`
	Name    string `json:"name"`              // of the network, port or uplink; of an FDB entry its MAC, of a route its prefix, of a rule whose it is
	Network string `json:"network,omitempty"` // of the port or entry
	Detail  string `json:"detail,omitempty"`  // for people: "mtu 1500 -> 1400"
}
