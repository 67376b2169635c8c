package packettest

import (
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// layout is where gopacket found the headers of a frame. Offsets count from the Ethernet header.
type layout struct {
	l3, l4, payload, end int
	proto                uint8
	src, dst             []byte
	ipv4                 *layers.IPv4 // nil: not IPv4
	ipv6                 *layers.IPv6
	arp                  *layers.ARP
	tcp                  *layers.TCP
	udp                  *layers.UDP
	fragment             bool
	opaque               bool // gopacket looks behind no fragment header, even of a datagram that is whole
}

// decode walks the layers up to the transport header. Lengths that contradict each other are errors.
func decode(frame []byte) (*layout, error) {
	var l layout
	at := 0
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	for _, layer := range p.Layers() {
		if l.l4 != 0 {
			break // what is above the transport header is not ours to judge
		}
		switch v := layer.(type) {
		case *layers.IPv4:
			l.ipv4, l.l3, l.src, l.dst, l.proto = v, at, v.SrcIP.To4(), v.DstIP.To4(), uint8(v.Protocol)
			l.end = at + int(v.Length)
			l.fragment = v.FragOffset != 0 || v.Flags&layers.IPv4MoreFragments != 0
		case *layers.IPv6:
			l.ipv6, l.l3, l.src, l.dst, l.proto = v, at, v.SrcIP.To16(), v.DstIP.To16(), uint8(v.NextHeader)
			l.end = at + 40 + int(v.Length)
		case *layers.IPv6HopByHop:
			l.proto = uint8(v.NextHeader)
		case *layers.IPv6Destination:
			l.proto = uint8(v.NextHeader)
		case *layers.IPv6Fragment:
			l.fragment = v.FragmentOffset != 0 || v.MoreFragments
			l.opaque = true
		case *layers.ARP:
			l.arp, l.l3, l.end = v, at, at+len(v.Contents)
		case *layers.TCP:
			l.tcp, l.l4, l.proto = v, at, protoTCP
		case *layers.UDP:
			l.udp, l.l4, l.proto = v, at, protoUDP
		case *layers.ICMPv4, *layers.ICMPv6:
			l.l4 = at
		case *gopacket.DecodeFailure:
			return nil, fmt.Errorf("at byte %d: %w", at, v.Error())
		}
		at += len(layer.LayerContents())
		l.payload = at
	}
	if l.end > len(frame) {
		return nil, fmt.Errorf("the datagram ends at byte %d of %d", l.end, len(frame))
	}
	return &l, nil
}
