package ipam

import (
	"fmt"
	"io"
	"net/netip"

	"vswitch/internal/api"
	"vswitch/internal/prefix"
)

// block is a part of the default pools that is cut into subnets.
type block struct {
	prefix netip.Prefix
	bits   int // length of a subnet when none is asked for
}

// blocks are IPv4's default pools, in Docker's order: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in slices.
var blocks = func() (bs []block) {
	for n := byte(17); n <= 31; n++ {
		bs = append(bs, block{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, n}), 16), 16})
	}
	return append(bs, block{netip.MustParsePrefix("192.168.0.0/16"), 20})
}()

// Routes shorter than this say "everything else", be they written as 0.0.0.0/0 or, as VPNs do, 0.0.0.0/1 and 128.0.0.0/1. To
// avoid them would leave no subnet to choose.
const (
	minRoute4 = 8
	minRoute6 = 16
)

// choose takes a subnet from the default pools that overlaps none of avoid. want is as for Subnets.
func choose(want netip.Prefix, avoid []netip.Prefix, random io.Reader) (netip.Prefix, error) {
	bits := max(want.Bits(), 0)
	if want.IsValid() && want.Addr().Is6() {
		return choose6(bits, avoid, random)
	}
	return choose4(bits, avoid)
}

func choose4(bits int, avoid []netip.Prefix) (netip.Prefix, error) {
	if bits != 0 && (bits < 16 || bits > 30) {
		return netip.Prefix{}, api.Errorf(api.CodeInvalid, "the default pools have no IPv4 subnet of length /%d: ask for /16 to /30, or name the subnet", bits)
	}
	for _, b := range blocks {
		n := bits
		if n == 0 {
			n = b.bits
		}
		for p := netip.PrefixFrom(b.prefix.Addr(), n); b.prefix.Contains(p.Addr()); {
			q := clash(p, avoid, minRoute4)
			if !q.IsValid() {
				return p, nil
			}
			if q.Bits() > n {
				q = p
			}
			p = netip.PrefixFrom(prefix.Last(q.Masked()).Next(), n) // behind both
		}
	}
	return netip.Prefix{}, api.Errorf(api.CodeExhausted, "all default IPv4 subnets clash with networks or with routes of the host: name a free one with --subnet")
}

// choose6 makes a unique local prefix of a random global id (RFC 4193 3.2).
func choose6(bits int, avoid []netip.Prefix, random io.Reader) (netip.Prefix, error) {
	if bits == 0 {
		bits = 64
	}
	if bits < 48 || bits > 126 {
		return netip.Prefix{}, api.Errorf(api.CodeInvalid, "the default pools have no IPv6 subnet of length /%d: ask for /48 to /126, or name the subnet", bits)
	}
	for range 100 {
		a := [16]byte{0: 0xfd}
		if _, err := io.ReadFull(random, a[1:6]); err != nil {
			return netip.Prefix{}, fmt.Errorf("choose a random IPv6 subnet: %w", err)
		}
		p := netip.PrefixFrom(netip.AddrFrom16(a), bits)
		if !clash(p, avoid, minRoute6).IsValid() {
			return p, nil
		}
	}
	return netip.Prefix{}, api.Errorf(api.CodeExhausted, "all IPv6 subnets tried clash with networks or with routes of the host: name a free one with --subnet")
}

// clash returns the first of avoid, unless shorter than minBits, that overlaps p.
func clash(p netip.Prefix, avoid []netip.Prefix, minBits int) netip.Prefix {
	for _, q := range avoid {
		if q.Bits() >= minBits && q.Overlaps(p) {
			return q
		}
	}
	return netip.Prefix{}
}
