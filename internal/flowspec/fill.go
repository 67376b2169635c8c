package flowspec

import (
	"net"
	"net/netip"

	"vswitch/internal/packet"
)

// etherTypeExperiment is for frames of which nothing was said above Ethernet (IEEE 802 local experimental).
const etherTypeExperiment = 0x88b5

// fill gives what is not known its default.
func (s *Spec) fill() error {
	k := &s.kind
	if k.eth == 0 {
		k.eth = etherTypeExperiment
	}
	switch {
	case k.eth == packet.EtherTypeARP:
		s.putDefault(arpOp, 1)
	case k.isIP():
		s.fillIP()
	}
	unspecified := netip.IPv4Unspecified()
	if k.eth == packet.EtherTypeIPv6 {
		unspecified = netip.IPv6Unspecified()
	}
	if k.isIP() || k.eth == packet.EtherTypeARP {
		for _, ip := range []*netip.Addr{&s.SrcIP, &s.DstIP} {
			if !ip.IsValid() || ip.Is4() != unspecified.Is4() { // not known, or the caller knows one of the other family only
				*ip = unspecified
			}
		}
	}
	if s.has(vlanPCP) {
		s.putDefault(vlanVID, 0)
	}
	return s.fillMACs()
}

func (s *Spec) putDefault(n number, v uint32) {
	if !s.has(n) {
		s.put(n, v)
	}
}

func (s *Spec) fillIP() {
	k := &s.kind
	if !k.hasProto {
		k.proto, k.hasProto = 253, true // for experiments (RFC 3692)
	}
	if s.isND() {
		s.putDefault(ipTTL, 255) // or nobody heeds it
	}
	s.putDefault(ipTTL, 64)
	if k.hasPorts() {
		s.putDefault(srcPort, 0)
		s.putDefault(dstPort, 0)
	}
	if k.proto == packet.ProtoTCP {
		s.putDefault(tcpFlags, packet.TCPSyn)
	}
	if k.isICMP() {
		request := uint32(8)
		if k.eth == packet.EtherTypeIPv6 {
			request = 128
		}
		s.putDefault(icmpType, request)
		s.putDefault(icmpCode, 0)
	}
}

func (s *Spec) fillMACs() error {
	s.fillGroup()
	if s.kind.eth == packet.EtherTypeARP {
		if s.SenderMAC == nil {
			s.SenderMAC = s.SrcMAC
		}
		if s.TargetMAC == nil && s.nums[arpOp] != 1 {
			s.TargetMAC = s.DstMAC
		}
		if s.TargetMAC == nil {
			s.TargetMAC = make(net.HardwareAddr, 6)
		}
	}
	switch {
	case s.SrcMAC == nil:
		return invalid("the sender's MAC address is not known: add eth_src=...")
	case s.DstMAC == nil && s.DstIP.IsValid() && !s.DstIP.IsUnspecified():
		return invalid("the MAC address of %v is not known, since no port of the network has it: add eth_dst=...", s.DstIP)
	case s.DstMAC == nil:
		return invalid("the destination's MAC address is not known: add eth_dst=...")
	}
	return nil
}

// fillGroup finds a destination that follows from the rest: everybody for an ARP request, the group of a multicast address.
func (s *Spec) fillGroup() {
	switch {
	case s.DstMAC != nil:
	case s.kind.eth == packet.EtherTypeARP && (!s.has(arpOp) || s.nums[arpOp] == 1):
		s.DstMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	default:
		s.DstMAC = groupMAC(s.DstIP)
	}
}

// groupMAC returns the MAC address of a multicast or broadcast IP address (RFC 1112 6.4, RFC 2464 7), or nil.
func groupMAC(ip netip.Addr) net.HardwareAddr {
	switch b := ip.AsSlice(); {
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	case !ip.IsMulticast():
		return nil
	case ip.Is4():
		return net.HardwareAddr{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	default:
		return append(net.HardwareAddr{0x33, 0x33}, b[12:]...)
	}
}
