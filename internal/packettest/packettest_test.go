package packettest_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

var (
	from6 = From("02:00:00:00:00:01", "fd00::1", 1000)
	to6   = To("02:00:00:00:00:02", "fd00::2", 2000)
)

// TestGopacketReadsWhatIsBuilt checks the builders' order of layers.
func TestGopacketReadsWhatIsBuilt(t *testing.T) {
	for _, c := range []struct {
		frame  *packet.Frame
		layers string
	}{
		{UDP(Payload("hello")), "Ethernet IPv4 UDP Payload"},
		{UDP(from6, to6, Payload("hello")), "Ethernet IPv6 UDP Payload"},
		{TCP(Size(7)), "Ethernet IPv4 TCP Payload"},
		{TCP(from6, to6, Timestamps(1, 2)), "Ethernet IPv6 TCP"},
		{TCP(VLAN(10), IPOptions(1, 1, 1, 0)), "Ethernet Dot1Q IPv4 TCP"},
		{UDP(ServiceVLAN(100), VLAN(10), Size(1)), "Ethernet Dot1Q Dot1Q IPv4 UDP Payload"},
		{UDP(from6, to6, HopByHop(), Size(9)), "Ethernet IPv6 IPv6HopByHop UDP Payload"},
		{UDP(from6, to6, HopByHop(), Extension(60, 0, 1, 4, 0, 0, 0, 0)), "Ethernet IPv6 IPv6HopByHop IPv6Destination UDP"},
		{ICMPEcho(Echo(7, 1), Size(56)), "Ethernet IPv4 ICMPv4 Payload"},
		{ICMPEchoReply(from6, to6, Echo(7, 1), Size(56)), "Ethernet IPv6 ICMPv6 ICMPv6Echo"},
		{ARPRequest(), "Ethernet ARP"},
		{ARPReply(VLAN(3)), "Ethernet Dot1Q ARP"},
		{UDP(Fragment(0, true), Size(64)), "Ethernet IPv4 Fragment"},
		{UDP(Fragment(8, false), Size(64)), "Ethernet IPv4 Fragment"},
		{UDP(from6, to6, Fragment(8, true), Size(64)), "Ethernet IPv6 IPv6Fragment Fragment"},
		{IP(47, Size(30)), "Ethernet IPv4 GRE"},
	} {
		t.Run(c.layers, func(t *testing.T) {
			var names []string
			for _, l := range gopacket.NewPacket(c.frame.Bytes(), layers.LayerTypeEthernet, gopacket.Default).Layers() {
				names = append(names, l.LayerType().String())
			}
			if got := strings.Join(names, " "); !strings.HasPrefix(got, c.layers) {
				t.Errorf("layers %s, want %s", got, c.layers)
			}
			CheckFinished(t, c.frame)
		})
	}
}

func TestGopacketAgreesOnChecksums(t *testing.T) {
	for _, o := range [][]Option{{}, {from6, to6}} {
		p := gopacket.NewPacket(TCP(append(o, Size(1001))...).Bytes(), layers.LayerTypeEthernet, gopacket.Default)
		tcp := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		tcp.SetNetworkLayerForChecksum(p.NetworkLayer())
		if sum, err := tcp.ComputeChecksum(); sum != 0 || err != nil {
			t.Errorf("%v: checksum is off by %#x, %v", p.NetworkLayer().LayerType(), sum, err)
		}
	}
}

