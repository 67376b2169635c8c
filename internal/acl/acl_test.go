package acl_test

import (
	"fmt"
	"net/netip"
	"testing"

	"vswitch/internal/acl"
	"vswitch/internal/packet"
)

// The world of the tests: network net with the ports web, db and away (which has no device), and network other.
//
//	net    10.0.0.0/24 fd00::/64      web  .2 ::2     db  .3 ::3     away .4
//	other  10.1.0.0/24                both is a port and a network
const (
	web packet.PortID = 1<<16 | 2
	db  packet.PortID = 1<<16 | 3
)

type world struct{}

func (world) Port(name string) (p acl.Port, ok bool) {
	switch name {
	case "web":
		return acl.Port{ID: web, Addrs: addrs("10.0.0.2", "fd00::2")}, true
	case "db":
		return acl.Port{ID: db, Addrs: addrs("10.0.0.3", "fd00::3")}, true
	case "away":
		return acl.Port{Addrs: addrs("10.0.0.4")}, true
	case "both", "bare":
		return acl.Port{ID: 1<<16 | 9}, true
	}
	return acl.Port{}, false
}

func (world) Network(name string) ([]netip.Prefix, bool) {
	switch name {
	case "net":
		return []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}, true
	case "other":
		return []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, true
	case "both":
		return []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, true
	}
	return nil, false
}

func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// rules parses texts; their IDs are r0, r1, ...
func rules(t testing.TB, texts ...string) (all []acl.Rule) {
	t.Helper()
	for i, text := range texts {
		r, err := acl.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		r.ID = fmt.Sprintf("r%d", i)
		all = append(all, r)
	}
	return all
}

func compile(t testing.TB, c acl.Config, texts ...string) *acl.Snapshot {
	t.Helper()
	c.Network, c.Rules = "net", rules(t, texts...)
	s, err := acl.Compile(c, world{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	mac2 = [6]byte{2, 0, 0, 0, 0, 2}
	mac3 = [6]byte{2, 0, 0, 0, 0, 3}
)

// query makes a frame from web to db, or whatever addresses are given.
func query(proto uint8, src, dst string, sport, dport uint16) *acl.Query {
	q := &acl.Query{SrcMAC: mac2, DstMAC: mac3, EtherType: packet.EtherTypeIPv4, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
		Proto: proto, SrcPort: sport, DstPort: dport}
	if q.Src.Is6() {
		q.EtherType = packet.EtherTypeIPv6
	}
	return q
}

func tcp(src, dst string, sport, dport uint16) *acl.Query {
	return query(packet.ProtoTCP, src, dst, sport, dport)
}

func icmp(proto uint8, src, dst string, kind, code, id uint16) *acl.Query {
	return query(proto, src, dst, kind<<8|code, id)
}

// decided names what decided: a rule's ID, or the policy.
func decided(r *acl.Result) string {
	if rule := r.Rule(); rule != nil {
		return rule.ID
	}
	return r.Policy.String()
}
