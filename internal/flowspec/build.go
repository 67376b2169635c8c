package flowspec

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"vswitch/internal/packet"
)

// Build makes the frame in f, finished, as if it had come in by the port, and parses it. What was not given gets a default,
// which String then shows: an echo request, a SYN, an ARP request to all, the MAC of a multicast address, TTL 64, zeros. It
// is an error when a MAC address is not known still. f has a buffer of packet.BufSize.
func (s *Spec) Build(f *packet.Frame, inPort packet.PortID) error {
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

// frame returns the bytes of the frame. All is filled in.
func (s *Spec) frame() ([]byte, error) {
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
func (s *Spec) appendTags(b []byte) []byte {
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
func (s *Spec) payload() []byte {
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
func (s *Spec) transport() []byte {
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
func (s *Spec) appendND(b []byte) []byte {
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
func (s *Spec) finishIP(b []byte) {
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
