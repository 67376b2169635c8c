package packet_test

import (
	"bytes"
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// The announced segment size is found among other options, and changed with its checksum, whole or partial, wherever it lies.
func TestMSS(t *testing.T) {
	for _, e := range [][2]ends{{before4, after4}, {before6, after6}} {
		for _, c := range []struct {
			name    string
			options []byte
			is      []byte // with an MSS of 1234; nil: none is found
		}{
			{"alone", []byte{2, 4, 5, 0xb4}, []byte{2, 4, 0x04, 0xd2}},
			{"odd", []byte{1, 2, 4, 5, 0xb4, 0, 0, 0}, []byte{1, 2, 4, 0x04, 0xd2, 0, 0, 0}},
			{"behind others", []byte{4, 2, 3, 3, 7, 2, 4, 5, 0xb4, 1, 1, 1}, []byte{4, 2, 3, 3, 7, 2, 4, 0x04, 0xd2, 1, 1, 1}},
			{"none", []byte{1, 1, 4, 2}, nil},
			{"behind the end", []byte{0, 2, 4, 5, 0xb4, 0, 0, 0}, nil},
			{"behind a bad one", []byte{3, 0, 2, 4, 5, 0xb4, 1, 1}, nil},
			{"behind one that is too long", []byte{8, 40, 1, 1, 2, 4, 5, 0xb4}, nil},
			{"of a wrong length", []byte{2, 3, 5, 1}, nil},
			{"cut off", []byte{1, 1, 2, 4}, nil},
			{"no options", nil, nil},
		} {
			for _, o := range [][]Option{nil, {Partial()}} {
				o = append(o, e[0].from(), e[0].to(), Flags(packet.TCPSyn))
				f := TCP(append(o, TCPOptions(c.options...))...)
				if f.Parse() != packet.DropNone {
					t.Fatal("bad test")
				}
				got := f.MSS()
				if (got != 0) != (c.is != nil) || got != 0 && got != 1460 {
					t.Errorf("%s: MSS %d", c.name, got)
				}
				if got == 0 {
					continue
				}
				f.SetMSS(1234)
				want := TCP(append(o, TCPOptions(c.is...))...)
				if !bytes.Equal(f.WithVnet(), want.WithVnet()) {
					t.Errorf("%s: got\n%x, want\n%x", c.name, f.WithVnet(), want.WithVnet())
				}
			}
		}
	}
	f := TCP(before6.from(), before6.to())
	if f.Parse(); f.FitMSS(1400) != 1340 || f.FitMSS(10) != 0 {
		t.Error("what fits an MTU over IPv6 is wrong")
	}
}
