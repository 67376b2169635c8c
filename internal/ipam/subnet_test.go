package ipam_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/ipam"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// parseAll reads "10.0.0.0/8 ..." without complaint about host bits.
func parseAll(s string) (ps []netip.Prefix) {
	for _, f := range strings.Fields(s) {
		ps = append(ps, prefix(f))
	}
	return ps
}

func addrs(s string) (as []netip.Addr) {
	for _, f := range strings.Fields(s) {
		as = append(as, addr(f))
	}
	return as
}

func random() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func TestSubnets(t *testing.T) {
	for _, c := range []struct {
		name   string
		req    api.NetworkRequest
		others string // of network "web"
		routes string
		want   string // prefix,gateway,range ...
	}{
		{name: "default", want: "172.17.0.0/16,172.17.0.1,"},
		{name: "default beside a network", others: "172.17.0.0/16", want: "172.18.0.0/16,172.18.0.1,"},
		{name: "default beside a small route", routes: "172.17.99.0/24 172.18.0.1/32", want: "172.19.0.0/16,172.19.0.1,"},
		{name: "default routes say nothing", routes: "0.0.0.0/0 0.0.0.0/1 128.0.0.0/1 ::/0", want: "172.17.0.0/16,172.17.0.1,"},
		{name: "default beside all of 172.16/12", routes: "172.16.0.0/12", want: "192.168.0.0/20,192.168.0.1,"},
		{name: "default beside a LAN", routes: "172.16.0.0/12 192.168.1.0/24 192.168.16.0/24", want: "192.168.32.0/20,192.168.32.1,"},
		{name: "length", req: api.NetworkRequest{Subnets: parseAll("0.0.0.0/24")}, routes: "172.17.0.0/23 172.17.3.0/28", want: "172.17.2.0/24,172.17.2.1,"},
		{name: "zero prefix", req: api.NetworkRequest{Subnets: []netip.Prefix{{}}}, want: "172.17.0.0/16,172.17.0.1,"},
		{name: "two defaults", req: api.NetworkRequest{Subnets: []netip.Prefix{{}, {}}}, want: "172.17.0.0/16,172.17.0.1, 172.18.0.0/16,172.18.0.1,"},
		{name: "default beside a named one that comes later", req: api.NetworkRequest{Subnets: append([]netip.Prefix{{}}, prefix("172.17.5.0/24"))},
			want: "172.18.0.0/16,172.18.0.1, 172.17.5.0/24,172.17.5.1,"},
		{name: "named", req: api.NetworkRequest{Subnets: parseAll("10.5.0.0/16 fd00:5::/64")}, want: "10.5.0.0/16,10.5.0.1, fd00:5::/64,fd00:5::1,"},
		{name: "named over a route", req: api.NetworkRequest{Subnets: parseAll("10.5.0.0/16")}, routes: "10.0.0.0/8", want: "10.5.0.0/16,10.5.0.1,"},
		{name: "gateways and ranges", req: api.NetworkRequest{Subnets: parseAll("10.5.0.0/16 fd00:5::/64"), Gateways: addrs("fd00:5::ff 10.5.0.254"), Ranges: parseAll("10.5.8.0/24")},
			want: "10.5.0.0/16,10.5.0.254,10.5.8.0/24 fd00:5::/64,fd00:5::ff,"},
		{name: "no gateway", req: api.NetworkRequest{Subnets: parseAll("10.5.0.0/31"), NoGateway: true}, want: "10.5.0.0/31,,"},
		{name: "no subnet", req: api.NetworkRequest{NoSubnet: true}, want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var others []ipam.Owned
			for _, p := range parseAll(c.others) {
				others = append(others, ipam.Owned{Network: "web", Prefix: p})
			}
			subnets, err := ipam.Subnets(&c.req, others, parseAll(c.routes), random())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range subnets {
				f := []string{s.Prefix.String(), "", ""}
				if s.Gateway.IsValid() {
					f[1] = s.Gateway.String()
				}
				if s.Range.IsValid() {
					f[2] = s.Range.String()
				}
				got = append(got, strings.Join(f, ","))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("subnets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSubnetsErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		subnets string
		change  func(*api.NetworkRequest)
		code    string
		says    string
	}{
		{"host bits", "10.0.0.5/24", nil, api.CodeInvalid, "did you mean 10.0.0.0/24?"},
		{"host bits in IPv6", "fd00::5/64", nil, api.CodeInvalid, "did you mean fd00::/64?"},
		{"mapped", "::ffff:10.0.0.5/120", nil, api.CodeInvalid, "did you mean 10.0.0.0/24?"},
		{"this host", "0.1.0.0/16", nil, api.CodeInvalid, "this host"},
		{"loopback", "127.5.0.0/16", nil, api.CodeInvalid, "loopback"},
		{"around loopback", "126.0.0.0/7", nil, api.CodeInvalid, "loopback"},
		{"link-local", "169.254.1.0/24", nil, api.CodeInvalid, "link-local"},
		{"multicast", "239.0.0.0/8", nil, api.CodeInvalid, "multicast"},
		{"reserved", "250.0.0.0/8", nil, api.CodeInvalid, "reserved"},
		{"IPv6 loopback", "::1/128", nil, api.CodeInvalid, "loopback"},
		{"IPv6 link-local", "fe80::/64", nil, api.CodeInvalid, "link-local"},
		{"IPv6 multicast", "ff05::/64", nil, api.CodeInvalid, "multicast"},
		{"too small", "10.0.0.1/32", nil, api.CodeInvalid, "too small"},
		{"overlap in the request", "10.0.0.0/16 10.0.1.0/24", nil, api.CodeInvalid, "overlap"},
		{"overlap with a network", "10.99.1.0/24", nil, api.CodeConflict, "overlaps 10.99.0.0/16 of network web"},
		{"overlap around a network", "10.0.0.0/8", nil, api.CodeConflict, "network web"},
		{"length of no pool", "0.0.0.0/8", nil, api.CodeInvalid, "/16 to /30"},
		{"length of no IPv6 pool", "::/8", nil, api.CodeInvalid, "/48 to /126"},
		{"gateway outside", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Gateways = addrs("10.0.1.1") }, api.CodeInvalid, "none of the network's subnets (10.0.0.0/24)"},
		{"two gateways", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Gateways = addrs("10.0.0.1 10.0.0.2") }, api.CodeInvalid, "two gateways"},
		{"gateway is the network", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Gateways = addrs("10.0.0.0") }, api.CodeInvalid, "use 10.0.0.1 to 10.0.0.254"},
		{"gateway and none", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Gateways, r.NoGateway = addrs("10.0.0.1"), true }, api.CodeInvalid, "contradicts"},
		{"range outside", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Ranges = parseAll("10.0.1.0/28") }, api.CodeInvalid, "within none"},
		{"range too large", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Ranges = parseAll("10.0.0.0/16") }, api.CodeInvalid, "within none"},
		{"range with host bits", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Ranges = parseAll("10.0.0.5/28") }, api.CodeInvalid, "did you mean 10.0.0.0/28?"},
		{"two ranges", "10.0.0.0/24", func(r *api.NetworkRequest) { r.Ranges = parseAll("10.0.0.0/28 10.0.0.16/28") }, api.CodeInvalid, "two IP ranges"},
		{"no subnet, but one", "10.0.0.0/24", func(r *api.NetworkRequest) { r.NoSubnet = true }, api.CodeInvalid, "without subnets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := api.NetworkRequest{Subnets: parseAll(c.subnets)}
			if c.change != nil {
				c.change(&r)
			}
			_, err := ipam.Subnets(&r, []ipam.Owned{{Network: "web", Prefix: prefix("10.99.0.0/16")}}, nil, random())
			if code(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want code %s and %q", err, c.code, c.says)
			}
			var e *api.Error
			if errors.As(err, &e) && c.code == api.CodeConflict && e.Object != "web" {
				t.Errorf("object is %q", e.Object)
			}
		})
	}
}

