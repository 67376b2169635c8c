// Package servertest runs the control API on a made-up switch, for tests of its clients.
package servertest

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"vswitch/ctl/server"
	"vswitch/internal/api"
)

// Backend is a switch without frames: networks and ports come and go, everything else is what its fields say.
// It may be used from many goroutines at once; set the fields before that.
type Backend struct {
	Entries []api.FDBEntry
	Around  []api.Neighbor
	Tracked []api.Connection
	Cached  []api.Flow
	Answer  api.Trace
	Counted api.Stats
	Dropped []api.Drop
	Self    api.Daemon

	mu       sync.Mutex
	networks []api.Network    // guarded by mu
	ports    []api.Port       // guarded by mu
	routes   []api.RouteEntry // guarded by mu
	uplinks  []api.Uplink     // guarded by mu
	ruled    []api.RuleEntry  // likewise
}

var _ server.Backend = (*Backend)(nil)

// New returns a switch with a network net1, its port web, and something in every table.
func New() *Backend {
	return &Backend{
		networks: []api.Network{{ID: "n-1", Name: "net1", Driver: api.DriverBridge, MTU: 1500, Router: "main", Masquerade: "auto", Age: 300,
			MACLimit: 16384, Subnets: []api.Subnet{
				{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
				{Prefix: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")}}}},
		ports: []api.Port{{ID: "p-1", Name: "web", Network: "net1", Type: api.PortTAP, IfName: "eth0", MAC: "02:42:0a:00:00:02", MTU: 1500,
			Netns: &api.NetnsRef{Spec: "web", Path: "/run/netns/web", Dev: 4, Inode: 4026532000}, DefaultRoute: "auto",
			IPs:    []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00:1::2/64")},
			Status: api.PortStatus{State: api.StateUp, Ifindex: 7, Worker: 1, Offloads: "csum tso4 tso6 uso"}}},
		Entries: []api.FDBEntry{{Network: "net1", MAC: "02:42:0a:00:00:02", Port: "web", Origin: "learned", Age: 12},
			{Network: "net1", VLAN: 10, MAC: "02:42:0a:00:00:63", Port: "web", Origin: "static"}},
		Around: []api.Neighbor{{Network: "net1", Address: netip.MustParseAddr("10.0.0.2"), MAC: "02:42:0a:00:00:02", State: "reachable", Idle: 3},
			{Network: "net1", Address: netip.MustParseAddr("fd00:1::9"), State: "incomplete", Waiting: 1}},
		routes: []api.RouteEntry{{StaticRoute: route("10.0.0.0/24", 0), Networks: []string{"net1"}, Origin: api.RouteConnected, Active: true},
			{StaticRoute: route("10.9.0.0/16", 1, "10.0.0.2"), Networks: []string{"net1"}, Origin: api.RouteStatic, Active: true}},
		Tracked: tracked(), uplinks: uplinks(), ruled: rules(),
		Cached: []api.Flow{{Worker: 1, InPort: "web", Match: "in_port=web,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80",
			Actions: "output:db", Packets: 1234, Bytes: 567890, Idle: 3}},
		Answer: api.Trace{Flow: "in_port=web,tcp,tcp_dst=80", Steps: []string{"1 admit: untagged, VLAN 0", "8 decide: 02:42:0a:00:00:03 is at db"},
			Verdict: "output:db", Outputs: []string{"db"}},
		Counted: api.Stats{
			Ports: []api.PortStats{{Port: "web", Network: "net1", RxPackets: 100, RxBytes: 64000, RxFrames: 10, TxPackets: 90, TxBytes: 5400,
				TxFrames: 9, Drops: map[string]uint64{"source-guard": 2, "vlan": 1}, KernelRxDropped: 4, KernelTxDropped: 5}},
			Workers: []api.WorkerStats{{Worker: 1, Ports: 1, Turns: 40, Sleeps: 30, SpinWins: 3, FlowHits: 95, FlowMisses: 5, FlowInvalid: 1,
				FlowEntries: 2, Coalesced: 7}},
			Networks: []api.NetworkStats{{Network: "net1", MACs: 2, Learned: 20, Moved: 3, Expired: 10, EvictedPort: 4, EvictedTable: 5,
				RefusedStatic: 6, Damped: 1, Held: 9, Rules: 2, RuleAllowed: 1234, RuleDenied: 7, RuleRejected: 8}},
			Routers:   []api.RouterStats{{Router: "main", ErrorsSent: 12, ErrorsHeld: 3}},
			Fragments: api.FragmentStats{Datagrams: 7, Bytes: 4096},
			Connections: api.ConnectionStats{Connections: 3, Bytes: 65536, Opened: 100, Expired: 90, Evicted: 5, Refused: 4, NoPort: 1, Shared: 7,
				Replaced: 2}},
		Dropped: []api.Drop{{Port: "web", Reason: "vlan", Packets: 1, Sentence: "the frame's VLAN is not carried by the port"}},
		Self: api.Daemon{Version: "0.1.0", APIVersion: api.Version, Go: "go1.26", Kernel: "6.18.0", PID: 4711, Workers: 2, FDStore: "keeper",
			Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), StateDir: "/var/lib/vswitch", MaxFiles: 524287, MorePorts: 523902,
			Features: map[string]string{"uso": "yes", "veth-drop": "tcx"}, Options: map[string]string{"flow-cache": "on", "coalesce": "on"},
			HostPort: &api.HostPort{
				Interface: "vsw0", State: api.StateUp, Addresses: []netip.Addr{netip.MustParseAddr("192.0.0.6"), netip.MustParseAddr("fd83:585c:c419::6")},
				HostAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
				Unrouted: []api.Unrouted{{Subnet: netip.MustParsePrefix("10.8.0.0/24"), Reason: "the host has a route to 10.8.0.0/16 by tun0"}},
			}},
	}
}

// AddNetwork adds a network without looking for contradictions.
func (b *Backend) AddNetwork(_ context.Context, r api.NetworkRequest) (api.Network, error) {
	if err := api.CheckName("network", r.Name); err != nil {
		return api.Network{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.networks, func(n api.Network) bool { return n.Name == r.Name }) {
		return api.Network{}, taken("network", r.Name)
	}
	n := api.Network{ID: fmt.Sprintf("n-%d", len(b.networks)+1), Name: r.Name, Driver: api.DriverBridge, MTU: max(r.MTU, 1280), Labels: r.Labels,
		NoICC: r.ICC != nil && !*r.ICC}
	for _, p := range r.Subnets {
		n.Subnets = append(n.Subnets, api.Subnet{Prefix: p, Gateway: p.Masked().Addr().Next()})
	}
	b.networks = append(b.networks, n)
	return n, nil
}

// DeleteNetwork deletes a network that has no ports, or with force any.
func (b *Backend) DeleteNetwork(_ context.Context, name string, force bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.networks, func(n api.Network) bool { return n.Name == name })
	if i < 0 {
		return missing("network", name)
	}
	inIt := func(p api.Port) bool { return p.Network == name }
	if j := slices.IndexFunc(b.ports, inIt); j >= 0 && !force {
		e := api.Errorf(api.CodeConflict, "network %s has ports: delete them first or use --force", name)
		e.Object = b.ports[j].Name
		return e
	}
	b.ports = slices.DeleteFunc(b.ports, inIt)
	b.networks = slices.Delete(b.networks, i, i+1)
	return nil
}

// Networks returns the networks with the number of their ports.
func (b *Backend) Networks(context.Context) ([]api.Network, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.networks)
	for i := range list {
		for _, p := range b.ports {
			if p.Network == list[i].Name {
				list[i].Ports++
			}
		}
	}
	return list, nil
}

// Network returns one network.
func (b *Backend) Network(ctx context.Context, name string) (api.Network, error) {
	list, _ := b.Networks(ctx)
	if i := slices.IndexFunc(list, func(n api.Network) bool { return n.Name == name }); i >= 0 {
		return list[i], nil
	}
	return api.Network{}, missing("network", name)
}

// AddPort adds a port with the request's first address, or without one.
func (b *Backend) AddPort(ctx context.Context, r api.PortRequest) (api.Port, error) {
	if err := api.CheckName("port", r.Name); err != nil {
		return api.Port{}, err
	}
	if _, err := b.Network(ctx, r.Network); err != nil {
		return api.Port{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.ports, func(p api.Port) bool { return p.Name == r.Name }) {
		return api.Port{}, taken("port", r.Name)
	}
	p := api.Port{ID: fmt.Sprintf("p-%d", len(b.ports)+1), Name: r.Name, Network: r.Network, Type: api.PortTAP, IfName: "eth0", MTU: 1500,
		MAC: "02:42:0a:00:00:63", VLAN: r.VLAN, Trunk: r.Trunk, Native: r.Native, Isolated: r.Isolated, Stage: r.Stage, Routes: r.Routes,
		DefaultRoute: r.DefaultRoute, Metric: r.Metric, Aliases: r.Aliases, Publish: numbered(r.Publish), Labels: r.Labels, SourceGuard: r.SourceGuard, Storm: r.Storm, Status: api.PortStatus{State: api.StateUp}}
	for _, ip := range r.IPs {
		p.IPs = append(p.IPs, netip.PrefixFrom(ip, 24))
	}
	if r.Netns != "" {
		p.Netns = &api.NetnsRef{Spec: r.Netns, Path: "/run/netns/" + strings.TrimPrefix(r.Netns, "container:")}
	}
	b.ports = append(b.ports, p)
	return p, nil
}

// SetNetwork changes a network's MTU and labels.
func (b *Backend) SetNetwork(_ context.Context, name string, r api.NetworkChange) (api.Network, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.networks, func(n api.Network) bool { return n.Name == name })
	if i < 0 {
		return api.Network{}, missing("network", name)
	}
	n := &b.networks[i]
	if r.MTU != nil {
		n.MTU = *r.MTU
	}
	n.Labels = map[string]string{}
	for k, v := range r.Labels {
		if v != nil {
			n.Labels[k] = *v
		}
	}
	return *n, nil
}

// SetPort changes a port's MTU and adds addresses.
func (b *Backend) SetPort(_ context.Context, name string, r api.PortChange) (api.Port, error) {
	return b.change(name, func(p *api.Port) error {
		if r.MTU != nil {
			p.MTU = *r.MTU
		}
		for _, ip := range r.AddIPs {
			p.IPs = append(slices.Clip(p.IPs), netip.PrefixFrom(ip, 24))
		}
		return nil
	})
}

// Connect puts a port on a network, with the addresses asked for.
func (b *Backend) Connect(ctx context.Context, name string, r api.ConnectRequest) (api.Port, error) {
	if _, err := b.Network(ctx, r.Network); err != nil {
		return api.Port{}, err
	}
	return b.change(name, func(p *api.Port) error {
		if p.Network != "" && !r.MayExist {
			return taken("port", name)
		}
		p.Network, p.Status.State, p.IPs = r.Network, api.StateUp, nil
		for _, ip := range r.IPs {
			p.IPs = append(p.IPs, netip.PrefixFrom(ip, 24))
		}
		return nil
	})
}

// Disconnect takes a port off its network.
func (b *Backend) Disconnect(_ context.Context, name string, r api.DisconnectRequest) (api.Port, error) {
	return b.change(name, func(p *api.Port) error {
		switch p.Network {
		case "":
			return missing("network", r.Network)
		case cmp.Or(r.Network, p.Network):
			p.Network, p.IPs, p.Status.State = "", nil, api.StateDisconnected
			return nil
		}
		return taken("port", name)
	})
}

func (b *Backend) change(name string, f func(*api.Port) error) (api.Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.ports {
		if b.ports[i].Name == name {
			err := f(&b.ports[i])
			return b.ports[i], err
		}
	}
	return api.Port{}, missing("port", name)
}

// DeletePort deletes a port.
func (b *Backend) DeletePort(_ context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.ports)
	b.ports = slices.DeleteFunc(b.ports, func(p api.Port) bool { return p.Name == name })
	if len(b.ports) == before {
		return missing("port", name)
	}
	return nil
}

// Ports returns the ports.
func (b *Backend) Ports(context.Context) ([]api.Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ports), nil
}

// Port returns one port.
func (b *Backend) Port(ctx context.Context, name string) (api.Port, error) {
	list, _ := b.Ports(ctx)
	if i := slices.IndexFunc(list, func(p api.Port) bool { return p.Name == name }); i >= 0 {
		return list[i], nil
	}
	return api.Port{}, missing("port", name)
}

func missing(kind, name string) error {
	return api.Errorf(api.CodeNotFound, "there is no %s %q: list-%ss shows them", kind, name, kind)
}

func taken(kind, name string) error {
	e := api.Errorf(api.CodeConflict, "there is a %s %q already: choose another name or use --may-exist", kind, name)
	e.Object = name
	return e
}