func TestChecksFindWhatIsWrong(t *testing.T) {
	const vnet = 12 // in front of the frame
	super := func() *packet.Frame { return UDP(GSO(100), Size(2000)) }
	for _, c := range []struct {
		name  string
		check func(vnet, frame []byte) error
		frame *packet.Frame
		flip  int // byte to spoil, -1: none
		want  string
	}{
		{"right", Finished, UDP(Size(9)), -1, ""},
		{"no checksum", Finished, UDP(Size(9), NoChecksum()), -1, ""},
		{"no checksum over IPv6", Finished, UDP(from6, to6, NoChecksum()), -1, "transport checksum"},
		{"bad checksum", Finished, UDP(Size(9), BadChecksum()), -1, "transport checksum"},
		{"payload", Finished, TCP(Size(9)), vnet + 14 + 40 + 3, "transport checksum"},
		{"IP header", Finished, TCP(Size(9)), vnet + 14 + 8, "IPv4 header"},
		{"UDP length", Finished, UDP(Size(9)), vnet + 14 + 20 + 5, "UDP"},
		{"partial", Finished, TCP(Size(9), Partial()), -1, "work to do"},
		{"super", Finished, super(), -1, "work to do"},
		{"right super", Super, super(), -1, ""},
		{"right super", Super, TCP(from6, to6, GSO(1440), Size(60000), Timestamps(1, 2), VLAN(1)), -1, ""},
		{"GSO size", Super, super(), 4, "more than 64"},
		{"header length", Super, super(), 2, "header length"},
		{"checksum start", Super, super(), 6, "checksum start"},
		{"checksum offset", Super, super(), 8, "checksum offset"},
		{"complete checksum", Super, TCP(GSO(100), Size(1000), Complete()), -1, "flags"},
		{"pseudo-header", Super, super(), vnet + 14 + 20 + 6, "pseudo-header"},
		{"one segment", Super, TCP(GSO(100), Size(100)), -1, "one segment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.flip >= 0 {
				c.frame.WithVnet()[c.flip] ^= 0x70
			}
			err := c.check(c.frame.Vnet(), c.frame.Bytes())
			if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestResegment(t *testing.T) {
	f := TCP(GSO(1000), Size(2500), Seq(0xffffff00), ID(0xffff, true), Flags(0x10|0x80|0x08|0x01), VLAN(5))
	segments := Resegment(f.Vnet(), f.Bytes())
	if len(segments) != 3 {
		t.Fatalf("%d segments, want 3", len(segments))
	}
	var payload []byte
	for i, want := range []struct {
		length int
		id     uint16
		seq    uint32
		flags  byte
	}{
		{1000, 0xffff, 0xffffff00, 0x90}, {1000, 0, 0x2e8, 0x10}, {500, 1, 0x6d0, 0x19},
	} {
		b := segments[i]
		if err := Finished(nil, b); err != nil {
			t.Error(err)
		}
		ip, tcp := b[18:], b[38:]
		if got := int(binary.BigEndian.Uint16(ip[2:])); got != 40+want.length || len(b) != 18+got {
			t.Errorf("segment %d: total length %d in %d bytes, payload should be %d", i, got, len(b), want.length)
		}
		if got := binary.BigEndian.Uint16(ip[4:]); got != want.id {
			t.Errorf("segment %d: ID %#x, want %#x", i, got, want.id)
		}
		if got := binary.BigEndian.Uint32(tcp[4:]); got != want.seq {
			t.Errorf("segment %d: sequence number %#x, want %#x", i, got, want.seq)
		}
		if tcp[13] != want.flags {
			t.Errorf("segment %d: flags %#x, want %#x", i, tcp[13], want.flags)
		}
		payload = append(payload, b[58:]...)
	}
	if whole := f.Bytes()[58:]; string(payload) != string(whole) {
		t.Error("the payload changed")
	}
}

func TestResegmentFinishesOrdinaryFrames(t *testing.T) {
	f := UDP(from6, to6, Size(33), Partial())
	got := Resegment(f.Vnet(), f.Bytes())
	if want := UDP(from6, to6, Size(33)).Bytes(); len(got) != 1 || string(got[0]) != string(want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// TestTrafficIsRight checks that all that Traffic draws ends as frames that are right, unless it was meant to be wrong.
func TestTrafficIsRight(t *testing.T) {
	kinds := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		for _, f := range Traffic(t, 64) {
			for _, b := range Resegment(f.Vnet(), f.Bytes()) {
				if err := Finished(nil, b); err == nil {
					kinds["right"]++
				} else if strings.Contains(err.Error(), "transport checksum") {
					kinds["bad checksum"]++
				} else {
					t.Fatal(err)
				}
			}
			if f.Vnet().GSOType() != 0 {
				kinds["super"]++
			} else if f.Vnet().NeedsCsum() {
				kinds["partial"]++
			}
		}
	})
	t.Log(kinds)
	if kinds["super"]*200 < kinds["right"] || kinds["partial"]*4 < kinds["right"] || kinds["bad checksum"]*10 > kinds["right"] {
		t.Errorf("odd mixture: %v", kinds)
	}
}
