package pipeline

import (
	"encoding/binary"

	"vswitch/internal/packet"
)

// reject tells the sender of a frame that a rule rejects it: by a RST for TCP, else by ICMP administratively prohibited. It speaks for the
// destination, as a kernel's bridge does (nf_reject_bridge), but where the gateway was asked to route, ICMP comes from that. Nobody is told about
// groups, fragments, ICMP errors and resets, nor too often.
func (w *walk) reject() {
	f, k := w.f, &w.f.Key
	ip := k.EtherType == packet.EtherTypeIPv4 || k.EtherType == packet.EtherTypeIPv6
	if !ip || k.Inner != 0 || f.Flags&packet.FlagFragment != 0 || !w.mayTell() || martianSource(k.DstAddr()) {
		return
	}
	switch {
	case k.Proto == packet.ProtoTCP && f.L4 != 0:
		if f.Flags&packet.FlagRST == 0 && (f.Vnet().NeedsCsum() || f.VerifyTransport()) && w.mayReject() {
			w.answer("", "TCP RST from "+k.DstAddr().String(), w.rst)
		}
	case w.gw != nil && w.fib != nil:
		w.icmpError(prohibited)
	case w.mayReject():
		w.tell(prohibited, k.DstMAC, k.DstAddr(), w.in.MTU)
	}
}

func (w *walk) mayReject() bool { return w.trace != nil || w.net.rejects.Take(w.now) }

// rst makes the reset that answers a segment of no connection (RFC 9293 3.5.2, 3.10.7.1): one that the sender finds in its window.
func (w *walk) rst() []byte {
	const size = 20
	k := &w.f.Key
	in := packet.TCP(w.f.Transport())
	var b, t, addrs []byte
	if k.EtherType == packet.EtherTypeIPv4 {
		b = newIPv4(k.SrcMAC, k.DstMAC, k.DstAddr(), k.SrcAddr(), packet.ProtoTCP, size)
		finishIPv4(b)
		t, addrs = b[34:], b[26:34]
	} else {
		b = newIPv6(k.SrcMAC, k.DstMAC, k.DstAddr(), k.SrcAddr(), packet.ProtoTCP, 64, size)
		t, addrs = b[54:], b[22:54]
	}
	binary.BigEndian.PutUint16(t, in.DstPort())
	binary.BigEndian.PutUint16(t[2:], in.SrcPort())
	t[12], t[13] = size/4<<4, packet.TCPRst
	if in.Flags()&packet.TCPAck != 0 {
		copy(t[4:8], in[8:12]) // what it acknowledges is what it expects next
	} else {
		n := uint32(len(in) - in.HeaderLen()) // SYN and FIN count as one each
		for _, flag := range []uint8{packet.TCPSyn, packet.TCPFin} {
			if in.Flags()&flag != 0 {
				n++
			}
		}
		t[13] |= packet.TCPAck
		binary.BigEndian.PutUint32(t[8:], in.Seq()+n)
	}
	half := len(addrs) / 2
	sum := packet.PseudoSum(addrs[:half], addrs[half:], packet.ProtoTCP, size)
	binary.BigEndian.PutUint16(t[16:], ^packet.Fold(packet.Sum(t, sum)))
	return b
}

// tagged gives a frame that answers one with a VLAN's tag the same.
func (w *walk) tagged(b []byte) []byte {
	vid := w.f.Key.VLAN & packet.VLANMask
	if vid == 0 {
		return b
	}
	t := make([]byte, 0, len(b)+4)
	t = append(t, b[:12]...)
	t = binary.BigEndian.AppendUint16(t, packet.EtherTypeVLAN)
	t = binary.BigEndian.AppendUint16(t, vid)
	return append(t, b[12:]...)
}
