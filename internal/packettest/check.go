package packettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"vswitch/internal/packet"
)

// CheckFinished fails the test unless nothing is left to do on the frame: all lengths and checksums are right.
func CheckFinished(t testing.TB, f *packet.Frame) {
	t.Helper()
	if err := Finished(f.Vnet(), f.Bytes()); err != nil {
		t.Errorf("frame is not finished: %v\n%x", err, f.WithVnet()[:min(100, packet.VnetLen+f.Len())])
	}
}

// CheckSuper fails the test unless the frame is a right super-frame.
func CheckSuper(t testing.TB, f *packet.Frame) {
	t.Helper()
	if err := Super(f.Vnet(), f.Bytes()); err != nil {
		t.Errorf("super-frame is not right: %v\n%x", err, f.WithVnet()[:min(100, packet.VnetLen+f.Len())])
	}
}

// Finished says what is wrong with a frame that should be on the wire as it is. A frame that gopacket finds no IP or ARP in
// is right when its vnet header is.
func Finished(vnet, frame []byte) error {
	if vnet != nil && (vnet[0]&needsCsum != 0 || vnet[1] != 0) {
		return fmt.Errorf("the vnet header %x leaves work to do", vnet)
	}
	l, err := decode(frame)
	if err != nil {
		return err
	}
	if err := l.checkIP(frame); err != nil {
		return err
	}
	at := checksumAt(l.proto)
	if l.l4 == 0 || l.fragment || at < 0 {
		return nil
	}
	t := append([]byte{}, frame[l.l4:l.end]...)
	if l.udp != nil && int(l.udp.Length) != len(t) {
		return fmt.Errorf("UDP length %d, datagram has %d", l.udp.Length, len(t))
	}
	got := binary.BigEndian.Uint16(t[at:])
	if l.udp != nil && got == 0 && l.ipv4 != nil {
		return nil
	}
	binary.BigEndian.PutUint16(t[at:], 0)
	if want := complete(pseudo(l.src, l.dst, l.proto, len(t)), t); got != want && ^got != want {
		return fmt.Errorf("transport checksum %#04x, want %#04x", got, want)
	}
	return nil
}

func (l *layout) checkIP(frame []byte) error {
	if l.ipv4 == nil {
		return nil
	}
	if c := sum16(frame[l.l3 : l.l3+int(l.ipv4.IHL)*4]); c != 0xffff {
		return fmt.Errorf("IPv4 header sums up to %#04x", c)
	}
	return nil
}

// Super says what is wrong with a frame that should be a super-frame.
func Super(vnet, frame []byte) error {
	l, err := decode(frame)
	if err != nil {
		return err
	}
	if err := l.checkIP(frame); err != nil {
		return err
	}
	if err := l.checkSuper(vnet, frame); err != nil {
		return err
	}
	at := l.l4 + checksumAt(l.proto)
	if got, want := binary.BigEndian.Uint16(frame[at:]), sum16(pseudo(l.src, l.dst, l.proto, l.end-l.l4)); got != want {
		return fmt.Errorf("pseudo-header sum is %#x, want %#x", got, want)
	}
	if size := int(binary.LittleEndian.Uint16(vnet[4:])); l.udp != nil && l.end-l.payload > 64*size { // the limit of Linux before 6.9
		return fmt.Errorf("more than 64 datagrams of %d in %d bytes", size, l.end-l.payload)
	}
	return nil
}

// checkSuper says what is wrong with the lengths, types and offsets of a super-frame.
func (l *layout) checkSuper(vnet, frame []byte) error {
	var kind byte
	switch {
	case l.udp != nil:
		kind = gsoUDPL4
	case l.tcp != nil && l.ipv4 != nil:
		kind = gsoTCPv4
	case l.tcp != nil:
		kind = gsoTCPv6
	default:
		return errors.New("neither TCP nor UDP")
	}
	le := binary.LittleEndian
	size := int(le.Uint16(vnet[4:]))
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"flags", int(vnet[0] | packet.VnetDataValid), needsCsum | packet.VnetDataValid},
		{"GSO type", int(vnet[1] &^ gsoECN), int(kind)},
		{"header length", int(le.Uint16(vnet[2:])), l.payload},
		{"checksum start", int(le.Uint16(vnet[6:])), l.l4},
		{"checksum offset", int(le.Uint16(vnet[8:])), checksumAt(l.proto)},
		{"frame length", len(frame), l.end},
	} {
		if c.got != c.want {
			return fmt.Errorf("%s is %#x, want %#x", c.what, c.got, c.want)
		}
	}
	switch {
	case l.udp != nil && int(l.udp.Length) != l.end-l.l4:
		return fmt.Errorf("UDP length %d, super-frame has %d", l.udp.Length, l.end-l.l4)
	case l.udp != nil && l.end-l.payload > 128*size: // UDP_MAX_SEGMENTS
		return fmt.Errorf("more than 128 datagrams of %d in %d bytes", size, l.end-l.payload)
	case l.end-l.payload <= size:
		return fmt.Errorf("no more than one segment: %d bytes of %d", l.end-l.payload, size)
	}
	return nil
}
