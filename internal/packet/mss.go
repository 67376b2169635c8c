package packet

import "encoding/binary"

// FitMSS returns the largest TCP segment whose datagram fits the MTU, without options (RFC 6691 2). The frame is of IP.
func (f *Frame) FitMSS(mtu int) int {
	if f.Key.EtherType == EtherTypeIPv6 {
		return max(0, mtu-60)
	}
	return max(0, mtu-40)
}

// MSS returns the maximum segment size that a TCP SYN announces (RFC 9293 3.7.1), or 0 when it announces none. The frame has FlagSYN.
func (f *Frame) MSS() int {
	if o := f.mss(); o != nil {
		return int(binary.BigEndian.Uint16(o))
	}
	return 0
}

// SetMSS changes what MSS returned, which is not 0. The checksum follows, unless it is still to be made.
func (f *Frame) SetMSS(n int) {
	o := f.mss()
	t := f.Transport()
	options := t[20:TCP(t).HeaderLen()]
	was := Sum(options, 0)
	binary.BigEndian.PutUint16(o, uint16(n))
	if !f.Vnet().NeedsCsum() {
		sum := binary.BigEndian.Uint16(t[16:])
		binary.BigEndian.PutUint16(t[16:], replaced(was, options).update(sum))
	}
}

// mss returns the two bytes of the option's value, or nil. The option is the first of its kind that is whole; malformed ones end the search.
func (f *Frame) mss() []byte {
	if f.L4 == 0 || f.Key.Proto != ProtoTCP {
		return nil
	}
	t := f.Transport()
	for o := t[20:TCP(t).HeaderLen()]; len(o) > 1 && o[0] != 0; {
		n := 1
		if o[0] != 1 {
			n = int(o[1])
		}
		switch {
		case n == 0 || n > len(o) || o[0] != 1 && n < 2:
			return nil
		case o[0] == 2 && n == 4:
			return o[2:4]
		}
		o = o[n:]
	}
	return nil
}
