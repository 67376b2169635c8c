package packet_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// found is what Parse says of a frame, as the tables here write it.
type found struct {
	Flags                packet.Flags
	L3, L4, Payload, End int
	Size, Segs           int
	VLAN, Inner, Type    uint16
	Proto                uint8
	SrcPort, DstPort     uint16
}

func find(f *packet.Frame) found {
	k := &f.Key
	return found{f.Flags, f.L3, f.L4, f.Payload, f.L3End, f.L3Size, f.Segs, k.VLAN, k.Inner, k.EtherType, k.Proto, k.SrcPort, k.DstPort}
}

var (
	from6 = From("02:00:00:00:00:01", "fd00::1", 1000)
	to6   = To("02:00:00:00:00:02", "fd00::2", 2000)
)

func TestParseFinds(t *testing.T) {
	const v4, v6, vlan = 0x0800, 0x86dd, packet.VLANPresent
	destination := Extension(60, 0, 1, 4, 0, 0, 0, 0)
	for _, c := range []struct {
		name  string
		frame *packet.Frame
		want  found
	}{
		{"UDP", UDP(Size(18)), found{0, 14, 34, 42, 60, 46, 1, 0, 0, v4, 17, 1000, 2000}},
		{"UDP without payload", UDP(), found{0, 14, 34, 42, 42, 28, 1, 0, 0, v4, 17, 1000, 2000}},
		{"padding", UDP(Size(1), Trailer(17)), found{0, 14, 34, 42, 43, 46, 1, 0, 0, v4, 17, 1000, 2000}},
		{"UDP over IPv6", UDP(from6, to6, Size(5)), found{0, 14, 54, 62, 67, 53, 1, 0, 0, v6, 17, 1000, 2000}},
		{"TCP with options", TCP(Timestamps(1, 2), Size(3)), found{0, 14, 34, 66, 69, 55, 1, 0, 0, v4, 6, 1000, 2000}},
		{"SYN", TCP(Flags(2)), found{packet.FlagSYN, 14, 34, 54, 54, 40, 1, 0, 0, v4, 6, 1000, 2000}},
		{"FIN", TCP(Flags(0x11)), found{packet.FlagFIN, 14, 34, 54, 54, 40, 1, 0, 0, v4, 6, 1000, 2000}},
		{"RST", TCP(Flags(0x14)), found{packet.FlagRST, 14, 34, 54, 54, 40, 1, 0, 0, v4, 6, 1000, 2000}},
		{"all but SYN, FIN, RST", TCP(Flags(0xf8)), found{0, 14, 34, 54, 54, 40, 1, 0, 0, v4, 6, 1000, 2000}},
		{"TTL 1", UDP(TTL(1)), found{packet.FlagTTL, 14, 34, 42, 42, 28, 1, 0, 0, v4, 17, 1000, 2000}},
		{"hop limit 0", UDP(from6, to6, TTL(0)), found{packet.FlagTTL, 14, 54, 62, 62, 48, 1, 0, 0, v6, 17, 1000, 2000}},
		{"group", UDP(To("01:00:5e:00:00:01", "224.0.0.1", 9)), found{packet.FlagGroup, 14, 34, 42, 42, 28, 1, 0, 0, v4, 17, 1000, 9}},
		{"IP options", UDP(IPOptions(1, 1, 1, 0)), found{packet.FlagOptions, 14, 38, 46, 46, 32, 1, 0, 0, v4, 17, 1000, 2000}},

		{"first fragment", UDP(Fragment(0, true), Size(64)), found{packet.FlagFragment, 14, 0, 0, 106, 92, 1, 0, 0, v4, 17, 0, 0}},
		{"last fragment", UDP(Fragment(9, false), Size(64)), found{packet.FlagFragment, 14, 0, 0, 98, 84, 1, 0, 0, v4, 17, 0, 0}},
		{"IPv6 fragment", UDP(from6, to6, Fragment(9, false), Size(64)),
			found{packet.FlagFragment | packet.FlagOptions, 14, 0, 0, 126, 112, 1, 0, 0, v6, 17, 0, 0}},
		{"atomic fragment", UDP(from6, to6, Fragment(0, false)), found{packet.FlagOptions, 14, 62, 70, 70, 56, 1, 0, 0, v6, 17, 1000, 2000}},
		{"extension headers", TCP(from6, to6, HopByHop(), destination),
			found{packet.FlagOptions, 14, 70, 90, 90, 76, 1, 0, 0, v6, 6, 1000, 2000}},
		{"authentication header", UDP(from6, to6, Extension(51, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)),
			found{packet.FlagOptions, 14, 66, 74, 74, 60, 1, 0, 0, v6, 17, 1000, 2000}},

		{"tag", UDP(VLAN(0xe00a)), found{0, 18, 38, 46, 46, 28, 1, vlan | 10, 0, v4, 17, 1000, 2000}},
		{"priority tag", UDP(VLAN(0xe000)), found{0, 18, 38, 46, 46, 28, 1, vlan, 0, v4, 17, 1000, 2000}},
		{"two tags", UDP(VLAN(10, 20)), found{0, 22, 42, 50, 50, 28, 1, vlan | 10, vlan | 20, v4, 17, 1000, 2000}},
		{"three tags", UDP(VLAN(10, 20, 30)), found{0, 26, 46, 54, 54, 28, 1, vlan | 10, vlan | 20, v4, 17, 1000, 2000}},
		{"four tags are opaque", UDP(VLAN(10, 20, 30, 40)), found{0, 26, 0, 0, 58, 32, 1, vlan | 10, vlan | 20, 0x8100, 0, 0, 0}},
		{"service tag", UDP(ServiceVLAN(7)), found{0, 18, 38, 46, 46, 28, 1, 0, 0x3007, v4, 17, 1000, 2000}},
		{"QinQ", UDP(ServiceVLAN(7), VLAN(10)), found{0, 22, 42, 50, 50, 28, 1, 0, 0x3007, v4, 17, 1000, 2000}},

		{"ARP", ARPRequest(), found{packet.FlagGroup, 14, 0, 0, 42, 28, 1, 0, 0, 0x0806, 0, 1, 0}},
		{"ARP reply with padding", ARPReply(Trailer(18)), found{0, 14, 0, 0, 60, 46, 1, 0, 0, 0x0806, 0, 2, 0}},
		{"opaque", Raw(0x88cc, Size(46)), found{0, 14, 0, 0, 60, 46, 1, 0, 0, 0x88cc, 0, 0, 0}},
		{"LLC", Raw(46, Size(46)), found{0, 14, 0, 0, 60, 46, 1, 0, 0, 0, 0, 0, 0}},

		{"echo", ICMPEcho(Echo(7, 1)), found{0, 14, 34, 42, 42, 28, 1, 0, 0, v4, 1, 0x0800, 7}},
		{"ICMPv6 echo reply", ICMPEchoReply(from6, to6, Echo(7, 1)), found{0, 14, 54, 62, 62, 48, 1, 0, 0, v6, 58, 0x8100, 7}},
		{"ICMP error", IP(1, Payload("\x03\x04\xaa\xbb\x00\x00\x05\xdc")), found{packet.FlagICMPError, 14, 34, 42, 42, 28, 1, 0, 0, v4, 1, 0x0304, 0}},
		{"ICMPv6 error", IP(58, from6, to6, Payload("\x02\x00\xaa\xbb\x00\x00\x05\xdc")),
			found{packet.FlagICMPError, 14, 54, 62, 62, 48, 1, 0, 0, v6, 58, 0x0200, 0}},
		{"Neighbor Discovery", ND(135, "fd00::1", nil, from6, to6), found{packet.FlagND, 14, 54, 62, 78, 64, 1, 0, 0, v6, 58, 0x8700, 0}},
		{"ICMPv6 in IPv4", IP(58, Payload("\x87\x00\xaa\xbb\x00\x00\x00\x00")), found{0, 14, 0, 0, 42, 28, 1, 0, 0, v4, 58, 0, 0}},
		{"ICMP in IPv6", IP(1, from6, to6, Payload("\x08\x00\xaa\xbb\x00\x00\x00\x00")), found{0, 14, 0, 0, 62, 48, 1, 0, 0, v6, 1, 0, 0}},
		{"SCTP", IP(132, Payload("\x03\xe8\x07\xd0--------")), found{0, 14, 34, 42, 46, 32, 1, 0, 0, v4, 132, 1000, 2000}},
		{"short SCTP", IP(132, Payload("\x03\xe8")), found{0, 14, 0, 0, 36, 22, 1, 0, 0, v4, 132, 0, 0}},
		{"ESP", IP(50, Size(30)), found{0, 14, 0, 0, 64, 50, 1, 0, 0, v4, 50, 0, 0}},
		{"no next header", IP(59, from6, to6), found{0, 14, 0, 0, 54, 40, 1, 0, 0, v6, 59, 0, 0}},

		{"partial", UDP(Partial(), Size(8)), found{0, 14, 34, 42, 50, 36, 1, 0, 0, v4, 17, 1000, 2000}},
		{"TSO", TCP(GSO(1448), Size(60000), Timestamps(1, 2)), found{packet.FlagGSO, 14, 34, 66, 60066, 1500, 42, 0, 0, v4, 6, 1000, 2000}},
		{"TSO6 with CWR and tag", TCP(from6, to6, GSO(1440), ECN(), VLAN(10), Size(1441)),
			found{packet.FlagGSO, 18, 58, 78, 1519, 1500, 2, vlan | 10, 0, v6, 6, 1000, 2000}},
		{"TSO behind a hop-by-hop header", TCP(from6, to6, HopByHop(), GSO(100), Size(200)),
			found{packet.FlagGSO | packet.FlagOptions, 14, 62, 82, 282, 168, 2, 0, 0, v6, 6, 1000, 2000}},
		{"USO", UDP(GSO(1472), Size(1472*44)), found{packet.FlagGSO, 14, 34, 42, 64810, 1500, 44, 0, 0, v4, 17, 1000, 2000}},
		{"USO of one segment", UDP(GSO(1472), Size(1472)), found{0, 14, 34, 42, 1514, 1500, 1, 0, 0, v4, 17, 1000, 2000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := c.frame.Parse(); r != packet.DropNone {
				t.Fatalf("dropped: %v", r)
			}
			if diff := cmp.Diff(c.want, find(c.frame)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestParseAddresses(t *testing.T) {
	for _, c := range []struct {
		frame    *packet.Frame
		src, dst string
	}{
		{UDP(), "10.0.0.1", "10.0.0.2"},
		{UDP(from6, to6), "fd00::1", "fd00::2"},
		{ARPRequest(), "10.0.0.1", "10.0.0.2"},
		{Raw(0x88cc), "invalid IP", "invalid IP"},
	} {
		c.frame.Key.InPort, c.frame.Key.VNI, c.frame.Key.Remote = 7, 8, 9
		c.frame.Parse()
		k := c.frame.Key
		if k.SrcAddr().String() != c.src || k.DstAddr().String() != c.dst {
			t.Errorf("%v -> %v, want %s -> %s", k.SrcAddr(), k.DstAddr(), c.src, c.dst)
		}
		if k.InPort != 7 || k.VNI != 8 || k.Remote != 9 {
			t.Errorf("Parse changed whence the frame came: %+v", k)
		}
		if k.SrcMAC != [6]byte{2, 0, 0, 0, 0, 1} || [6]byte(c.frame.Ethernet().Dst()) != k.DstMAC {
			t.Errorf("MACs %x -> %x", k.SrcMAC, k.DstMAC)
		}
	}
}

func TestParseDrops(t *testing.T) {
	const vnet = packet.VnetLen
	cut := func(n int) func(*packet.Frame) { return func(f *packet.Frame) { f.SetLen(f.Len() - n) } }
	// put writes bytes at a place counted from the Ethernet header.
	put := func(at int, b ...byte) func(*packet.Frame) {
		return func(f *packet.Frame) { copy(f.WithVnet()[vnet+at:], b) }
	}
	long := func(f *packet.Frame) { f.SetLen(packet.MaxFrame + 1) }
	udp6 := func(o ...Option) *packet.Frame { return UDP(append(o, from6, to6)...) }
	nest := make([]Option, 9)
	for i := range nest {
		nest[i] = Extension(60, 0, 1, 4, 0, 0, 0, 0)
	}

	for _, c := range []struct {
		name  string
		frame *packet.Frame
		spoil func(*packet.Frame)
		want  packet.DropReason
	}{
		{"empty", UDP(), func(f *packet.Frame) { f.SetRead(0) }, packet.DropRunt},
		{"vnet header only", UDP(), func(f *packet.Frame) { f.SetRead(vnet) }, packet.DropRunt},
		{"half a vnet header", UDP(), func(f *packet.Frame) { f.SetRead(5) }, packet.DropRunt},
		{"13 bytes", UDP(), func(f *packet.Frame) { f.SetLen(13) }, packet.DropRunt},
		{"too long", UDP(), long, packet.DropOversize},
		{"tag cut off", UDP(VLAN(1)), func(f *packet.Frame) { f.SetLen(17) }, packet.DropBadVLAN},
		{"second tag cut off", UDP(VLAN(1, 2)), func(f *packet.Frame) { f.SetLen(18) }, packet.DropBadVLAN},

		{"ARP cut off", ARPRequest(), cut(1), packet.DropBadARP},
		{"ARP for other hardware", ARPRequest(), put(15, 6), packet.DropBadARP},
		{"ARP for IPv6", ARPRequest(), put(16, 0x86, 0xdd), packet.DropBadARP},
		{"ARP with long addresses", ARPRequest(), put(18, 8), packet.DropBadARP},

		{"IPv4 cut off", UDP(), func(f *packet.Frame) { f.SetLen(33) }, packet.DropBadIPv4},
		{"IPv4 of version 5", UDP(), put(14, 0x55), packet.DropBadIPv4},
		{"IHL 4", UDP(), put(14, 0x44), packet.DropBadIPv4},
		{"IHL beyond the total length", UDP(), put(14, 0x4f), packet.DropBadIPv4},
		{"total length beyond the frame", UDP(), put(16, 0, 29), packet.DropBadIPv4},
		{"total length within the header", UDP(), put(16, 0, 19), packet.DropBadIPv4},
		{"total length 0", TCP(GSO(1000), Size(2000)), put(16, 0, 0), packet.DropBadIPv4},

		{"IPv6 cut off", udp6(), func(f *packet.Frame) { f.SetLen(53) }, packet.DropBadIPv6},
		{"IPv6 of version 4", udp6(), put(14, 0x45), packet.DropBadIPv6},
		{"payload length beyond the frame", udp6(), put(18, 0, 9), packet.DropBadIPv6},
		{"jumbogram", udp6(HopByHop()), put(18, 0, 0), packet.DropBadIPv6},
		{"extension header beyond the datagram", udp6(HopByHop()), put(55, 2), packet.DropBadIPv6},
		{"extension header cut off", IP(0, from6, to6, Size(7)), nil, packet.DropBadIPv6},
		{"authentication header cut off", IP(51, from6, to6, Size(7)), nil, packet.DropBadIPv6},
		{"fragment header cut off", IP(44, from6, to6, Size(7)), nil, packet.DropBadIPv6},
		{"a long chain of extension headers", udp6(nest...), nil, packet.DropBadIPv6},

		{"TCP cut off", IP(6, Size(19)), nil, packet.DropBadTCP},
		{"data offset 4", TCP(), put(46, 0x40), packet.DropBadTCP},
		{"data offset beyond the datagram", TCP(), put(46, 0x60), packet.DropBadTCP},
		{"UDP cut off", IP(17, Size(7)), nil, packet.DropBadUDP},
		{"UDP length 7", UDP(), put(38, 0, 7), packet.DropBadUDP},
		{"UDP length beyond the datagram", UDP(Trailer(9)), put(38, 0, 9), packet.DropBadUDP},
		{"UDP length 0", udp6(), put(58, 0, 0), packet.DropBadUDP},
		{"ICMP cut off", IP(1, Size(7)), nil, packet.DropBadICMP},
		{"ICMPv6 cut off", IP(58, from6, to6, Size(7)), nil, packet.DropBadICMP},

		{"unknown vnet flag", UDP(), put(-vnet, 4), packet.DropBadVnet},
		{"unknown GSO type", TCP(GSO(100), Size(200)), put(-vnet+1, 2), packet.DropBadVnet},
		{"UFO", UDP(GSO(100), Size(200)), put(-vnet+1, 3), packet.DropBadVnet},
		{"ECN alone", TCP(GSO(100), Size(200)), put(-vnet+1, 0x80), packet.DropBadVnet},
		{"ECN with UDP", UDP(GSO(100), ECN(), Size(200)), nil, packet.DropBadVnet},
		{"TSO6 of IPv4", TCP(GSO(100), Size(200)), put(-vnet+1, 4), packet.DropBadVnet},
		{"TSO4 of IPv6", TCP(from6, to6, GSO(100), Size(200)), put(-vnet+1, 1), packet.DropBadVnet},
		{"TSO of UDP", UDP(GSO(100), Size(200)), put(-vnet+1, 1), packet.DropBadVnet},
		{"USO of TCP", TCP(GSO(100), Size(200)), put(-vnet+1, 5), packet.DropBadVnet},
		{"super-frame of ICMP", ICMPEcho(GSO(100), Size(200)), nil, packet.DropBadVnet},
		{"super-frame of ARP", ARPRequest(), put(-vnet, 0, 1, 0, 0, 100), packet.DropBadVnet},
		{"super-fragment", UDP(GSO(100), Complete(), Fragment(0, true), Size(200)), put(-vnet, 0, 5), packet.DropBadVnet},
		{"segment size 0", UDP(GSO(100), Size(200)), put(-vnet+4, 0, 0), packet.DropBadVnet},
		{"TCP segments of 7 bytes", TCP(GSO(7), Size(200)), nil, packet.DropBadVnet},
		{"129 datagrams", UDP(GSO(10), Size(1281)), nil, packet.DropBadVnet},
		{"super-frame with padding", TCP(GSO(100), Size(200), Trailer(1)), nil, packet.DropBadVnet},
		{"super-frame with a short UDP length", UDP(GSO(100), Size(200)), put(38, 0, 100), packet.DropBadVnet},
		{"super-frame with another checksum start", TCP(GSO(100), Size(200)), put(-vnet+6, 60), packet.DropBadVnet},
		{"super-frame with another checksum offset", TCP(GSO(100), Size(200)), put(-vnet+8, 6), packet.DropBadVnet},
		{"super-frame behind a routing header without NEEDS_CSUM",
			TCP(from6, to6, Extension(43, 0, 0, 0, 0, 0, 0, 0), GSO(100), Size(200), Complete()), nil, packet.DropBadVnet},

		{"checksum start beyond the frame", UDP(Partial()), put(-vnet+6, 42), packet.DropBadVnet},
		{"checksum start far beyond the frame", UDP(Partial()), put(-vnet+6, 0xff, 0xff), packet.DropBadVnet},
		{"checksum start in the padding", UDP(Partial(), Trailer(18)), put(-vnet+6, 42), packet.DropBadVnet},
		{"checksum offset beyond the frame", UDP(Partial()), put(-vnet+8, 0xff, 0xff), packet.DropBadVnet},
		{"checksum half beyond the frame", Raw(0x88cc, Size(30)), put(-vnet, 1, 0, 0, 0, 0, 0, 41, 0, 2, 0), packet.DropBadVnet},
		{"checksum over the MAC addresses", Raw(0x88cc, Size(30)), put(-vnet, 1), packet.DropBadVnet},
		{"checksum over the EtherType", Raw(0x88cc, Size(30)), put(-vnet, 1, 0, 0, 0, 0, 0, 12), packet.DropBadVnet},
		{"checksum over the IPv4 destination", UDP(Partial()), put(-vnet+6, 14, 0, 16, 0), packet.DropBadVnet},
		{"checksum over the UDP ports", UDP(Partial()), put(-vnet+8, 2), packet.DropBadVnet},
		{"checksum over the TCP flags", TCP(Partial()), put(-vnet+8, 12), packet.DropBadVnet},
		{"checksum over ESP's IPv6 destination", IP(50, from6, to6, Size(20)), put(-vnet, 1, 0, 0, 0, 0, 0, 38), packet.DropBadVnet},
		{"checksum over an extension header", IP(50, from6, to6, HopByHop(), Size(20)), put(-vnet, 1, 0, 0, 0, 0, 0, 54), packet.DropBadVnet},
		{"checksum over IPv4 options", IP(50, IPOptions(1, 1, 1, 0), Size(20)), put(-vnet, 1, 0, 0, 0, 0, 0, 34), packet.DropBadVnet},
		{"checksum over ARP's sender", ARPReply(), put(-vnet, 1, 0, 0, 0, 0, 0, 14, 0, 14), packet.DropBadVnet},
		{"checksum over a fragment", UDP(Fragment(9, false), Size(64)), put(-vnet, 1, 0, 0, 0, 0, 0, 40), packet.DropBadVnet},
		{"checksum over SCTP's ports", IP(132, Size(12)), put(-vnet, 1, 0, 0, 0, 0, 0, 34), packet.DropBadVnet},
		{"CRC over half an SCTP header", IP(132, Size(11)), put(-vnet, 1, 0, 0, 0, 0, 0, 34, 0, 8), packet.DropBadVnet},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.spoil != nil {
				c.spoil(c.frame)
			}
			if got := c.frame.Parse(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestParseForgetsFalseHints(t *testing.T) {
	f := UDP(Partial(), Size(20))
	v := f.Vnet()
	v.Set(v[0], 0, 0xffff, 0xfffe, v.CsumStart(), v.CsumOffset())
	if r := f.Parse(); r != packet.DropNone || v.HdrLen() != 0 || v.GSOSize() != 0 || !v.NeedsCsum() {
		t.Errorf("%v, vnet header %x", r, v)
	}
	f = UDP(Size(20))
	v = f.Vnet()
	v.Set(packet.VnetDataValid, 0, 3, 4, 5, 6)
	if r := f.Parse(); r != packet.DropNone || v.HdrLen() != 0 || v.CsumStart() != 0 || v[0] != packet.VnetDataValid {
		t.Errorf("%v, vnet header %x", r, v)
	}
}

func TestParseMakesSuperFramesPartial(t *testing.T) {
	for _, o := range [][]Option{{}, {from6, to6}, {VLAN(10)}} {
		o = append(o, GSO(1000), Size(2500), Complete())
		for _, f := range []*packet.Frame{TCP(o...), UDP(o...), UDP(append(o, NoChecksum())...)} {
			if r := f.Parse(); r != packet.DropNone {
				t.Fatal(r)
			}
			CheckSuper(t, f)
		}
	}
}

// TestParseCompletesOtherChecksums: a checksum that is not TCP's or UDP's own is made at once.
func TestParseCompletesOtherChecksums(t *testing.T) {
	inner := UDP(Partial(), Size(33)) // a tunnel's payload: the inner frame's checksum is left to do
	vxlan := append([]byte{8, 0, 0, 0, 0, 0, 7, 0}, inner.Bytes()...)
	gre := append([]byte{0, 0, 0x65, 0x58}, inner.Bytes()...)
	for _, c := range []struct {
		name    string
		frame   *packet.Frame
		innerAt int // where the inner frame is
	}{
		{"VXLAN", UDP(NoChecksum(), Payload(vxlan)), 50},
		{"GRE", IP(47, Payload(gre), Trailer(3)), 38},
		{"GRE behind a destination header", IP(47, from6, to6, Extension(60, 0, 1, 4, 0, 0, 0, 0), Payload(gre)), 66},
		{"opaque", Raw(0x6558, Payload(inner.Bytes())), 14},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.frame.Vnet().Set(packet.VnetNeedsCsum, 0, 0, 0, uint16(c.innerAt+34), 6)
			if r := c.frame.Parse(); r != packet.DropNone {
				t.Fatal(r)
			}
			if c.frame.Vnet().NeedsCsum() {
				t.Error("still NEEDS_CSUM")
			}
			if err := Finished(nil, c.frame.Bytes()[c.innerAt:c.innerAt+inner.Len()]); err != nil {
				t.Error(err)
			}
		})
	}
	for _, f := range []*packet.Frame{ICMPEcho(Partial(), Size(20)), ICMPEcho(from6, to6, Partial(), Size(20))} {
		if r := f.Parse(); r != packet.DropNone {
			t.Fatal(r)
		}
		CheckFinished(t, f)
	}
}

// TestParseCompletesSCTP: the vnet header of a veth leaves SCTP's CRC32c to do as if it were a checksum.
func TestParseCompletesSCTP(t *testing.T) {
	f := IP(132, Payload("123456789...abc"))
	f.Vnet().Set(packet.VnetNeedsCsum, 0, 0, 0, 34, 8)
	if r := f.Parse(); r != packet.DropNone || f.Vnet().NeedsCsum() {
		t.Fatal(r)
	}
	b := f.Transport()
	want := binary.LittleEndian.Uint32(b[8:])
	binary.LittleEndian.PutUint32(b[8:], 0)
	if got := crc32c(b); got != want {
		t.Errorf("CRC %#x, want %#x", want, got)
	}
	if got := crc32c([]byte("123456789")); got != 0xe3069283 { // RFC 3720's check value
		t.Errorf("the twin itself is wrong: %#x", got)
	}
}

// crc32c is the CRC of RFC 9260 appendix A, bit by bit.
func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	return ^crc
}
