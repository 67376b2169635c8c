package packettest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"vswitch/internal/packet"
)

// Bad is a frame that no container should send, and what the switch does with it.
type Bad struct {
	Name        string
	Vnet, Frame []byte            // Vnet nil: all zero
	Drop        packet.DropReason // of a port of the untagged VLAN with MTU 1500; DropNone: harmless, and forwarded
	// Stopped says that the sender's own kernel refuses it from an AF_PACKET socket, drops it or mends it (packet_snd in
	// net/packet/af_packet.c, virtio_net_hdr_to_skb, validate_xmit_skb): it would take a broken one to send it.
	Stopped bool
}

// BadFrames returns the frames, from and to these MAC addresses.
func BadFrames(from, to string) []Bad {
	var all []Bad
	add := func(name string, drop packet.DropReason, f *packet.Frame, changes ...func([]byte)) *Bad {
		b := Bad{Name: name, Drop: drop, Vnet: bytes.Clone(f.Vnet()), Frame: bytes.Clone(f.Bytes())}
		for _, c := range changes {
			c(b.Frame)
		}
		all = append(all, b)
		return &all[len(all)-1]
	}
	v4 := func(o ...Option) []Option {
		return append([]Option{From(from, "10.0.0.1", 1), To(to, "10.0.0.2", 2)}, o...)
	}
	v6 := func(o ...Option) []Option {
		return append([]Option{From(from, "fd00::1", 1), To(to, "fd00::2", 2)}, o...)
	}
	set := func(at int, b ...byte) func([]byte) { return func(f []byte) { copy(f[at:], b) } }
	ip := func(n int, o ...Option) *packet.Frame { return Raw(packet.EtherTypeIPv4, v4(append(o, Size(n))...)...) }

	// Lengths.
	add("runt of 13 bytes", packet.DropRunt, UDP(v4()...)).cut(13).Stopped = true
	add("header only", packet.DropBadIPv4, UDP(v4()...)).cut(14)
	add("above the MTU", packet.DropOverMTU, UDP(v4(Size(1473))...))
	add("segments above the MTU", packet.DropOverMTU, TCP(v4(GSO(1461), Size(2000))...))
	add("20 VLAN tags above the MTU", packet.DropOverMTU, UDP(v4(VLAN(make([]uint16, 20)...), Size(1420))...))

	// IPv4.
	add("IPv4 cut off", packet.DropBadIPv4, ip(19))
	add("IPv4 of version 5", packet.DropBadIPv4, UDP(v4()...), set(14, 0x55))
	add("IHL 4", packet.DropBadIPv4, UDP(v4()...), set(14, 0x44))
	add("IHL beyond the frame", packet.DropBadIPv4, UDP(v4()...), set(14, 0x4f))
	add("total length beyond the frame", packet.DropBadIPv4, UDP(v4(Size(20))...), set(16, 0, 49))
	add("total length within the header", packet.DropBadIPv4, UDP(v4()...), set(16, 0, 19))
	add("total length 0", packet.DropBadIPv4, UDP(v4()...), set(16, 0, 0))

	// IPv6.
	add("IPv6 cut off", packet.DropBadIPv6, Raw(packet.EtherTypeIPv6, v6(Size(39))...), set(14, 0x60))
	add("IPv6 of version 4", packet.DropBadIPv6, UDP(v6()...), set(14, 0x40))
	add("payload length beyond the frame", packet.DropBadIPv6, UDP(v6()...), set(18, 0, 9))
	add("jumbogram", packet.DropBadIPv6, UDP(v6(Extension(0, 0, 0xc2, 4, 0, 1, 0, 0))...), set(18, 0, 0))
	add("extension header beyond the frame", packet.DropBadIPv6, UDP(v6(Extension(60, 200, 1, 4, 0, 0, 0, 0))...))
	var chain []Option
	for range 9 {
		chain = append(chain, Extension(60, 0, 1, 4, 0, 0, 0, 0))
	}
	add("chain of 9 extension headers", packet.DropBadIPv6, UDP(v6(chain...)...))
	add("chain of 8 extension headers", packet.DropBadIPv6, UDP(v6(chain[:8]...)...))
	add("authentication header within its fixed part", packet.DropBadIPv6, IP(51, v6(Payload([]byte{17, 0, 0, 0, 0, 0, 0, 0}))...))

	// Above IP.
	add("TCP cut off", packet.DropBadTCP, IP(packet.ProtoTCP, v4(Size(19))...))
	add("TCP data offset 4", packet.DropBadTCP, TCP(v4()...), set(46, 0x40))
	add("TCP data offset beyond the segment", packet.DropBadTCP, TCP(v4(Size(20))...), set(46, 0xf0))
	add("UDP cut off", packet.DropBadUDP, IP(packet.ProtoUDP, v4(Size(7))...))
	add("UDP length 7", packet.DropBadUDP, UDP(v4()...), set(38, 0, 7))
	add("UDP length beyond the datagram", packet.DropBadUDP, UDP(v4()...), set(38, 0, 9))
	add("ICMP cut off", packet.DropBadICMP, IP(packet.ProtoICMP, v4(Size(3))...))
	add("ARP cut off", packet.DropBadARP, Raw(packet.EtherTypeARP, v4(Size(27))...))
	add("ARP for token ring", packet.DropBadARP, ARPReply(v4()...), set(14, 0, 6))

	// Addresses and tags.
	add("source is a group", packet.DropBadSourceMAC, UDP(v4()...), set(6, 0x03))
	add("source is zero", packet.DropBadSourceMAC, UDP(v4()...), set(6, 0, 0, 0, 0, 0, 0))
	add("source is the destination", packet.DropSamePort, UDP(v4()...), func(f []byte) { copy(f, f[6:12]) })
	add("to the link itself", packet.DropReservedGroup, UDP(v4()...), set(0, 0x01, 0x80, 0xc2, 0, 0, 3))
	add("to a spanning tree", packet.DropBPDU, UDP(v4()...), set(0, 0x01, 0x80, 0xc2, 0, 0, 0))
	add("cut off within a tag", packet.DropBadVLAN, Raw(packet.EtherTypeQinQ1, v4(Size(3))...))
	for n := 1; n <= 20; n++ {
		add(fmt.Sprint(n, " VLAN tags"), packet.DropVLANNotMember, UDP(v4(VLAN(append([]uint16{7}, make([]uint16, n-1)...)...))...))
		add(fmt.Sprint(n, " service tags"), packet.DropNone, UDP(v4(ServiceVLAN(make([]uint16, n)...))...))
	}
	addBadVnet(add, v4, v6)
	return all
}

