package flowspec_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/api"
	"vswitch/internal/flowspec"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

const macs = "eth_src=02:00:00:00:00:01,eth_dst=02:00:00:00:00:02,"

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"tcp", "in_port=c1,tcp," + macs + "ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80",
			"in_port=c1,tcp," + macs + "ip_src=10.0.0.2,ip_dst=10.0.0.3,ip_ttl=64,tcp_src=0,tcp_dst=80,tcp_flags=syn,len=54"},
		{"old names, spaces, any order", "nw_dst=10.0.0.3 tp_dst=53,udp  in_port=c1\tdl_dst=02:00:00:00:00:02,dl_src=02:00:00:00:00:01",
			"in_port=c1,udp," + macs + "ip_src=0.0.0.0,ip_dst=10.0.0.3,ip_ttl=64,udp_src=0,udp_dst=53,len=42"},
		{"implied by fields", "in_port=c1," + macs + "tcp_dst=0x50,ipv6_dst=fd00::3",
			"in_port=c1,tcp6," + macs + "ipv6_src=::,ipv6_dst=fd00::3,ip_ttl=64,tcp_src=0,tcp_dst=80,tcp_flags=syn,len=74"},
		{"flags", "in_port=c1,tcp,tcp_flags=+syn+ack-rst," + macs,
			"in_port=c1,tcp," + macs + "ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_ttl=64,tcp_src=0,tcp_dst=0,tcp_flags=syn|ack,len=54"},
		{"no flags", "in_port=c1,tcp,tcp_flags=0," + macs,
			"in_port=c1,tcp," + macs + "ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_ttl=64,tcp_src=0,tcp_dst=0,tcp_flags=0,len=54"},
		{"echo", "in_port=c1,icmp,ip_dst=10.0.0.3," + macs,
			"in_port=c1,icmp," + macs + "ip_src=0.0.0.0,ip_dst=10.0.0.3,ip_ttl=64,icmp_type=8,icmp_code=0,len=42"},
		{"echo v6", "in_port=c1,icmp6,icmp_id=7," + macs,
			"in_port=c1,icmp6," + macs + "ipv6_src=::,ipv6_dst=::,ip_ttl=64,icmpv6_type=128,icmpv6_code=0,icmp_id=7,len=62"},
		{"icmpv6_type alone is IPv6", "in_port=c1,icmpv6_type=135," + macs,
			"in_port=c1,icmp6," + macs + "ipv6_src=::,ipv6_dst=::,ip_ttl=255,icmpv6_type=135,icmpv6_code=0,len=78"},
		{"arp", "in_port=c1,arp,arp_tpa=10.0.0.3,eth_src=02:00:00:00:00:01",
			"in_port=c1,arp,eth_src=02:00:00:00:00:01,eth_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=0.0.0.0,arp_tpa=10.0.0.3," +
				"arp_sha=02:00:00:00:00:01,arp_tha=00:00:00:00:00:00,len=42"},
		{"arp reply", "in_port=c1,arp_op=reply," + macs,
			"in_port=c1,arp," + macs + "arp_op=2,arp_spa=0.0.0.0,arp_tpa=0.0.0.0,arp_sha=02:00:00:00:00:01,arp_tha=02:00:00:00:00:02,len=42"},
		{"multicast", "in_port=c1,udp,eth_src=02:00:00:00:00:01,ip_dst=239.129.2.3",
			"in_port=c1,udp,eth_src=02:00:00:00:00:01,eth_dst=01:00:5e:01:02:03,ip_src=0.0.0.0,ip_dst=239.129.2.3,ip_ttl=64,udp_src=0,udp_dst=0,len=42"},
		{"multicast v6", "in_port=c1,udp6,eth_src=02:00:00:00:00:01,ipv6_dst=ff02::1:3",
			"in_port=c1,udp6,eth_src=02:00:00:00:00:01,eth_dst=33:33:00:01:00:03,ipv6_src=::,ipv6_dst=ff02::1:3,ip_ttl=64,udp_src=0,udp_dst=0,len=62"},
		{"tagged", "in_port=c1,vlan_pcp=5,vlan_vid=10,udp,len=100," + macs,
			"in_port=c1,udp," + macs + "vlan_vid=10,vlan_pcp=5,ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_ttl=64,udp_src=0,udp_dst=0,len=100"},
		{"priority tag", "in_port=c1,vlan_pcp=5," + macs, "in_port=c1," + macs + "vlan_vid=0,vlan_pcp=5,eth_type=0x88b5,len=60"},
		{"numbers", "in_port=c1,eth_type=0x0800,ip_proto=47,ip_tos=0x2e," + macs,
			"in_port=c1,ip," + macs + "ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_proto=47,ip_tos=46,ip_ttl=64,len=34"},
		{"other protocols' ports", "in_port=c1,ip,ip_proto=33,tp_src=1,tp_dst=2," + macs,
			"in_port=c1,ip," + macs + "ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_proto=33,ip_ttl=64,tp_src=1,tp_dst=2,len=46"},
		{"no EtherType", "in_port=c1,eth_type=0x05ff,len=17," + macs, "in_port=c1," + macs + "eth_type=0x05ff,len=17"},
		{"largest", "in_port=c1,udp,len=65549," + macs,
			"in_port=c1,udp," + macs + "ip_src=0.0.0.0,ip_dst=0.0.0.0,ip_ttl=64,udp_src=0,udp_dst=0,len=65549"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := flowspec.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			f := packet.NewFrame(make([]byte, packet.BufSize))
			if err := s.Build(f, 7); err != nil {
				t.Fatal(err)
			}
			if s.String() != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			if f.Key.InPort != 7 {
				t.Errorf("ingress %d", f.Key.InPort)
			}
			if known(&f.Key) {
				packettest.CheckFinished(t, f)
			}
			again, err := flowspec.Parse(s.String())
			if err != nil {
				t.Fatal(err)
			}
			g := packet.NewFrame(make([]byte, packet.BufSize))
			if err := again.Build(g, 7); err != nil || string(f.Bytes()) != string(g.Bytes()) {
				t.Errorf("the canonical form builds another frame: %v\n%x\n%x", err, f.Bytes(), g.Bytes())
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"tcp,ip_dst=10.0.0.3", "in_port is missing"},
		{"", "in_port is missing"},
		{"in_port=", "in_port needs a value"},
		{"in_port=a,tcp_dest=80", `"tcp_dest" is no field: did you mean tcp_dst?`},
		{"in_port=a,imcp", "did you mean icmp?"},
		{"in_port=a,ip_srv=1.2.3.4", "did you mean ip_src?"},
		{"in_port=a,vlan=3", `"vlan" is no field: did you mean vlan_vid?`},
		{"in_port=a,elephant=3", "'vsctl trace --help' lists all"},
		{"in_port=a,tcp=3", "tcp takes no value"},
		{"in_port=a,tcp_dst", "tcp_dst needs a value"},
		{"in_port=a,tcp_dst=80,tcp_dst=81", "tcp_dst is given twice: tcp_dst=80 and tcp_dst=81"},
		{"in_port=a,tcp_dst=70000", "the largest is 65535"},
		{"in_port=a,tcp_dst=http", "not a number"},
		{"in_port=a,vlan_vid=4096", "the largest is 4095"},
		{"in_port=a,tcp,icmp_type=8", "icmp_type=8 contradicts tcp"},
		{"in_port=a,tcp,udp_dst=8", "udp_dst=8 contradicts tcp"},
		{"in_port=a,udp_dst=8,tcp", "tcp contradicts udp_dst=8"},
		{"in_port=a,tcp,ipv6_src=fd00::1", "the IPv6 words are ipv6, tcp6"},
		{"in_port=a,arp,ip_ttl=3", "ip_ttl=3 contradicts arp"},
		{"in_port=a,arp,tcp_dst=3", "tcp_dst=3 contradicts arp"},
		{"in_port=a,ip,tp_dst=3", "needs a protocol that has ports"},
		{"in_port=a,icmp,icmp_type=3,icmp_id=1", "goes with an echo"},
		{"in_port=a,icmp6,icmp_type=128", "icmp_type=128 contradicts icmp6"},
		{"in_port=a,ip_src=fd00::1", "use ipv6_src"},
		{"in_port=a,ipv6_dst=10.0.0.1", "use ip_dst"},
		{"in_port=a,arp_spa=fd00::1", "IPv6 has icmp6 in place of ARP"},
		{"in_port=a,ip_src=10.0.0", "not an IP address"},
		{"in_port=a,eth_src=1:2:3", "not a MAC address"},
		{"in_port=a,eth_src=02:00:00:00:00:00:00:01", "not a MAC address"},
		{"in_port=a,eth_type=0x500", "0x05ff stands for"},
		{"in_port=a,eth_type=0x8100", "use vlan_vid"},
		{"in_port=a,vlan_inner=3", "give vlan_vid too"},
		{"in_port=a,vlan_service=3,vlan_vid=3", "is the outermost tag"},
		{"in_port=a,tcp_flags=sin", "the flags are fin, syn"},
		{"in_port=a,tcp_flags=syn||", "is no flag"},
		{"in_port=a,len=70000", "the largest is"},
	} {
		_, err := flowspec.Parse(c.in)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeInvalid || !strings.Contains(e.Detail, c.want) {
			t.Errorf("%q: error %v, want one with %q", c.in, err, c.want)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"in_port=a,tcp,ip_dst=10.0.0.3,eth_dst=02:00:00:00:00:02", "add eth_src="},
		{"in_port=a,tcp,ip_dst=10.0.0.3,eth_src=02:00:00:00:00:02", "add eth_dst="},
		{"in_port=a,tcp,len=53," + macs, "the headers alone are 54 bytes"},
		{"in_port=a,tcp,len=65550," + macs, "65535 bytes at most"},
		{"in_port=a,eth_type=0x05ff,len=1515," + macs, "1500 bytes at most"},
	} {
		s, err := flowspec.Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if err = s.Build(packet.NewFrame(make([]byte, packet.BufSize)), 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.in, err, c.want)
		}
	}
}

