package api

import "net/netip"

// Version is the version of these types: the first element of every path of the HTTP API, and a field of the stored state.
const Version = "v1"

// Drivers of a network.
const (
	DriverBridge = "bridge" // a learning switch
)

// Network is an L2 segment with its subnets: what the user asked for, with defaults filled in.
type Network struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Subnets    []Subnet          `json:"subnets,omitempty"`
	NoGateway  bool              `json:"no_gateway,omitempty"` // no address is reserved for a gateway, no default route is set
	MTU        int               `json:"mtu"`
	Internal   bool              `json:"internal,omitempty"`
	NoICC      bool              `json:"no_icc,omitempty"` // --icc=false: its ports do not reach each other
	Router     string            `json:"router,omitempty"`
	Masquerade string            `json:"masquerade,omitempty"` // auto, on, off
	RA         bool              `json:"ra,omitempty"`         // its gateway sends router advertisements
	RADNS      []netip.Addr      `json:"ra_dns,omitempty"`     // resolvers that these name
	Age        int               `json:"age"`                  // seconds a learned MAC lives without traffic
	MACLimit   int               `json:"mac_limit"`            // MACs in the network's table
	Labels     map[string]string `json:"labels,omitempty"`

	Ports int `json:"ports"` // status: how many ports it has; ignored in requests
}

// Subnet is one IP prefix of a network. In a request an invalid Prefix asks for one from the default pools.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`  // reserved for the router; zero: the first address
	Range   netip.Prefix `json:"ip_range,omitzero"` // where addresses are handed out; zero: the whole prefix
}

// NetworkRequest asks for a new network. Zero values ask for the defaults.
type NetworkRequest struct {
	Name       string            `json:"name,omitempty"`
	Driver     string            `json:"driver,omitempty"`
	Subnets    []netip.Prefix    `json:"subnets,omitempty"`
	Gateways   []netip.Addr      `json:"gateways,omitempty"` // each within one of Subnets
	Ranges     []netip.Prefix    `json:"ip_ranges,omitempty"`
	NoSubnet   bool              `json:"no_subnet,omitempty"` // pure L2
	NoGateway  bool              `json:"no_gateway,omitempty"`
	MTU        int               `json:"mtu,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	ICC        *bool             `json:"icc,omitempty"`
	Router     string            `json:"router,omitempty"`
	Masquerade string            `json:"masquerade,omitempty"`
	RA         bool              `json:"ra,omitempty"`
	RADNS      []netip.Addr      `json:"ra_dns,omitempty"` // IPv6 addresses
	Age        int               `json:"age,omitempty"`
	MACLimit   int               `json:"mac_limit,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	MayExist   bool              `json:"may_exist,omitempty"`
}

// NetworkChange says what to change of a network. What is absent stays as it is; a zero value asks for the default again, as in a
// NetworkRequest.
type NetworkChange struct {
	AddSubnets    []netip.Prefix     `json:"add_subnets,omitempty"`
	RemoveSubnets []netip.Prefix     `json:"remove_subnets,omitempty"` // of which no port has an address
	Gateways      []netip.Addr       `json:"gateways,omitempty"`       // each the new one of the subnet that contains it
	Ranges        []netip.Prefix     `json:"ip_ranges,omitempty"`      // each the new one of the subnet that contains it; all of a subnet: no range
	NoGateway     *bool              `json:"no_gateway,omitempty"`     // false: subnets without a gateway get their first address
	MTU           *int               `json:"mtu,omitempty"`            // of ports to come
	Internal      *bool              `json:"internal,omitempty"`
	ICC           *bool              `json:"icc,omitempty"`
	Router        *string            `json:"router,omitempty"`
	Masquerade    *string            `json:"masquerade,omitempty"`
	RA            *bool              `json:"ra,omitempty"`
	RADNS         *[]netip.Addr      `json:"ra_dns,omitempty"` // in place of those that it has
	Age           *int               `json:"age,omitempty"`
	MACLimit      *int               `json:"mac_limit,omitempty"`
	Labels        map[string]*string `json:"labels,omitempty"` // null removes the label

	// What a network has for life: named here so that the refusal says what to do instead.
	Name   *string `json:"name,omitempty"`
	Driver *string `json:"driver,omitempty"`
}
