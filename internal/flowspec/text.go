package flowspec

import (
	"fmt"
	"strings"

	"vswitch/internal/packet"
)

// String writes the frame in the same grammar, in one canonical form, with all that was filled in.
func (s *Spec) String() string {
	k := &s.kind
	words := []string{"in_port=" + s.InPort}
	covered := -1 // 0: a keyword says the EtherType; 1: and the protocol
	for _, w := range keywords {
		if w.eth == k.eth && (!w.hasProto || k.hasProto && w.proto == k.proto) && covered < 0 {
			words, covered = append(words, w.name), 0
			if w.hasProto {
				covered = 1
			}
		}
	}
	specific := k.proto == packet.ProtoTCP || k.proto == packet.ProtoUDP || k.proto == packet.ProtoSCTP
	for i := range fields[1:] {
		f := &fields[1+i]
		switch {
		case f.eth > anyIP && f.eth != k.eth, f.proto != 0 && f.proto != k.proto:
		case f.mac != nil:
			if mac := *f.mac(s); mac != nil {
				words = append(words, f.name+"="+mac.String())
			}
		case f.ip != nil:
			if ip := *f.ip(s); ip.IsValid() {
				words = append(words, f.name+"="+ip.String())
			}
		case f.num == ethType && covered < 0 && k.eth != 0:
			words = append(words, fmt.Sprintf("%s=%#04x", f.name, k.eth))
		case f.num == ipProto && covered < 1 && k.hasProto:
			words = append(words, fmt.Sprintf("%s=%d", f.name, k.proto))
		case f.num == ethType || f.num == ipProto || !s.has(f.num), strings.HasPrefix(f.name, "tp_") && specific:
		case f.num == tcpFlags:
			words = append(words, f.name+"="+flagsText(uint8(s.nums[tcpFlags])))
		default:
			words = append(words, fmt.Sprintf("%s=%d", f.name, s.nums[f.num]))
		}
	}
	return strings.Join(words, ",")
}

func flagsText(flags uint8) string {
	var names []string
	for i, name := range tcpFlagNames {
		if flags>>i&1 != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "0"
	}
	return strings.Join(names, "|")
}

// MatchText writes a cached flow's Key in the grammar of Parse, so that it can be pasted into a trace. That of an L2 flow
// ends with its EtherType.
func MatchText(k *packet.Key, l2 bool, portName func(packet.PortID) string) string {
	s := &Spec{InPort: portName(k.InPort), SrcMAC: k.SrcMAC[:], DstMAC: k.DstMAC[:]}
	s.kind.eth = k.EtherType
	if k.EtherType == 0 {
		s.kind.eth = noEtherType
	}
	if k.VLAN != 0 {
		s.put(vlanVID, uint32(k.VLAN&packet.VLANMask))
	}
	switch {
	case k.Inner&^(packet.VLANMask|packet.VLANPresent) != 0:
		s.put(vlanService, uint32(k.Inner&packet.VLANMask))
	case k.Inner != 0:
		s.put(vlanInner, uint32(k.Inner&packet.VLANMask))
	}
	if l2 {
		return s.String()
	}
	s.SrcIP, s.DstIP = k.SrcAddr(), k.DstAddr()
	switch {
	case k.EtherType == packet.EtherTypeARP:
		s.put(arpOp, uint32(k.SrcPort))
	case s.kind.isIP():
		s.kind.proto, s.kind.hasProto = k.Proto, true
		s.putPorts(k)
	}
	return s.String()
}

func (s *Spec) putPorts(k *packet.Key) {
	switch {
	case s.kind.hasPorts():
		s.put(srcPort, uint32(k.SrcPort))
		s.put(dstPort, uint32(k.DstPort))
	case s.kind.isICMP():
		s.put(icmpType, uint32(k.SrcPort>>8))
		s.put(icmpCode, uint32(k.SrcPort&0xff))
		if s.isEcho() {
			s.put(icmpID, uint32(k.DstPort))
		}
	}
}
