package packet

import "encoding/binary"

// Upper returns the protocol above IP and the bytes from its header on, at least 8, also those of a datagram's first fragment,
// where Parse doesn't look. They are nil in later fragments, where they can't be told, and for protocols that Parse doesn't
// know. ok is false when a first fragment ends before them: nobody needs to send such a fragment (RFC 7112 5). Only after Parse
// found an EtherType of IP.
func (f *Frame) Upper() (proto uint8, header []byte, ok bool) {
	switch {
	case f.Flags&FlagFragment == 0 && f.L4 == 0:
		return f.Key.Proto, nil, true
	case f.Flags&FlagFragment == 0:
		return f.Key.Proto, f.Transport(), true
	case f.Key.EtherType == EtherTypeIPv6:
		return f.IPv6().fragmentUpper()
	}
	h := f.IPv4()
	if offset, _ := h.Fragment(); offset != 0 {
		return h.Proto(), nil, true
	}
	header = h[h.HeaderLen():]
	return h.Proto(), header, len(header) >= 8
}

// fragmentUpper is Upper for a fragment. A fragment may be of a datagram that is a fragment itself: it is a first one when all
// of its fragment headers say so.
func (h IPv6) fragmentUpper() (proto uint8, header []byte, ok bool) {
	next, at := h.NextHeader(), 40
	for range 2 * maxExtensions {
		if len(h) < at+8 {
			return next, nil, false
		}
		n := 8
		switch next {
		case 0, 43, 60, 135: // as in parseExtensions
			n += 8 * int(h[at+1])
		case 51:
			n += 4 * int(h[at+1])
		case 44:
			if binary.BigEndian.Uint16(h[at+2:])&0xfff8 != 0 {
				return h[at], nil, true
			}
		default:
			return next, h[at:], true
		}
		next, at = h[at], at+n
	}
	return next, nil, false
}
