package api

import "net/netip"

// Types of a port.
const (
	PortTAP  = "tap"
	PortVeth = "veth"
	PortHost = "host" // a TAP that stays in the host's own namespace
)

// Kinds of floods that a port can have a storm meter for.
const (
	StormBroadcast = "broadcast"
	StormMulticast = "multicast"
	StormUnknown   = "unknown" // unicast to addresses that nobody has been seen behind
)

// States of a port.
const (
	StateUp           = "up"           // its device is in place and carried by the switch
	StateDown         = "down"         // its device exists, but its interface was set down
	StateBlocked      = "blocked"      // frames loop over it: it carries nothing, see Port.Error
	StateStaged       = "staged"       // --stage: waiting in the staging namespace for the caller to take it
	StateDisconnected = "disconnected" // its interface is in place without a carrier, on no network
	StateError        = "error"        // see Port.Error
)

// Port is an end of a network in a namespace: intent with defaults filled in, and its status.
type Port struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Network      string            `json:"network"` // the network's name; empty while disconnected
	Type         string            `json:"type"`
	Netns        *NetnsRef         `json:"netns,omitempty"` // nil with Stage
	Stage        bool              `json:"stage,omitempty"`
	IfName       string            `json:"ifname"`
	MAC          string            `json:"mac"`
	IPs          []netip.Prefix    `json:"ips,omitempty"` // with the length of their subnet
	MTU          int               `json:"mtu"`
	VLAN         uint16            `json:"vlan,omitempty"`   // access VLAN; 0 is the network's untagged VLAN
	Trunk        []VLANRange       `json:"trunk,omitempty"`  // tagged VLANs carried; makes the port a trunk
	Native       *uint16           `json:"native,omitempty"` // trunk: VLAN of untagged frames; nil: untagged frames are refused
	Isolated     bool              `json:"isolated,omitempty"`
	MACLimit     int               `json:"mac_limit,omitempty"`
	SourceGuard  bool              `json:"source_guard,omitempty"`  // what it sends must be from its own addresses
	Storm        map[string]int    `json:"storm,omitempty"`         // floods that it may send, packets per second by kind
	NoConfig     bool              `json:"no_config,omitempty"`     // the interface is left unaddressed and down
	DefaultRoute string            `json:"default_route,omitempty"` // auto, no
	Metric       int               `json:"metric,omitempty"`        // of the routes we add; 0 is the kernel's default
	Routes       []Route           `json:"routes,omitempty"`
	Aliases      []string          `json:"aliases,omitempty"`
	Publish      []Publish         `json:"publish,omitempty"` // ports of the container that are ports of ours
	Labels       map[string]string `json:"labels,omitempty"`

	StaticFDB []StaticMAC `json:"static_fdb,omitempty"` // what add-fdb placed behind the port; it goes with it

	Status PortStatus `json:"status"`
}

// StaticMAC is a MAC address that a user placed behind a port.
type StaticMAC struct {
	VLAN uint16 `json:"vlan,omitempty"` // 0 is the untagged VLAN
	MAC  string `json:"mac"`
}

// PortStatus is what the daemon observes of a port. It is not stored.
type PortStatus struct {
	State    string `json:"state"`
	Error    string `json:"error,omitempty"`
	Ifindex  int    `json:"ifindex,omitempty"`
	Worker   int    `json:"worker"`
	Slow     bool   `json:"slow,omitempty"`     // writes to it take long: it is on a worker for slow ports
	Offloads string `json:"offloads,omitempty"` // what was probed, e.g. "csum tso4 tso6 uso"
	HostIf   string `json:"host_if,omitempty"`  // veth: our end's name in the private namespace
}

// NetnsRef is a network namespace as the user named it, and as we recognise it again.
type NetnsRef struct {
	Spec  string `json:"spec"`  // name, path, "container:PORT" or pid, as given
	Path  string `json:"path"`  // where it was opened: /run/netns/NAME, /proc/PID/ns/net, ...
	Dev   uint64 `json:"dev"`   // device of the namespace's inode
	Inode uint64 `json:"inode"` // inode; path or pid alone do not identify a namespace
}

// VLANRange is a range of VLAN ids, both ends included.
type VLANRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// Route is a route set in the container.
type Route struct {
	Prefix netip.Prefix `json:"prefix"`
	Via    netip.Addr   `json:"via"`
}

