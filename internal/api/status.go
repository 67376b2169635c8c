package api

import (
	"net/netip"
	"time"
)

// FDBEntry is one row of a network's MAC table.
type FDBEntry struct {
	Network string `json:"network"`
	VLAN    uint16 `json:"vlan"` // 0 is the untagged VLAN
	MAC     string `json:"mac"`
	Port    string `json:"port"`
	Origin  string `json:"origin"` // learned, static
	Age     int    `json:"age"`    // seconds since last seen; 0 for static ones
}

// HostPort is the interface by which the host and the networks of router main reach each other.
type HostPort struct {
	Interface     string         `json:"interface"`                // its name in the host's namespace
	State         string         `json:"state"`                    // up, down, error
	Addresses     []netip.Addr   `json:"addresses,omitempty"`      // of host.vswitch.internal: the host's, the same on every host unless set
	HostAddresses []netip.Addr   `json:"host_addresses,omitempty"` // the others by which containers reach the host
	Routes        []netip.Prefix `json:"routes,omitempty"`         // subnets that the host reaches by it
	Unrouted      []Unrouted     `json:"unrouted,omitempty"`       // and those that it doesn't
	Problems      []string       `json:"problems,omitempty"`       // what is to be done so that it works as wanted
}

// Unrouted is a subnet that the host doesn't reach by the host port.
type Unrouted struct {
	Subnet netip.Prefix `json:"subnet"`
	Reason string       `json:"reason"`
}

// FDBRequest adds a static entry or names one to delete.
type FDBRequest struct {
	Network  string `json:"network"`
	VLAN     uint16 `json:"vlan,omitempty"`
	MAC      string `json:"mac"`
	Port     string `json:"port,omitempty"`
	MayExist bool   `json:"may_exist,omitempty"` // to add: that it is there already is no error
	IfExists bool   `json:"if_exists,omitempty"` // to delete: that there is none is no error
}

// Flow is one cached decision of one worker.
type Flow struct {
	Worker  int    `json:"worker"`
	InPort  string `json:"in_port"`
	Match   string `json:"match"`   // in trace's grammar
	Actions string `json:"actions"` // e.g. "output:c2"
	Packets uint64 `json:"packets"` // hits, super-frames counted as their segments
	Bytes   uint64 `json:"bytes"`
	Idle    int    `json:"idle"` // seconds
}

// TraceRequest asks what would happen to a frame.
type TraceRequest struct {
	Flow string `json:"flow"` // ovs-appctl ofproto/trace's grammar: in_port=c1,tcp,ip_src=10.0.0.2,...
}

// Trace is the pipeline's own account of its decision.
type Trace struct {
	Flow    string   `json:"flow"`    // the frame as understood, defaults filled in
	Steps   []string `json:"steps"`   // one line each, in the order of the stages
	Verdict string   `json:"verdict"` // actions, or "drop: reason"
	Drop    string   `json:"drop,omitempty"`
	Outputs []string `json:"outputs,omitempty"` // names of the ports it would leave by
}

// PortStats are a port's counters, from the switch's view: rx came in from the container. Super-frames count as their segments.
type PortStats struct {
	Port            string            `json:"port"`
	Network         string            `json:"network"`
	Worker          int               `json:"worker"`          // that serves it now
	Slow            bool              `json:"slow,omitempty"`  // it is one for slow ports
	Moved           int               `json:"moved,omitempty"` // times the port was moved to such a worker
	RxPackets       uint64            `json:"rx_packets"`
	RxBytes         uint64            `json:"rx_bytes"`
	RxFrames        uint64            `json:"rx_frames"` // reads: super-frames count once
	TxPackets       uint64            `json:"tx_packets"`
	TxBytes         uint64            `json:"tx_bytes"`
	TxFrames        uint64            `json:"tx_frames"` // writes, after coalescing
	Drops           map[string]uint64 `json:"drops,omitempty"`
	KernelRxDropped uint64            `json:"kernel_rx_dropped"` // frames from the container that the kernel dropped before we read them; also in Drops
	KernelTxDropped uint64            `json:"kernel_tx_dropped"` // frames it took from us and dropped; also in Drops
}

// WorkerStats are a worker's counters.
type WorkerStats struct {
	Worker      int    `json:"worker"`
	Ports       int    `json:"ports"`
	Quarantine  bool   `json:"quarantine,omitempty"` // it serves slow ports, and runs while there are any
	Turns       uint64 `json:"turns"`
	Sleeps      uint64 `json:"sleeps"`
	SpinWins    uint64 `json:"spin_wins"`
	FlowHits    uint64 `json:"flow_hits"`
	FlowMisses  uint64 `json:"flow_misses"`
	FlowInvalid uint64 `json:"flow_invalid"` // found, but generation or references had moved on
	FlowEntries int    `json:"flow_entries"`
	Coalesced   uint64 `json:"coalesced"` // frames merged into an open super-frame
}

