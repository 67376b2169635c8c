package pipeline

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"

	"vswitch/internal/packet"
)

// Transport protocols that have ports where TCP has them, beside those in packet.
const (
	protoDCCP    = 33
	protoUDPLite = 136
)

// etherTypeExperiment is for frames of which nothing was said above Ethernet (IEEE 802 local experimental).
const etherTypeExperiment = 0x88b5

// Build makes the frame in f, finished, as if it had come in by the port, and parses it. What was not given gets a default,
// which String then shows: an echo request, a SYN, an ARP request to all, the MAC of a multicast address, TTL 64, zeros. It
// is an error when a MAC address is not known still. f has a buffer of packet.BufSize.
func (s *FlowSpec) Build(f *packet.Frame, inPort packet.PortID) error {
	if err := s.fill(); err != nil {
		return err
	}
	b, err := s.frame()
	if err != nil {
		return err
	}
	f.Reset()
	f.Load(nil, b)
	f.Key = packet.Key{InPort: inPort}
	if r := f.Parse(); r != packet.DropNone {
		return invalid("the frame would be dropped as it comes in: %s (%s)", r, r.Sentence())
	}
	return nil
}

// fill gives what is not known its default.
func (s *FlowSpec) fill() error {
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

func (s *FlowSpec) putDefault(n number, v uint32) {
	if !s.has(n) {
		s.put(n, v)
	}
}

func (s *FlowSpec) fillIP() {
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

func (s *FlowSpec) fillMACs() error {
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
	case s.DstMAC == nil:
		return invalid("the destination's MAC address is not known: add eth_dst=...")
	}
	return nil
}

// fillGroup finds a destination that follows from the rest: everybody for an ARP request, the group of a multicast address.
func (s *FlowSpec) fillGroup() {
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

// frame returns the bytes of the frame. All is filled in.
func (s *FlowSpec) frame() ([]byte, error) {
	b := append(append([]byte{}, s.DstMAC...), s.SrcMAC...)
	b = s.appendTags(b)
	k := &s.kind
	payload := s.payload()
	headers := len(b) + 2 + len(payload)
	if payload == nil {
		s.putDefault(frameLen, 60)
	}
	s.putDefault(frameLen, uint32(headers))
	extra := int(s.nums[frameLen]) - headers
	if extra < 0 {
		return nil, invalid("len=%d: the headers alone are %d bytes", s.nums[frameLen], headers)
	}
	payload = append(payload, make([]byte, extra)...)
	eth := k.eth
	switch {
	case eth == noEtherType && len(payload) > 1500:
		return nil, invalid("len=%d: a frame without an EtherType carries 1500 bytes at most", s.nums[frameLen])
	case eth == noEtherType:
		eth = uint16(len(payload))
	case len(payload) > 65535:
		return nil, invalid("len=%d: an IP datagram has 65535 bytes at most", s.nums[frameLen])
	case k.isIP():
		s.finishIP(payload)
	}
	return append(binary.BigEndian.AppendUint16(b, eth), payload...), nil
}

// appendTags appends the VLAN tags. Where the EtherType behind them is a tag's again, there are as many as the parser looks
// through.
func (s *FlowSpec) appendTags(b []byte) []byte {
	n := 0
	tag := func(eth uint16, tci uint32) {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, eth), uint16(tci))
		n++
	}
	if s.has(vlanService) {
		tag(packet.EtherTypeQinQ, s.nums[vlanService])
	}
	if s.has(vlanVID) {
		tag(packet.EtherTypeVLAN, s.nums[vlanPCP]<<13|s.nums[vlanVID])
	}
	if s.has(vlanInner) {
		tag(packet.EtherTypeVLAN, s.nums[vlanInner])
	}
	for isTag(s.kind.eth) && n < 3 {
		tag(packet.EtherTypeVLAN, 0)
	}
	return b
}

