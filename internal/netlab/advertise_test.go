package netlab_test

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
)

// advertised is a router advertisement as gopacket decodes it: to whom, and its options.
type advertised struct {
	to, mac  string
	lifetime uint16
	options  map[string]string // by type; of prefixes by prefix
}

func decodeRA(t *testing.T, frame []byte) advertised {
	t.Helper()
	if err := Finished(make([]byte, packet.VnetLen), frame); err != nil {
		t.Fatalf("a bad frame: %v", err)
	}
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ip, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	ra, _ := p.Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
	if ip == nil || ra == nil || ip.HopLimit != 255 || !netip.MustParseAddr(ip.SrcIP.String()).IsLinkLocalUnicast() || ra.ManagedAddressConfig() || ra.OtherConfig() {
		t.Fatalf("not a valid router advertisement: %v", p)
	}
	got := advertised{to: ip.DstIP.String(), mac: hex.EncodeToString(frame[:6]), lifetime: ra.RouterLifetime, options: map[string]string{}}
	for _, o := range ra.Options {
		got.options[o.Type.String()] += hex.EncodeToString(o.Data) + " "
	}
	return got
}

// The gateway advertises itself when it is asked, and now and then; takes back what it has said; and floods of questions get few answers.
func TestRouterAdvertisements(t *testing.T) {
	lab, a1, a2, _ := routed(t)
	n := a1.Net()
	gw := netip.MustParseAddr("fe80::800:ff:fe00:1").String()
	if got := n.Gateway().If.Source(netip.MustParseAddr("fe80::9")).String(); got != gw {
		t.Fatalf("the gateway's link-local address is %s", got)
	}
	advertise := func(a *pipeline.Advertisement) {
		lab.Path().Do(n.Advertise(a))
		lab.Path().Quiesce()
		lab.Settle()
	}
	tend := func(d time.Duration) {
		for range int(d / time.Second) {
			lab.Advance(time.Second)
			lab.Path().Do(n.TendAdvertiser(lab.Now()))
		}
		lab.Path().Quiesce()
		lab.Settle()
	}
	solicit := func(p *netlab.Port, src string, o ...NDOption) *packet.Frame {
		return ND(133, "", o, From(macOf(p.MAC), src, 0), To("33:33:00:00:00:02", "ff02::2", 0))
	}
	take := func(p *netlab.Port) (list []advertised) {
		for _, f := range p.Take() {
			if f[54] == 134 {
				list = append(list, decodeRA(t, f))
			}
		}
		return list
	}
	tend(time.Hour)
	a1.Send(solicit(a1, "fe80::1"))
	if got := take(a1); len(got) != 0 {
		t.Fatalf("advertised unasked: %+v", got)
	}
	lab.Discard()

	both := pipeline.Advertisement{
		MTU: 1400, Default: true, DNS: []netip.Addr{netip.MustParseAddr("fd01::53"), netip.MustParseAddr("2001:db8::53")},
		Prefixes: []netip.Prefix{netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("fd09::/80")},
	}
	options := map[string]string{
		"SourceAddress": "0a0000000001 ", "MTU": "000000000578 ",
		"PrefixInfo":  "40c000278d0000093a8000000000fd010000000000000000000000000000 508000278d0000093a8000000000fd090000000000000000000000000000 ",
		"Unknown(25)": "000000000708fd010000000000000000000000000053" + "20010db8000000000000000000000053 ",
	}
	want := advertised{to: "ff02::1", mac: "333300000001", lifetime: 1800, options: options}
	check := func(what string, got []advertised, want ...advertised) {
		t.Helper()
		if d := cmp.Diff(want, got, cmp.AllowUnexported(advertised{})); d != "" {
			t.Errorf("%s: -want +got\n%s", what, d)
		}
	}
	advertise(&both)
	tend(time.Second)
	check("at first", take(a1), want)
	check("at first, at a2", take(a2), want)
	alone := want
	alone.to, alone.mac = "fe80::1", "020000000001"
	a1.Send(solicit(a1, "fe80::1", SourceLLA(macOf(a1.MAC))))
	check("asked", take(a1), alone)
	lab.Discard()
	for _, bad := range []*packet.Frame{
		ND(133, "", nil, a1.From6(0), To("33:33:00:00:00:02", "ff02::2", 0), TTL(64)),
		ND(133, "", nil, a1.From6(0), To("33:33:00:00:00:02", "ff02::2", 0), BadChecksum()),
		solicit(a1, "::", SourceLLA(macOf(a1.MAC))),
		ND(133, "", []NDOption{{1, 0, 0, 0, 0, 0, 0, 0}}, a1.From6(0), To("33:33:00:00:00:02", "ff02::2", 0)),
	} {
		a1.Send(bad)
		check("asked badly", take(a1))
	}
	for range 1000 { // one is answered, and then all are
		a1.Send(solicit(a1, "fe80::1"))
		lab.Settle()
	}
	a1.Send(solicit(a1, "::"))
	lab.Advance(20 * time.Millisecond)
	if got := take(a1); len(got) > 1 {
		t.Errorf("%d answers to a flood", len(got))
	}
	tend(3 * time.Second)
	check("soon after a flood", take(a1), want)
	tend(time.Hour)
	if got := len(take(a1)); got < 6+3 || got > 18+3 {
		t.Errorf("%d advertisements in an hour", got)
	}

	one := both
	one.Prefixes, one.DNS = one.Prefixes[:1], one.DNS[:1]
	advertise(&one)
	gone := advertised{to: "ff02::1", mac: "333300000001", lifetime: 1800, options: map[string]string{
		"SourceAddress": options["SourceAddress"], "MTU": options["MTU"], "PrefixInfo": "5080000000000000000000000000fd090000000000000000000000000000 ",
		"Unknown(25)": "00000000000020010db8000000000000000000000053 ",
	}}
	check("a prefix and a resolver less", take(a1), gone)
	advertise(&one)
	check("the same again", take(a1))
	tend(time.Second)
	take(a1)
	advertise(nil)
	gone.options["Unknown(25)"] = "000000000000fd010000000000000000000000000053 "
	gone.lifetime, gone.options["PrefixInfo"] = 0, "40c0000000000000000000000000fd010000000000000000000000000000 "
	check("no more", take(a1), gone)
	tend(time.Hour)
	check("long after", take(a1))
}
