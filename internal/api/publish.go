package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/prefix"
)

// Protocols that have ports to publish.
const (
	ProtoTCP  = "tcp"
	ProtoUDP  = "udp"
	ProtoSCTP = "sctp"
)

// Publish is a published port, or a range of them: connections to our ports go to as many of the container's. Its JSON and YAML is the
// text that String writes and ParsePublish reads.
type Publish struct {
	HostIP   netip.Addr     // ours that it listens on; the zero Addr: all; 0.0.0.0 or ::: all of that family
	HostPort uint16         // ours, the first of the range; 0 asks for one that is free
	Port     uint16         // the container's, the first of the range
	Last     uint16         // the container's, the last of the range: Port of a single one
	Proto    string         // tcp, udp or sctp
	From     []netip.Prefix // who may connect, sorted; none: everybody
}

// publishGrammar is what a refusal reminds of.
const publishGrammar = "[HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]"

// ParsePublish reads [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp], and after a blank "from CIDR,CIDR". An IPv6 address stands in
// brackets; HOSTIP::PORT, as Docker has it, is HOSTIP:PORT. Errors are *Error.
func ParsePublish(s string) (p Publish, err error) {
	bad := func(format string, args ...any) (Publish, error) {
		return Publish{}, Errorf(CodeInvalid, "%.100q can't be published: %s", s, fmt.Sprintf(format, args...))
	}
	spec, from, restricted := strings.Cut(s, " from ")
	p.Proto = ProtoTCP
	if at := strings.LastIndexByte(spec, '/'); at >= 0 {
		spec, p.Proto = spec[:at], spec[at+1:]
		if !slices.Contains([]string{ProtoTCP, ProtoUDP, ProtoSCTP}, p.Proto) {
			return bad("protocol %.20q: use tcp, udp or sctp", p.Proto)
		}
	}
	host, ports, hasHost, err := cutHost(spec)
	if err != nil {
		return bad("%v", err)
	}
	if hasHost {
		if p.HostIP, err = hostAddr(host); err != nil {
			return bad("%v", err)
		}
	}
	ours, theirs, both := strings.Cut(ports, ":")
	if !both {
		ours, theirs = "", ours
	}
	if strings.Contains(theirs, ":") {
		return bad("it has too many colons: use %s, an IPv6 address in [brackets]", publishGrammar)
	}
	if theirs == "" {
		return bad("the container's port is missing: use %s", publishGrammar)
	}
	if p.Port, p.Last, err = portRange(theirs); err != nil {
		return bad("%v", err)
	}
	switch {
	case ours == "" && both && !hasHost:
		return bad("there is nothing before the colon: use %s", publishGrammar)
	case ours != "":
		low, high, err := portRange(ours)
		if err != nil {
			return bad("%v", err)
		}
		if a, b := int(high-low)+1, int(p.Last-p.Port)+1; a != b {
			return bad("%d ports of ours and %d of the container: the two ranges must be of one length", a, b)
		}
		p.HostPort = low
	}
	if restricted {
		for word := range strings.SplitSeq(from, ",") {
			if err := p.Admit(word); err != nil {
				return bad("%v", err)
			}
		}
	}
	return p, nil
}

// cutHost splits off an address and the colon after it: what is in brackets, or has a dot.
func cutHost(s string) (host, rest string, found bool, err error) {
	if in, ok := strings.CutPrefix(s, "["); ok {
		if host, rest, found = strings.Cut(in, "]:"); !found {
			return "", "", false, fmt.Errorf("use [ADDRESS]:%s after an IPv6 address", "PORT")
		}
		return host, rest, true, nil
	}
	if host, rest, found = strings.Cut(s, ":"); found && strings.Contains(host, ".") {
		return host, rest, true, nil
	}
	if strings.Contains(s, ".") {
		return "", "", false, fmt.Errorf("the port after the address is missing: use %s", publishGrammar)
	}
	return "", s, false, nil
}

func hostAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%.70q is no address", s)
	case a.Zone() != "", a.IsMulticast(), a.Is4In6(), a.Is6() && a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, fmt.Errorf("%.70s is no address to listen on: use one of the host or of a gateway, or none for all", s)
	}
	return a, nil
}

func portRange(s string) (low, high uint16, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if low, err = portNumber(first); err != nil || !isRange {
		return low, low, err
	}
	if high, err = portNumber(last); err == nil && high < low {
		err = fmt.Errorf("range %s ends before it starts", s)
	}
	return low, high, err
}

func portNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %.40q: use a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// Admit lets the addresses of a prefix, or one address, connect; others no more unless they were let as well.
func (p *Publish) Admit(s string) error {
	from, err := prefix.Parse(s)
	switch {
	case err != nil || from.Addr().Is4In6():
		return Errorf(CodeInvalid, "%.70q is no prefix: use ADDRESS/LENGTH such as 10.0.0.0/8, or an address", s)
	case from.Masked() != from:
		return Errorf(CodeInvalid, "prefix %v has bits behind its length: use %v", from, from.Masked())
	}
	if !slices.Contains(p.From, from) {
		p.From = append(slices.Clip(p.From), from)
		slices.SortFunc(p.From, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	}
	return nil
}

// OtherPublish returns what of a is not in b.
func OtherPublish(a, b []Publish) (list []Publish) {
	has := make(map[string]bool, len(b)) // there may be thousands
	for _, x := range b {
		has[x.String()] = true
	}
	for _, x := range a {
		if !has[x.String()] {
			list = append(list, x)
		}
	}
	return list
}

// String writes what is published as "[fd00::1]:8080-8089:80-89/tcp from 10.0.0.0/8,192.0.2.1/32".
func (p Publish) String() string {
	var b strings.Builder
	if p.HostIP.Is6() {
		fmt.Fprintf(&b, "[%v]:", p.HostIP)
	} else if p.HostIP.IsValid() {
		fmt.Fprintf(&b, "%v:", p.HostIP)
	}
	if p.HostPort != 0 {
		fmt.Fprintf(&b, "%s:", PortRange{p.HostPort, p.HostEnd()})
	}
	fmt.Fprintf(&b, "%s/%s", PortRange{p.Port, p.Last}, p.Proto)
	for i, n := range p.From {
		b.WriteString(map[bool]string{true: " from ", false: ","}[i == 0])
		b.WriteString(n.String())
	}
	return b.String()
}

// HostEnd is the last of our ports.
func (p *Publish) HostEnd() uint16 { return p.HostPort + p.Last - p.Port }

// Asks tells whether q is what p asks for: an address and a port of ours that p leaves open may be any, and so may who is let in.
func (p *Publish) Asks(q *Publish) bool {
	return p.Port == q.Port && p.Last == q.Last && p.Proto == q.Proto && (!p.HostIP.IsValid() || p.HostIP == q.HostIP) &&
		(p.HostPort == 0 || p.HostPort == q.HostPort) && (len(p.From) == 0 || slices.Equal(p.From, q.From))
}

// Equal tells whether two are the same.
func (p Publish) Equal(q Publish) bool {
	return p.HostIP == q.HostIP && p.HostPort == q.HostPort && p.Port == q.Port && p.Last == q.Last && p.Proto == q.Proto && slices.Equal(p.From, q.From)
}

// MarshalText implements encoding.TextMarshaler.
func (p Publish) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Publish) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePublish(string(b))
	return err
}

// PublishRequest asks to publish ports of a container.
type PublishRequest struct {
	Port     string  `json:"port"` // name of the switch's port that leads to the container
	Publish  Publish `json:"publish"`
	MayExist bool    `json:"may_exist,omitempty"` // that it is published so already is no error
}

// UnpublishRequest asks to take published ports back.
type UnpublishRequest struct {
	Port     string   `json:"port"`                // name of the switch's port
	Publish  *Publish `json:"publish,omitempty"`   // what it asks for, see Publish.Asks; nil: all that the port has
	IfExists bool     `json:"if_exists,omitempty"` // that there is none is no error
}

// Ways by which programs of the host reach a published port at the host's own addresses.
const (
	HostListener = "listener"  // a socket of its own
	HostLookup   = "sk_lookup" // one socket for many ports, which a program in the kernel finds
)

// PublishedPort is a row of the list of published ports.
type PublishedPort struct {
	Port    string       `json:"port"`
	Network string       `json:"network,omitempty"` // empty while the port is disconnected
	Router  string       `json:"router,omitempty"`
	Publish Publish      `json:"publish"`
	To      []netip.Addr `json:"to,omitempty"` // the container's addresses; none: it rests, see Why
	Why     string       `json:"why,omitempty"`

	Host        string `json:"host,omitempty"` // how programs of the host reach it at the host's own addresses; empty: they don't
	HostProblem string `json:"host_problem,omitempty"`
}