// What vsctl flows prints can be pasted into vsctl trace: it makes a frame of the same flow.
func TestMatchTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, f := range packettest.Traffic(t, 20) {
			f.Key.InPort = packet.PortID(rapid.Uint32Range(1, 1<<32-1).Draw(t, "port"))
			if f.Parse() == packet.DropNone {
				checkRoundTrip(t, &f.Key)
			}
		}
	})
}

type fataler interface {
	Fatalf(string, ...any)
	Helper()
}

func checkRoundTrip(t fataler, k *packet.Key) {
	t.Helper()
	text := flowspec.MatchText(k, false, func(packet.PortID) string { return "c1" })
	s, err := flowspec.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if s.String() != text {
		t.Fatalf("not canonical: %s became %s", text, s)
	}
	g := packet.NewFrame(make([]byte, packet.BufSize))
	if err := s.Build(g, k.InPort); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if g.Key != *k {
		t.Fatalf("%s made another flow:\n%+v\n%+v", text, *k, g.Key)
	}
	if err := packettest.Finished(g.Vnet(), g.Bytes()); err != nil && known(k) {
		t.Fatalf("%s: %v", text, err)
	}
}

// known tells whether gopacket can judge the frame.
func known(k *packet.Key) bool {
	switch k.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP:
		return k.EtherType == packet.EtherTypeIPv4 || k.Proto != packet.ProtoICMP
	}
	return false
}