// Stats is the answer of `stats`.
type Stats struct {
	Ports   []PortStats   `json:"ports"`
	Deleted PortStats     `json:"deleted"` // sum of the ports that are no more, called DeletedPorts
	Workers []WorkerStats `json:"workers"`

	Networks    []NetworkStats  `json:"networks"`
	Routers     []RouterStats   `json:"routers"`
	Fragments   FragmentStats   `json:"fragments"`
	Connections ConnectionStats `json:"connections"`
}

// FragmentStats say what is known at the moment of datagrams that come in fragments.
type FragmentStats struct {
	Datagrams int `json:"datagrams"`
	Bytes     int `json:"bytes"` // that wait for a first fragment, with what they cost beside
}

// RouterStats say what a router told senders of what it did not deliver, so far.
type RouterStats struct {
	Router     string `json:"router"`
	ErrorsSent uint64 `json:"icmp_errors_sent"`
	ErrorsHeld uint64 `json:"icmp_errors_held"` // back, since there are no more than 1000 a second
}

// ConnectionStats say what the table of connections, of all routers, did so far.
type ConnectionStats struct {
	Connections int    `json:"connections"` // at the moment, with those that have expired and are not swept yet
	Bytes       int    `json:"bytes"`       // that the table holds
	Opened      uint64 `json:"opened"`
	Expired     uint64 `json:"expired"`  // unused for their timeout
	Evicted     uint64 `json:"evicted"`  // made room for others
	Refused     uint64 `json:"refused"`  // new ones for which there was no room
	NoPort      uint64 `json:"no_port"`  // new ones for which there was no external port
	Shared      uint64 `json:"shared"`   // new ones that share their external port, since all were taken
	Replaced    uint64 `json:"replaced"` // closed ones whose external port another one needed
}

// NetworkStats say what a network's MAC table did so far.
type NetworkStats struct {
	Network       string `json:"network"`
	MACs          int    `json:"macs"` // entries at the moment
	Learned       uint64 `json:"learned"`
	Moved         uint64 `json:"moved"`          // to another port
	Expired       uint64 `json:"expired"`        // unused for --age
	EvictedPort   uint64 `json:"evicted_port"`   // made room on a port at its --mac-limit
	EvictedTable  uint64 `json:"evicted_table"`  // made room in a network at its --mac-limit
	RefusedStatic uint64 `json:"refused_static"` // sources that a static entry places elsewhere
	Damped        uint64 `json:"damped"`         // moved too often, once for each time it was held
	Held          uint64 `json:"held"`           // moves refused while it was held
	Rules         int    `json:"rules"`          // of the network and its ports, at the moment
	RuleAllowed   uint64 `json:"rule_allowed"`   // packets that those let pass
	RuleDenied    uint64 `json:"rule_denied"`
	RuleRejected  uint64 `json:"rule_rejected"`
}

// DeletedPorts stands for a port's name where ports that are no more are counted together. No port can have it.
const DeletedPorts = "(deleted)"

// Drop is one row of `drops`.
type Drop struct {
	Port     string `json:"port"`
	Reason   string `json:"reason"`
	Packets  uint64 `json:"packets"`
	Sentence string `json:"sentence"`
}

// Event is one thing that happened.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`   // e.g. port.added, port.gone, network.deleted, mac.moved
	Object  string    `json:"object"` // name of the port or network
	Message string    `json:"message"`
}

// Daemon describes the daemon and the rungs of kernel features it uses.
type Daemon struct {
	Version    string            `json:"version"`
	APIVersion string            `json:"api_version"`
	Go         string            `json:"go"`
	Kernel     string            `json:"kernel"`
	PID        int               `json:"pid"`
	Started    time.Time         `json:"started"`
	StateDir   string            `json:"state_dir"`
	MaxFiles   int               `json:"max_files"`           // limit of open file descriptors
	MorePorts  int               `json:"more_ports"`          // that it leaves room for
	SetAside   []string          `json:"set_aside,omitempty"` // records of the state that make no sense, and why
	LogLost    uint64            `json:"log_lost"`            // lines that its reader was too slow for
	Workers    int               `json:"workers"`
	FDStore    string            `json:"fdstore"`  // systemd, keeper, none
	Features   map[string]string `json:"features"` // e.g. "uso": "yes", "veth-drop": "tcx"
	Options    map[string]string `json:"options"`  // flow-cache, coalesce, spin, move-slow and more
	HostPort   *HostPort         `json:"host_port,omitempty"`
}

// Show is the answer of `show`: everything at a glance.
type Show struct {
	Daemon   Daemon    `json:"daemon"`
	Networks []Network `json:"networks"`
	Ports    []Port    `json:"ports"`
	Uplinks  []Uplink  `json:"uplinks,omitempty"`
}

// EventLagged is the type of the last event of a subscriber that read too slowly and was dropped.
const EventLagged = "events.lagged"

// Flushed is the answer of a flush: how many entries were removed.
type Flushed struct {
	Flushed int `json:"flushed"`
}