func TestSubnetsExhausted(t *testing.T) {
	routes := parseAll("172.16.0.0/12 192.168.0.0/16")
	if _, err := ipam.Subnets(&api.NetworkRequest{}, nil, routes, random()); code(err) != api.CodeExhausted {
		t.Errorf("got %v, want %s", err, api.CodeExhausted)
	}
	_, err := ipam.Subnets(&api.NetworkRequest{Subnets: parseAll("::/0")}, nil, nil, bytes.NewReader(nil))
	if err == nil {
		t.Error("chose an IPv6 subnet without randomness")
	}
}

// firstFit looks at each subnet of the default pools in turn.
func firstFit(bits int, avoid []netip.Prefix) netip.Prefix {
	step := uint32(1) << (32 - bits)
	for _, block := range []struct{ first, last uint32 }{{172<<24 | 17<<16, 172<<24 | 31<<16 | 0xffff}, {192<<24 | 168<<16, 192<<24 | 168<<16 | 0xffff}} {
		for a := block.first; a <= block.last; a += step {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), bits)
			if !slices.ContainsFunc(avoid, p.Overlaps) {
				return p
			}
		}
	}
	return netip.Prefix{}
}

// The default pools give the first subnet that clashes with nothing.
func TestSubnetsFromDefaultsAreFirstFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var routes []netip.Prefix
		for range rapid.IntRange(0, 40).Draw(t, "routes") {
			a := [4]byte{172, byte(rapid.IntRange(16, 32).Draw(t, "b")), rapid.Byte().Draw(t, "c"), rapid.Byte().Draw(t, "d")}
			if rapid.IntRange(0, 3).Draw(t, "which") == 0 {
				a[0], a[1] = 192, 168
			}
			p := netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(13, 32).Draw(t, "length"))
			if rapid.Bool().Draw(t, "masked") {
				p = p.Masked()
			}
			routes = append(routes, p)
		}
		bits := rapid.IntRange(16, 26).Draw(t, "bits")
		want := firstFit(bits, routes)
		r := api.NetworkRequest{Subnets: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), bits)}}
		got, err := ipam.Subnets(&r, nil, routes, random())
		if !want.IsValid() {
			if code(err) != api.CodeExhausted {
				t.Fatalf("got %v (%v), want %s", got, err, api.CodeExhausted)
			}
			return
		}
		if err != nil || got[0].Prefix != want {
			t.Fatalf("got %v (%v), want %v", got, err, want)
		}
	})
}

