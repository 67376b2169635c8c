package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vswitch/internal/prefix"
)

// MainRouter is the router that networks join unless they ask for another one.
const MainRouter = "main"

// StaticRoute is a route that a user gave a router. Router, prefix and metric together name it.
type StaticRoute struct {
	Router string `json:"router"`
	RouteConfig
}

// RouteConfig is a static route as a configuration has it: its router's name is the key.
type RouteConfig struct {
	Prefix   netip.Prefix `json:"prefix"`
	NextHops []netip.Addr `json:"next_hops"` // flows are spread over them
	Metric   uint32       `json:"metric"`    // of routes to the same prefix the lowest counts; 0 asks for 1
}

// RouteKey names a static route.
type RouteKey struct {
	Router string
	Prefix netip.Prefix
	Metric uint32
}

// Key returns what names the route.
func (r *StaticRoute) Key() RouteKey { return RouteKey{r.Router, r.Prefix, r.Metric} }

// Compare orders keys by router, prefix and metric.
func (k RouteKey) Compare(o RouteKey) int {
	return cmp.Or(strings.Compare(k.Router, o.Router), k.Prefix.Addr().Compare(o.Prefix.Addr()), k.Prefix.Bits()-o.Prefix.Bits(),
		cmp.Compare(k.Metric, o.Metric))
}

// String writes the route as vsctl add-route takes it: "PREFIX via ADDRESS,ADDRESS", and "metric N" unless that is 1.
func (r RouteConfig) String() string {
	var hops []string
	for _, a := range r.NextHops {
		hops = append(hops, a.String())
	}
	s := fmt.Sprintf("%v via %s", r.Prefix, strings.Join(hops, ","))
	if r.Metric > 1 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	return s
}

// ParseRoutePrefix reads a prefix, or "default" for all addresses of the family of via.
func ParseRoutePrefix(s string, via netip.Addr) (netip.Prefix, error) {
	if s == "default" {
		return prefix.Default(via), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, Errorf(CodeInvalid, "prefix %.70q: use ADDRESS/LENGTH such as 10.9.0.0/16, or default", s)
	}
	return p, nil
}

// ParseNextHops reads ADDRESS,ADDRESS.
func ParseNextHops(s string) (hops []netip.Addr, err error) {
	for word := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, Errorf(CodeInvalid, "next hop %.70q is no address: use ADDRESS[,ADDRESS...]", word)
		}
		hops = append(hops, a)
	}
	return hops, nil
}

// RouteRequest adds a static route, or names one to delete.
type RouteRequest struct {
	Router   string       `json:"router,omitempty"` // by default main
	Prefix   netip.Prefix `json:"prefix"`
	NextHops []netip.Addr `json:"next_hops,omitempty"` // to add
	Metric   uint32       `json:"metric,omitempty"`    // to add: 1 unless given; to delete: which one of several to the prefix
	MayExist bool         `json:"may_exist,omitempty"` // to add: that it is there already is no error
	IfExists bool         `json:"if_exists,omitempty"` // to delete: that there is none is no error
}

// Origins of a RouteEntry.
const (
	RouteConnected = "connected" // the subnet of a network
	RouteStatic    = "static"
	RouteHost      = "host"   // an address of the host
	RouteUplink    = "uplink" // what leads outside
)

// RouteEntry is a row of a router's table.
type RouteEntry struct {
	StaticRoute
	Networks []string `json:"networks,omitempty"` // by which it leads
	Origin   string   `json:"origin"`
	Active   bool     `json:"active"` // datagrams take it; else no network of the router has a next hop of it, or another route to the prefix counts
}

// Neighbor is a row of a router's neighbor table: what ARP or Neighbor Discovery found out.
type Neighbor struct {
	Network string     `json:"network"`
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac,omitempty"`
	State   string     `json:"state"`             // incomplete, reachable, stale, probe, failed
	Idle    int        `json:"idle"`              // seconds since it was last used or changed its state
	Waiting int        `json:"waiting,omitempty"` // frames that wait for its answer
}

// SortedHops returns the addresses in a fixed order: for a route it is of no meaning.
func SortedHops(hops []netip.Addr) []netip.Addr {
	sorted := slices.Clone(hops)
	slices.SortFunc(sorted, netip.Addr.Compare)
	return sorted
}
