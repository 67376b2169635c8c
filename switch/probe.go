package l2switch

import (
	"bytes"
	"encoding/binary"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// Probe is a frame that a bridge sends out of one port, to see whether it comes back. It is a broadcast, since that is what
// storms are made of, and an ARP packet of the operation for experiments (RFC 5494 3), which all stations take and ignore. Of a
// type that they don't know they would count each as dropped:
//
//	Ethernet  ff:ff:ff:ff:ff:ff | source: the bridge's own | [802.1Q] | ARP
//	ARP       1, 0x0800, 6, 4 | operation 24 | zero addresses (20)
//	trailer   "vswitch loop" (12) | bridge (16) | port (4) | VLAN (2) | nonce (16)
type Probe struct {
	Bridge [16]byte // random, made with the bridge: whose probe it is
	Port   packet.PortID
	VLAN   uint16
	Nonce  [16]byte // random, made for a few probes: what a container heard once is worth nothing a short while later
}

const (
	probeMagic = "\x00\x01\x08\x00\x06\x04\x00\x18" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"vswitch loop"
	probeSize = len(probeMagic) + 16 + 4 + 2 + 16
)

// frame builds the probe as it leaves the port.
func (p *Probe) frame(src [6]byte, tag flow.TagOp) []byte {
	b := make([]byte, 0, 18+probeSize)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, src[:]...)
	if tag == flow.Tagged {
		b = binary.BigEndian.AppendUint16(b, packet.EtherTypeVLAN)
		b = binary.BigEndian.AppendUint16(b, p.VLAN)
	}
	b = binary.BigEndian.AppendUint16(b, packet.EtherTypeARP)
	b = append(b, probeMagic...)
	b = append(b, p.Bridge[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Port))
	b = binary.BigEndian.AppendUint16(b, p.VLAN)
	return append(b, p.Nonce[:]...)
}

// ParseProbe reads an ARP packet with its trailer; ok is false when it is no probe.
func ParseProbe(b []byte) (p Probe, ok bool) {
	if len(b) < probeSize || !bytes.HasPrefix(b, []byte(probeMagic)) {
		return p, false
	}
	b = b[len(probeMagic):]
	copy(p.Bridge[:], b)
	p.Port = packet.PortID(binary.BigEndian.Uint32(b[16:]))
	p.VLAN = binary.BigEndian.Uint16(b[20:])
	copy(p.Nonce[:], b[22:])
	return p, true
}