// Any frame that the parser takes has a text that makes a frame of the same flow.
func FuzzMatchText(f *testing.F) {
	for _, b := range []*packet.Frame{
		packettest.TCP(), packettest.UDP(packettest.VLAN(10, 20)), packettest.ARPReply(), packettest.ICMPEcho(packettest.Echo(7, 1)),
		packettest.UDP(packettest.ServiceVLAN(9), packettest.VLAN(10)), packettest.Raw(0x88cc), packettest.Raw(0x8100, packettest.VLAN(1, 2, 3)),
		packettest.Raw(0x30), packettest.IP(33, packettest.Size(12)), packettest.IP(136, packettest.Size(12)), packettest.IP(132, packettest.Size(12)),
		packettest.UDP(packettest.From("02:00:00:00:00:01", "fd00::1", 1), packettest.To("02:00:00:00:00:02", "fd00::2", 2), packettest.Fragment(9, true)),
		packettest.IP(60, packettest.From("02:00:00:00:00:01", "fd00::1", 1), packettest.To("02:00:00:00:00:02", "::ffff:1.2.3.4", 2), packettest.Fragment(9, true)),
	} {
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > packet.MaxFrame {
			return
		}
		f := packet.NewFrame(make([]byte, packet.BufSize))
		f.Load(nil, b)
		f.Key.InPort = 3
		if f.Parse() == packet.DropNone {
			checkRoundTrip(t, &f.Key)
		}
	})
}

// The parser takes any text without panicking, and what it takes has a canonical form that it takes for the same.
func FuzzParse(f *testing.F) {
	f.Add("in_port=c1,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80,tcp_flags=+syn-ack|psh," + macs)
	f.Add("in_port=c1,udp6,ipv6_src=fd00::1,ipv6_dst=ff02::1,udp_dst=53,len=100,vlan_vid=1,vlan_pcp=2,vlan_inner=3," + macs)
	f.Add("in_port=c1,arp,arp_op=reply,arp_spa=1.2.3.4,arp_tpa=1.2.3.5,arp_sha=02:00:00:00:00:01,arp_tha=02:00:00:00:00:02," + macs)
	f.Add("in_port=c1,eth_type=0x88cc,vlan_service=3," + macs)
	f.Add("in_port=c1,ipv6,ip_proto=44,ip_tos=255,ip_ttl=0," + macs)
	f.Add("in_port=c1,ip_proto=1,icmp_id=3,ipv6_src=::1," + macs)
	frame, again := packet.NewFrame(make([]byte, packet.BufSize)), packet.NewFrame(make([]byte, packet.BufSize))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := flowspec.Parse(text)
		if err != nil {
			return
		}
		canonical := s.String()
		s2, err := flowspec.Parse(canonical)
		if err != nil || s2.String() != canonical {
			t.Fatalf("%q: canonical form %q became %q: %v", text, canonical, s2, err)
		}
		if s.Build(frame, 1) != nil {
			return
		}
		s3, err := flowspec.Parse(s.String())
		if err != nil {
			t.Fatalf("%q: filled in, %q: %v", text, s, err)
		}
		if err := s3.Build(again, 1); err != nil || string(frame.Bytes()) != string(again.Bytes()) {
			t.Fatalf("%q: %q builds another frame: %v", text, s, err)
		}
	})
}
