package prefix_test

import (
	"net/netip"
	"testing"

	"vswitch/internal/prefix"
)

func TestLast(t *testing.T) {
	for p, want := range map[string]string{
		"10.1.2.3/24": "10.1.2.255", "10.1.2.3/23": "10.1.3.255", "192.0.2.5/30": "192.0.2.7", "192.0.2.4/31": "192.0.2.5",
		"192.0.2.4/32": "192.0.2.4", "0.0.0.0/0": "255.255.255.255", "fd00::1/64": "fd00::ffff:ffff:ffff:ffff", "fd00::/127": "fd00::1",
		"::/1": "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::9/128": "fd00::9",
	} {
		p := netip.MustParsePrefix(p)
		last := prefix.Last(p)
		if last.String() != want {
			t.Errorf("%v: got %v, want %s", p, last, want)
		}
		if !p.Contains(last) || p.Contains(last.Next()) {
			t.Errorf("%v: %v is not the last of its addresses", p, last)
		}
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.1": "10.0.0.1/32", "10.0.0.1/8": "10.0.0.1/8", "fd00::1": "fd00::1/128", "fd00::/8": "fd00::/8", "::/0": "::/0",
		"fe80::1%eth0": "", "fe80::1%eth0/64": "", "10.0.0.1/33": "", "web": "", "": "",
	} {
		p, err := prefix.Parse(s)
		if want == "" && err == nil || want != "" && (err != nil || p.String() != want) {
			t.Errorf("%q: got %v, %v; want %s", s, p, err, want)
		}
	}
}

func TestDefault(t *testing.T) {
	for like, want := range map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "0.0.0.0/0", netip.MustParseAddr("fd00::1"): "::/0", {}: "0.0.0.0/0"} {
		if p := prefix.Default(like); p.String() != want {
			t.Errorf("%v: got %v, want %s", like, p, want)
		}
	}
}
