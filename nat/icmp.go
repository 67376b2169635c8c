package nat

import "vswitch/internal/packet"

// Quoted is what becomes of an ICMP error about a connection, see Error.
type Quoted struct {
	Reply         bool           // the error goes against the direction of the first frame
	Outer, Quoted packet.Rewrite // for packet.Frame.RewriteError
	Quote         packet.Quote   // views of the frame
}

// Translated tells whether the frame does not stay as it is.
func (e *Quoted) Translated() bool {
	return e.Outer.NewSrc || e.Outer.NewDst || e.Quoted.NewSrc || e.Quoted.NewDst
}

// Error finds the connection that an ICMP error is about, by the datagram that it quotes, and says how to translate it (RFC 5508 REQ-3 to
// REQ-6). It changes nothing: an error never makes, moves on, keeps alive or ends a connection (RFC 5508 REQ-7), whoever forged it. The
// frame has FlagICMPError. DropBadICMP: the quote is cut off or not to be read; DropConnInvalid: it is of no connection, or the error is
// not for who sent what it quotes.
func (t *Table) Error(f *packet.Frame, zone uint16, now int64) (e Quoted, drop packet.DropReason) {
	quote, ok := f.Quote()
	if !ok {
		return e, packet.DropBadICMP
	}
	family := uint8(4)
	if f.Key.EtherType == packet.EtherTypeIPv6 {
		family = 6
	}
	quoted, ok := ofQuote(&quote, zone, family)
	if !ok || quoted.Src != f.Key.Dst {
		return e, packet.DropConnInvalid
	}
	// The datagram went the other way than its error goes, and was translated already.
	in := quoted.Reverse()
	hash := in.hash()
	t.mu.Lock()
	defer t.mu.Unlock()
	ref := t.find(&in, hash)
	if ref == 0 || t.expired(ref>>1, now) {
		return e, packet.DropConnInvalid
	}
	out := &t.at(ref >> 1).reply
	if ref&1 != 0 {
		out = &t.at(ref >> 1).orig
	}
	e.Reply, e.Quote = ref&1 != 0, quote
	// A router on the way keeps its address, unless it is on a side whose addresses are not to be seen.
	e.Outer = packet.Rewrite{Src: out.Dst, NewSrc: in.Src != out.Dst, Dst: out.Src, NewDst: in.Dst != out.Src}
	// The quote becomes what its sender sent.
	e.Quoted = packet.Rewrite{
		Src: out.Src, SrcPort: out.SrcPort, NewSrc: quoted.Src != out.Src || quoted.SrcPort != out.SrcPort,
		Dst: out.Dst, DstPort: out.DstPort, NewDst: quoted.Dst != out.Dst || quoted.DstPort != out.DstPort,
	}
	return e, packet.DropNone
}
