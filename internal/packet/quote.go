package packet

import "encoding/binary"

// Quote is the datagram that an ICMP error quotes: views of its IP header and of the bytes from its transport header on, of which 8 are
// there at least (RFC 792) and seldom more than a checksum.
type Quote struct {
	ip        ipHeader
	transport []byte
	length    int // of the transport's packet, as the quoted IP header tells
	Proto     uint8
}

// Src and Dst return the quoted addresses, 4 or 16 bytes each.
func (q *Quote) Src() []byte { p := q.ip.pair(); return p[:len(p)/2] }

// Dst is Src's twin.
func (q *Quote) Dst() []byte { p := q.ip.pair(); return p[len(p)/2:] }

// Transport returns the quoted bytes from the transport header on, at least 8.
func (q *Quote) Transport() []byte { return q.transport }

// Quote returns the datagram quoted in an ICMP or ICMPv6 error; false when it is cut off before its ports, is a later fragment, of the other
// family, or no datagram at all. The frame has FlagICMPError.
func (f *Frame) Quote() (q Quote, ok bool) {
	b := f.Transport()[8:]
	if f.Key.EtherType == EtherTypeIPv4 {
		h := IPv4(b)
		if len(h) < 20 || h[0]>>4 != 4 || h.HeaderLen() < 20 || len(h) < h.HeaderLen()+8 {
			return q, false
		}
		if offset, _ := h.Fragment(); offset != 0 {
			return q, false
		}
		return Quote{ipHeader(b), b[h.HeaderLen():], int(h.TotalLen()) - h.HeaderLen(), h.Proto()}, true
	}
	if len(b) < 48 || b[0]>>4 != 6 {
		return q, false
	}
	proto, t, ok := IPv6(b).fragmentUpper()
	return Quote{ipHeader(b), t, int(IPv6(b).PayloadLen()) + 40 - (len(b) - len(t)), proto}, ok && t != nil
}

// RewriteError translates an ICMP error (RFC 5508 4.2, RFC 7857 8): its own addresses by outer, whose ports don't matter, and the datagram
// that it quotes by quoted. All checksums that are there are updated: IPv4's of both headers, the quoted transport's, and the ICMP
// message's, which covers the quote and, of ICMPv6, the addresses. q is the frame's Quote.
func (f *Frame) RewriteError(outer, quoted *Rewrite, q *Quote) {
	ip, t := f.ip(), f.Transport()
	c := ip.rewrite(outer)
	if f.Key.Proto != ProtoICMPv6 {
		c = 0 // ICMP's checksum covers no addresses
	}
	// The message's checksum covers the quote whole, and a change may be of any of it: what changed is summed by the place it lies in.
	quote := t[8:]
	end := len(quote)
	if n := len(quote) - len(q.transport) + quotedChange; n < end {
		end = n
	}
	before := Sum(quote[:end], 0)
	ports := rewritePorts(q.Proto, q.transport, q.length, quoted)
	fixTransport(q.Proto, q.transport, q.ip.rewrite(quoted), ports, false)
	c += change(^Fold(before)) + change(Fold(Sum(quote[:end], 0)))
	binary.BigEndian.PutUint16(t[2:], c.update(binary.BigEndian.Uint16(t[2:])))
	if outer.NewSrc {
		f.Key.Src = outer.Src
	}
	if outer.NewDst {
		f.Key.Dst = outer.Dst
	}
}

// quotedChange is how much of a transport header may change: up to the end of TCP's checksum.
const quotedChange = 18
