package l2switch_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vswitch/internal/packet"
)

// lawless says what is wrong with a frame of the guarded port by gopacket's account; "" when it finds nothing. It is the guard's naive
// twin: it looks at the layers as a receiver would see them one by one.
func lawless(b []byte) string {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
	addressed := false
	for _, l := range p.Layers() {
		switch v := l.(type) {
		case *layers.Ethernet:
			if v.SrcMAC.String() != own {
				return "source MAC"
			}
		case *layers.ARP:
			if net.HardwareAddr(v.SourceHwAddress).String() != own {
				return "ARP sender MAC"
			}
			claimed := net.IP(v.SourceProtAddress)
			if claimed.IsUnspecified() && v.Operation == 1 { // a probe
				claimed = v.DstProtAddress
			}
			if !owned(claimed) {
				return "ARP sender address"
			}
			return ""
		case *layers.IPv4:
			if !owned(v.SrcIP) && !v.SrcIP.IsUnspecified() {
				return "IPv4 source"
			}
			addressed = !v.SrcIP.IsUnspecified()
			if v.FragOffset != 0 {
				return ""
			}
		case *layers.IPv6:
			if !owned(v.SrcIP) && !v.SrcIP.IsUnspecified() {
				return "IPv6 source"
			}
			addressed = !v.SrcIP.IsUnspecified()
		case *layers.IPv6Fragment:
			if v.FragmentOffset != 0 {
				return ""
			}
		case *layers.GRE:
			return "" // what is inside of a tunnel is payload
		case *layers.UDP:
			if server := []layers.UDPPort{67, 547}; slices.Contains(server, v.SrcPort) {
				return "DHCP server"
			}
			if !addressed && (v.SrcPort != 68 || v.DstPort != 67) {
				return "UDP without an address"
			}
			return ""
		case *layers.TCP:
			if !addressed {
				return "TCP without an address"
			}
			return ""
		case *layers.ICMPv4:
			if t := v.TypeCode.Type(); t == 5 || t == 9 || !addressed {
				return "ICMP"
			}
			return ""
		case *layers.ICMPv6RouterAdvertisement, *layers.ICMPv6Redirect:
			return "router's ICMPv6"
		case *layers.ICMPv6NeighborAdvertisement:
			if !owned(v.TargetAddress) || !addressed {
				return "NA"
			}
			return badOptions(v.Options)
		case *layers.ICMPv6NeighborSolicitation:
			if !addressed && !owned(v.TargetAddress) {
				return "DAD"
			}
			return badOptions(v.Options)
		case *layers.ICMPv6RouterSolicitation:
			return badOptions(v.Options)
		}
	}
	return ""
}

func owned(ip net.IP) bool {
	return slices.Contains([]string{own4, "10.0.0.11", own6, ownLL}, ip.String()) || ip.IsLinkLocalUnicast() && ip.To4() == nil && ip.String() != victimLL
}

func badOptions(options layers.ICMPv6Options) string {
	for _, o := range options {
		lla := o.Type == layers.ICMPv6OptSourceAddress || o.Type == layers.ICMPv6OptTargetAddress
		if lla && net.HardwareAddr(o.Data).String() != own {
			return "link-layer address"
		}
	}
	return ""
}

// What the guard lets pass, gopacket finds lawful: of all frames of the table, and of many made from them by changes of a few bytes and by
// cutting.
func TestGuardAgreesWithGopacket(t *testing.T) {
	g, r := newGuard(), rand.New(rand.NewPCG(1, 2))
	interesting := []byte{0, 1, 2, 5, 6, 8, 9, 17, 44, 58, 60, 67, 68, 133, 134, 135, 136, 137, 254, 255}
	f := packet.NewFrame(make([]byte, packet.BufSize))
	passed, refused := 0, 0
	for round := range 400 {
		for _, c := range guardCases {
			b := slices.Clone(c.build(c.options...).Bytes())
			b = b[:min(len(b), 200)]
			for range min(round, 1+r.IntN(4)) {
				b[r.IntN(len(b))] = interesting[r.IntN(len(interesting))]
			}
			if round > 0 && r.IntN(8) == 0 {
				b = b[:14+r.IntN(len(b)-13)]
			}
			f.Load(nil, b)
			if f.Parse() != packet.DropNone {
				continue
			}
			if g.Check(f) != packet.DropNone {
				refused++
				continue
			}
			passed++
			if why := lawless(b); why != "" {
				t.Fatalf("%s, changed: the guard lets pass what is lawless for its %s:\n%s", c.name, why, fmt.Sprintf("%x", b))
			}
		}
	}
	if passed < 1000 || refused < 1000 {
		t.Errorf("%d frames passed and %d were refused: this proves little", passed, refused)
	}
}
