package api

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/prefix"
)

// Connection is a row of the table of connections, which holds those that are translated, or whose answers would be.
type Connection struct {
	Router     string `json:"router"`
	Network    string `json:"network"`        // of who opened it
	Port       string `json:"port"`           // by which its first frame came
	Peer       string `json:"peer,omitempty"` // port of the other side
	Proto      string `json:"proto"`          // tcp, udp, sctp, icmp, icmp6, dccp, udplite, or a number
	State      string `json:"state"`          // one of ConnectionStates
	Timeout    int    `json:"timeout"`        // seconds until it ends, when nothing comes
	Age        int    `json:"age"`            // seconds
	Idle       int    `json:"idle"`           // seconds since its last frame
	Original   Tuple  `json:"original"`       // as who opened it sends
	Translated *Tuple `json:"translated,omitempty"`
}

// Tuple are the endpoints of a connection. The identifier of an ICMP echo stands as the port of who asks.
type Tuple struct {
	Src     netip.Addr `json:"src"`
	SrcPort uint16     `json:"sport,omitempty"`
	Dst     netip.Addr `json:"dst"`
	DstPort uint16     `json:"dport,omitempty"`
}

// Source and Destination are endpoints for people, without a port where there is none.
func (t *Tuple) Source() string { return endpoint(t.Src, t.SrcPort) }

// Destination is Source's twin.
func (t *Tuple) Destination() string { return endpoint(t.Dst, t.DstPort) }

func endpoint(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// ConnectionStates are the states of a Connection.
var ConnectionStates = []string{"new", "opening", "established", "closing", "aborted"}

// Protocols are those with names; others go by their numbers.
var Protocols = []string{"tcp", "udp", "sctp", "icmp", "icmp6", "dccp", "udplite"}

// Numbers of Protocols (IANA, Assigned Internet Protocol Numbers).
var protocolNumbers = []uint8{6, 17, 132, 1, 58, 33, 136}

// ProtocolName returns the protocol's name, or its number when it has none here.
func ProtocolName(number uint8) string {
	if i := slices.Index(protocolNumbers, number); i >= 0 {
		return Protocols[i]
	}
	return strconv.Itoa(int(number))
}

// ParseProtocol reads a name or a number of a protocol.
func ParseProtocol(s string) (uint8, error) {
	if i := slices.Index(Protocols, s); i >= 0 {
		return protocolNumbers[i], nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, Errorf(CodeInvalid, "protocol %.40q: use %s, or a number from 1 to 255", s, strings.Join(Protocols, ", "))
	}
	return uint8(n), nil
}

// ConnectionFilter selects connections: all its fields that are not zero must hold.
type ConnectionFilter struct {
	Network          string // of who opened them
	Port             string // on either side
	Router           string
	Proto            uint8
	State            string
	Src              netip.Prefix // of who opened them
	Dst              netip.Prefix // as they were opened, or as they were translated
	SrcPort, DstPort uint16       // likewise
	Translated       bool         // only those whose addresses or ports are translated
}

// ConnectionKeys are the keys of a ConnectionFilter, in queries and as options.
var ConnectionKeys = []string{"network", "port", "router", "proto", "state", "src", "dst", "sport", "dport", "translated"}

// Set sets one key from text. An empty one is refused: whoever asks for the connections of nobody must not get, or flush, all of them.
func (f *ConnectionFilter) Set(key, value string) (err error) {
	if value == "" {
		return Errorf(CodeInvalid, "%s is empty: leave it out to select any", key)
	}
	switch key {
	case "network":
		f.Network = value
	case "port":
		f.Port = value
	case "router":
		f.Router = value
	case "proto":
		f.Proto, err = ParseProtocol(value)
	case "state":
		if f.State = value; !slices.Contains(ConnectionStates, value) {
			err = Errorf(CodeInvalid, "state %.40q: use %s", value, strings.Join(ConnectionStates, ", "))
		}
	case "src":
		f.Src, err = parseAddresses(key, value)
	case "dst":
		f.Dst, err = parseAddresses(key, value)
	case "sport":
		f.SrcPort, err = parsePort(key, value)
	case "dport":
		f.DstPort, err = parsePort(key, value)
	case "translated":
		if f.Translated, err = strconv.ParseBool(value); err != nil {
			err = Errorf(CodeInvalid, "translated is %.40q: use true or false", value)
		}
	default:
		err = Errorf(CodeInvalid, "unknown key %.40q: use %s", key, strings.Join(ConnectionKeys, ", "))
	}
	return err
}

// Query returns the filter as the keys that Set reads.
func (f *ConnectionFilter) Query() url.Values {
	q := url.Values{}
	put := func(key, value string, given bool) {
		if given {
			q.Set(key, value)
		}
	}
	put("network", f.Network, f.Network != "")
	put("port", f.Port, f.Port != "")
	put("router", f.Router, f.Router != "")
	put("proto", ProtocolName(f.Proto), f.Proto != 0)
	put("state", f.State, f.State != "")
	put("src", f.Src.String(), f.Src.IsValid())
	put("dst", f.Dst.String(), f.Dst.IsValid())
	put("sport", strconv.Itoa(int(f.SrcPort)), f.SrcPort != 0)
	put("dport", strconv.Itoa(int(f.DstPort)), f.DstPort != 0)
	put("translated", "true", f.Translated)
	return q
}

// parseAddresses reads an address or a prefix.
func parseAddresses(key, s string) (netip.Prefix, error) {
	p, err := prefix.Parse(s)
	if err != nil || p.Addr().Is4In6() {
		return p, Errorf(CodeInvalid, "%s is %.70q: use an address, or ADDRESS/LENGTH", key, s)
	}
	return p.Masked(), nil
}

func parsePort(key, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, Errorf(CodeInvalid, "%s is %.40q: use a number from 1 to 65535", key, s)
	}
	return uint16(n), nil
}