// PortRequest asks for a new port. Zero values ask for the defaults.
type PortRequest struct {
	Name         string            `json:"name,omitempty"`
	Network      string            `json:"network,omitempty"`
	Type         string            `json:"type,omitempty"`
	Netns        string            `json:"netns,omitempty"` // name, absolute path, or "container:PORT"
	PID          int               `json:"pid,omitempty"`
	Stage        bool              `json:"stage,omitempty"`
	IfName       string            `json:"ifname,omitempty"`
	MAC          string            `json:"mac,omitempty"` // an address, "random", or "from-ip"
	IPs          []netip.Addr      `json:"ips,omitempty"`
	NoIP         bool              `json:"no_ip,omitempty"` // no address, although the network has subnets
	MTU          int               `json:"mtu,omitempty"`
	VLAN         uint16            `json:"vlan,omitempty"`
	Trunk        []VLANRange       `json:"trunk,omitempty"`
	Native       *uint16           `json:"native,omitempty"`
	Isolated     bool              `json:"isolated,omitempty"`
	MACLimit     int               `json:"mac_limit,omitempty"`
	SourceGuard  bool              `json:"source_guard,omitempty"`
	Storm        map[string]int    `json:"storm,omitempty"` // 0: no meter
	NoConfig     bool              `json:"no_config,omitempty"`
	DefaultRoute string            `json:"default_route,omitempty"`
	Metric       int               `json:"metric,omitempty"`
	Routes       []Route           `json:"routes,omitempty"`
	Aliases      []string          `json:"aliases,omitempty"`
	Publish      []Publish         `json:"publish,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	MayExist     bool              `json:"may_exist,omitempty"`
}

// PortChange says what to change of a port. What is absent stays as it is; a zero value asks for the default again, as in a
// PortRequest.
type PortChange struct {
	IfName        *string            `json:"ifname,omitempty"`
	MAC           *string            `json:"mac,omitempty"` // an address, "random", or "from-ip"
	AddIPs        []netip.Addr       `json:"add_ips,omitempty"`
	RemoveIPs     []netip.Addr       `json:"remove_ips,omitempty"`
	MTU           *int               `json:"mtu,omitempty"`
	VLAN          *uint16            `json:"vlan,omitempty"`      // makes it an access port
	Trunk         []VLANRange        `json:"trunk,omitempty"`     // makes it a trunk, or replaces the VLANs of one
	Native        *uint16            `json:"native,omitempty"`    // of a trunk
	NoNative      bool               `json:"no_native,omitempty"` // of a trunk: untagged frames are refused
	Isolated      *bool              `json:"isolated,omitempty"`
	MACLimit      *int               `json:"mac_limit,omitempty"`
	SourceGuard   *bool              `json:"source_guard,omitempty"`
	Storm         map[string]int     `json:"storm,omitempty"` // by kind; 0 takes the meter away
	DefaultRoute  *string            `json:"default_route,omitempty"`
	Metric        *int               `json:"metric,omitempty"`
	AddRoutes     []Route            `json:"add_routes,omitempty"` // one to a prefix that the port has a route to replaces that one
	RemoveRoutes  []netip.Prefix     `json:"remove_routes,omitempty"`
	AddAliases    []string           `json:"add_aliases,omitempty"`
	RemoveAliases []string           `json:"remove_aliases,omitempty"`
	AddPublish    []Publish          `json:"add_publish,omitempty"`
	RemovePublish []Publish          `json:"remove_publish,omitempty"` // what each asks for, see Publish.Asks
	Labels        map[string]*string `json:"labels,omitempty"`         // null removes the label

	// What a port has for life, or what other verbs change: named here so that the refusal says what to do instead.
	Name    *string `json:"name,omitempty"`
	Network *string `json:"network,omitempty"`
	Type    *string `json:"type,omitempty"`
	Netns   *string `json:"netns,omitempty"`
}

// ConnectRequest asks to put a port that is on no network on one.
type ConnectRequest struct {
	Network  string       `json:"network"`
	IPs      []netip.Addr `json:"ips,omitempty"`
	NoIP     bool         `json:"no_ip,omitempty"`     // no address, although the network has subnets
	MayExist bool         `json:"may_exist,omitempty"` // no error if it is on the network already
}

// DisconnectRequest asks to take a port off its network. Its interface stays where it is.
type DisconnectRequest struct {
	Network string `json:"network,omitempty"` // refuse to take it off any other; empty: whichever it is
}
