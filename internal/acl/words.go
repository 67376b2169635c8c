package acl

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/internal/prefix"
)

// ref is a name of a port or network. The zero kind is a name of which the rule does not say what it is of.
type ref struct{ kind, name string }

func (r ref) String() string {
	if r.kind == "" {
		return r.name
	}
	return Owner(r.kind, r.name)
}

func readRef(what, s string) (r ref, err error) {
	r.name = s
	if kind, name, ok := strings.Cut(s, ":"); ok {
		if kind != api.KindPort && kind != api.KindNetwork {
			return ref{}, invalid("%s %.70q: use NAME, port:NAME or network:NAME", what, s)
		}
		r = ref{kind, name}
	}
	return r, api.CheckName(cmp.Or(r.kind, "port or network"), r.name)
}

// peer is one end of the frames that a rule is about: a prefix, or the addresses of a port or network. The zero peer is anybody.
type peer struct {
	prefix netip.Prefix
	ref    ref
}

func (p peer) any() bool { return p == peer{} }

func (p peer) String() string {
	switch {
	case p.prefix.IsValid() && p.prefix.IsSingleIP():
		return p.prefix.Addr().String()
	case p.prefix.IsValid():
		return p.prefix.String()
	case p.ref.name != "":
		return "@" + p.ref.String()
	}
	return ""
}

func readPeer(option, s string) (peer, error) {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		r, err := readRef(option+" @", name)
		return peer{ref: r}, err
	}
	if s == "" {
		return peer{}, nil
	}
	p, err := prefix.Parse(s)
	if err != nil {
		return peer{}, invalid("%s %.70q: use an address, a prefix such as 10.0.0.0/8, or @NAME of a port or network", option, s)
	}
	if p.Addr().Is4In6() {
		return peer{}, invalid("%s %s: write the IPv4 address itself, %s", option, s, p.Addr().Unmap())
	}
	if p != p.Masked() {
		return peer{}, invalid("%s %s: there are bits set behind the prefix; use %s, or %s for the address alone", option, s, p.Masked(), p.Addr())
	}
	return peer{prefix: p}, nil
}

// portRange holds ports from first to last.
type portRange struct{ first, last uint16 }

// maxRanges is how many ports and ranges one option may list.
const maxRanges = 64

// readRanges reads "80,8000-8099" and returns the ranges sorted, with those joined that touch.
func readRanges(option, s string) (all []portRange, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, e1 := strconv.ParseUint(first, 10, 16)
		b, e2 := strconv.ParseUint(last, 10, 16)
		if e1 != nil || e2 != nil {
			return nil, invalid("%s %.70q: use ports from 0 to 65535 and ranges of them, such as 80 or 8000-8099 or 80,443", option, s)
		}
		if a > b {
			return nil, invalid("%s %.70q: the range %.70s ends before it begins", option, s, part)
		}
		all = append(all, portRange{uint16(a), uint16(b)})
	}
	if len(all) > maxRanges {
		return nil, invalid("%s lists %d ports and ranges; a rule takes %d: use several rules", option, len(all), maxRanges)
	}
	slices.SortFunc(all, func(a, b portRange) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last)) })
	joined := all[:1]
	for _, r := range all[1:] {
		if l := &joined[len(joined)-1]; uint32(r.first) <= uint32(l.last)+1 {
			l.last = max(l.last, r.last)
		} else {
			joined = append(joined, r)
		}
	}
	return joined, nil
}

func rangesText(all []portRange) string {
	var s []string
	for _, r := range all {
		if r.first == r.last {
			s = append(s, strconv.Itoa(int(r.first)))
		} else {
			s = append(s, fmt.Sprintf("%d-%d", r.first, r.last))
		}
	}
	return strings.Join(s, ",")
}

// mac is a MAC address that a rule may ask for.
type mac struct {
	addr [6]byte
	set  bool
}

func (m mac) String() string {
	if !m.set {
		return ""
	}
	return net.HardwareAddr(m.addr[:]).String()
}

func readMAC(option, s string) (mac, error) {
	if s == "" {
		return mac{}, nil
	}
	a, err := net.ParseMAC(s)
	if err != nil || len(a) != 6 {
		return mac{}, invalid("%s %.70q: not a MAC address such as 02:42:ac:11:00:02", option, s)
	}
	return mac{[6]byte(a), true}, nil
}

var etherTypes = map[string]uint16{"ipv4": packet.EtherTypeIPv4, "ipv6": packet.EtherTypeIPv6, "arp": packet.EtherTypeARP}

func readEtherType(s string) (uint16, error) {
	if t, ok := etherTypes[s]; ok || s == "" {
		return t, nil
	}
	n, err := strconv.ParseUint(s, 0, 16)
	if err != nil || n < 0x600 {
		return 0, invalid("--ethertype %.70q: use arp, ipv4, ipv6, or a number from 0x0600 to 0xffff such as 0x88cc", s)
	}
	if n == packet.EtherTypeVLAN || n == packet.EtherTypeQinQ || n == packet.EtherTypeQinQ1 {
		return 0, invalid("--ethertype %.70s: rules ask for what is behind the VLAN tags", s)
	}
	return uint16(n), nil
}

func etherTypeText(t uint16) string {
	for name, n := range etherTypes {
		if n == t {
			return name
		}
	}
	if t == 0 {
		return ""
	}
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], t)
	return fmt.Sprintf("0x%x", b)
}