// payload returns what follows the EtherType, as short as it can be; lengths and checksums are left to finishIP.
func (s *FlowSpec) payload() []byte {
	k := &s.kind
	switch k.eth {
	case packet.EtherTypeARP:
		b := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, uint16(s.nums[arpOp]))
		b = append(append(b, s.SenderMAC...), s.SrcIP.AsSlice()...)
		return append(append(b, s.TargetMAC...), s.DstIP.AsSlice()...)
	case packet.EtherTypeIPv4:
		b := []byte{0x45, byte(s.nums[ipTOS]), 0, 0, 0, 0, 0x40, 0, byte(s.nums[ipTTL]), k.proto, 0, 0}
		b = append(append(b, s.SrcIP.AsSlice()...), s.DstIP.AsSlice()...)
		return append(b, s.transport()...)
	case packet.EtherTypeIPv6:
		tos := byte(s.nums[ipTOS])
		b := []byte{0x60 | tos>>4, tos << 4, 0, 0, 0, 0, k.proto, byte(s.nums[ipTTL])}
		b = append(append(b, s.SrcIP.AsSlice()...), s.DstIP.AsSlice()...)
		if isExtension(k.proto) {
			// Only behind the header of a later fragment is such a header not looked into, and thus the datagram's protocol.
			b[6] = 44
			b = append(b, k.proto, 0, 0, 8, 0, 0, 0, 0)
		}
		return append(b, s.transport()...)
	}
	return nil
}

// isExtension tells whether the protocol number is that of an IPv6 extension header (RFC 8200 4).
func isExtension(proto uint8) bool {
	switch proto {
	case 0, 43, 44, 51, 60, 135:
		return true
	}
	return false
}

// transport returns the transport header, without its checksum.
func (s *FlowSpec) transport() []byte {
	ports := binary.BigEndian.AppendUint16(nil, uint16(s.nums[srcPort]))
	ports = binary.BigEndian.AppendUint16(ports, uint16(s.nums[dstPort]))
	switch s.kind.proto {
	case packet.ProtoTCP:
		return append(ports, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, byte(s.nums[tcpFlags]), 0xff, 0xff, 0, 0, 0, 0)
	case packet.ProtoUDP, protoUDPLite:
		return append(ports, 0, 0, 0, 0)
	case packet.ProtoSCTP:
		return append(ports, 0, 0, 0, 0, 0, 0, 0, 0)
	case protoDCCP: // a header of three words (RFC 4340 5.1)
		return append(ports, 3, 0, 0, 0, 0, 0, 0, 0)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		b := []byte{byte(s.nums[icmpType]), byte(s.nums[icmpCode]), 0, 0}
		b = append(binary.BigEndian.AppendUint16(b, uint16(s.nums[icmpID])), 0, 0)
		if s.isND() {
			b = s.appendND(b)
		}
		return b
	}
	return nil
}

// appendND appends what follows the first two words of a message of Neighbor Discovery (RFC 4861 4): RA two words more, NS and
// NA a target, redirects a target and a destination; then options.
func (s *FlowSpec) appendND(b []byte) []byte {
	kind := s.nums[icmpType]
	target := netip.IPv6Unspecified()
	if s.NDTarget.IsValid() {
		target = s.NDTarget
	}
	switch kind {
	case 134:
		b = append(b, make([]byte, 8)...)
	case 135, 136:
		b = append(b, target.AsSlice()...)
	case 137:
		b = append(append(b, target.AsSlice()...), target.AsSlice()...)
	}
	if s.NDSource != nil {
		b = append(append(b, 1, 1), s.NDSource...)
	}
	if s.NDTargetLL != nil {
		b = append(append(b, 2, 1), s.NDTargetLL...)
	}
	return b
}

// finishIP makes lengths and checksums.
func (s *FlowSpec) finishIP(b []byte) {
	at := 20
	if s.kind.eth == packet.EtherTypeIPv6 {
		at = 40
		packet.IPv6(b).SetPayloadLen(uint16(len(b) - 40))
	} else {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[10:], ^packet.Fold(packet.Sum(b[:20], 0)))
	}
	t := b[at:]
	sum := packet.PseudoSum(s.SrcIP.AsSlice(), s.DstIP.AsSlice(), s.kind.proto, len(t))
	switch s.kind.proto {
	case packet.ProtoTCP:
		putChecksum(t, 16, sum)
	case packet.ProtoUDP:
		packet.UDP(t).SetLength(uint16(len(t)))
		putChecksum(t, 6, sum)
	case protoUDPLite, protoDCCP: // coverage 0: all (RFC 3828 3.1)
		putChecksum(t, 6, sum)
	case packet.ProtoICMPv6:
		putChecksum(t, 2, sum)
	case packet.ProtoICMP:
		putChecksum(t, 2, 0)
	case packet.ProtoSCTP:
		binary.LittleEndian.PutUint32(t[8:], crc32.Checksum(t, crc32.MakeTable(crc32.Castagnoli)))
	}
}

func putChecksum(t []byte, at int, pseudo uint64) {
	c := ^packet.Fold(packet.Sum(t, pseudo))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], c)
}