func TestSubnetsIPv6FromDefaults(t *testing.T) {
	r := api.NetworkRequest{Subnets: parseAll("::/0 ::/56")}
	got, err := ipam.Subnets(&r, nil, parseAll("fc00::/7 ::/0"), random())
	if err != nil {
		t.Fatal(err)
	}
	ula := prefix("fd00::/8")
	if a, b := got[0].Prefix, got[1].Prefix; a.Bits() != 64 || b.Bits() != 56 || !ula.Contains(a.Addr()) || !ula.Contains(b.Addr()) || a.Overlaps(b) {
		t.Errorf("chose %v and %v", a, b)
	}
}

func FuzzSubnets(f *testing.F) {
	f.Add("10.0.0.0/24", "10.0.0.1", "10.0.0.0/28")
	f.Add("::/0", "fd00::1", "0.0.0.0/0")
	f.Add("255.255.255.255/32", "", "")
	f.Fuzz(func(t *testing.T, subnet, gateway, within string) {
		var r api.NetworkRequest
		if p, err := netip.ParsePrefix(subnet); err == nil {
			r.Subnets = append(r.Subnets, p)
		}
		if a, err := netip.ParseAddr(gateway); err == nil {
			r.Gateways = append(r.Gateways, a)
		}
		if p, err := netip.ParsePrefix(within); err == nil {
			r.Ranges = append(r.Ranges, p)
		}
		subnets, err := ipam.Subnets(&r, nil, nil, random())
		if err != nil {
			if c := code(err); c != api.CodeInvalid && c != api.CodeExhausted {
				t.Fatal(c)
			}
			return
		}
		pools, err := ipam.NewPools(subnets)
		if err != nil {
			t.Fatalf("%v was accepted, but makes no pool: %v", subnets, err)
		}
		given, err := pools.Assign("p", nil, epoch)
		if err != nil || len(given) != 1 || !subnets[0].Prefix.Contains(given[0].Addr()) || given[0].Addr() == subnets[0].Gateway {
			t.Fatalf("%v gives %v (%v)", subnets, given, err)
		}
	})
}