// addBadVnet adds frames whose vnet header is not true of them.
func addBadVnet(add func(string, packet.DropReason, *packet.Frame, ...func([]byte)) *Bad, v4, v6 func(...Option) []Option) {
	const (
		flags, kind, hdrLen, gsoSize, csumStart, csumOffset = 0, 1, 2, 4, 6, 8

		stopped = true
	)
	tcp := func(o ...Option) *packet.Frame { return TCP(v4(append(o, GSO(1000), Size(2500))...)...) }
	udp := func(o ...Option) *packet.Frame { return UDP(v4(append(o, GSO(1000), Size(2500))...)...) }
	for _, c := range []struct {
		name    string
		frame   *packet.Frame
		at, to  int
		drop    packet.DropReason
		stopped bool
	}{
		{"GSO size 0", tcp(), gsoSize, 0, packet.DropBadVnet, stopped},
		{"GSO size 1 of TCP", tcp(), gsoSize, 1, packet.DropBadVnet, !stopped},
		{"header length beyond the frame", UDP(v4(GSO(10), Size(100))...), hdrLen, 60000, packet.DropNone, stopped},
		{"header length 0", tcp(), hdrLen, 0, packet.DropNone, !stopped},
		{"checksum starts outside", UDP(v4(Partial())...), csumStart, 60000, packet.DropBadVnet, stopped},
		{"checksum lies outside", UDP(v4(Partial())...), csumOffset, 60000, packet.DropBadVnet, stopped},
		{"checksum of the IPv4 header", UDP(v4(Partial(), Size(50))...), csumStart, 14, packet.DropBadVnet, stopped},
		{"checksum within the UDP header", UDP(v4(Partial(), Size(50))...), csumOffset, 0, packet.DropBadVnet, !stopped},
		{"checksum over the addresses", UDP(v4(Partial(), Size(50))...), csumStart, 26, packet.DropBadVnet, !stopped},
		{"checksum in the payload of a super-frame", tcp(), csumStart, 60, packet.DropBadVnet, stopped},
		{"TCP over IPv4 said to be IPv6", tcp(), kind, packet.GSOTCPv6, packet.DropBadVnet, stopped},
		{"TCP said to be UDP", tcp(), kind, packet.GSOUDPL4, packet.DropBadVnet, stopped},
		{"UDP said to be TCP", udp(), kind, packet.GSOTCPv4, packet.DropBadVnet, stopped},
		{"UDP with the ECN bit", udp(), kind, packet.GSOUDPL4 | packet.GSOECN, packet.DropBadVnet, stopped},
		{"unknown offload 2", tcp(), kind, 2, packet.DropBadVnet, stopped},
		{"unknown offload 0x7f", tcp(), kind, 0x7f, packet.DropBadVnet, stopped},
		{"unknown flags", UDP(v4(Size(50))...), flags, 0xf8, packet.DropBadVnet, stopped},
		{"200 datagrams", UDP(v4(GSO(10), Size(2000))...), gsoSize, 10, packet.DropBadVnet, stopped},
		{"super-frame with an authentication header", TCP(v6(Extension(51, append([]byte{4}, make([]byte, 22)...)...), GSO(1000), Size(2500))...),
			gsoSize, 1000, packet.DropBadVnet, stopped},
	} {
		v := add(c.name, c.drop, c.frame)
		v.Stopped = c.stopped
		if c.at < hdrLen {
			v.Vnet[c.at] = byte(c.to)
		} else {
			binary.LittleEndian.PutUint16(v.Vnet[c.at:], uint16(c.to))
		}
	}
	add("super-frame under a 0x9100 tag", packet.DropBadVnet, TCP(v4(ServiceVLAN(5), GSO(1000), Size(2500))...),
		func(f []byte) { f[12], f[13] = 0x91, 0 }).Stopped = stopped
	for name, f := range map[string]*packet.Frame{
		"checksum left to do in ARP":        ARPReply(v4()...),
		"checksum left to do in a fragment": UDP(v4(Fragment(9, false), Size(64))...),
	} {
		packet.VnetHeader(add(name, packet.DropBadVnet, f).Vnet).Set(packet.VnetNeedsCsum, 0, 0, 0, 34, 6)
	}
}

func (b *Bad) cut(n int) *Bad {
	b.Frame = b.Frame[:n]
	return b
}
