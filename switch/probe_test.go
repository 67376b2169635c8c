package l2switch_test

import (
	"encoding/binary"
	"testing"

	"vswitch/internal/packet"
	l2switch "vswitch/switch"
)

// probeOf returns the frame by which the port is probed.
func probeOf(tb testing.TB, conf l2switch.PortConf) (frame []byte) {
	tb.Helper()
	b := l2switch.NewBridge(l2switch.Limits{})
	b.SetPort(conf)
	b.PortUp(conf.ID, 0)
	b.Tend(0, func(_ packet.PortID, f []byte) { frame = f })
	if frame == nil {
		tb.Fatal("no probe was sent")
	}
	return frame
}

// A probe is an ARP packet that the parser lets pass, tagged where the port's frames are.
func TestProbe(t *testing.T) {
	trunk := l2switch.Membership{Trunk: true}
	trunk.VLANs.Add(70, 80)
	for _, tt := range []struct {
		member l2switch.Membership
		vlan   uint16
		tagged bool
	}{
		{l2switch.Membership{}, 0, false},
		{l2switch.Membership{Access: 9}, 9, false},
		{trunk, 70, true},
		{l2switch.Membership{Trunk: true, VLANs: trunk.VLANs, Native: 75, HasNative: true}, 75, false},
	} {
		b := probeOf(t, l2switch.PortConf{ID: 0x10007, Member: tt.member})
		f := packet.NewFrame(make([]byte, packet.BufSize))
		f.Load(nil, b)
		if r := f.Parse(); r != packet.DropNone || f.Key.EtherType != packet.EtherTypeARP || (f.Key.VLAN != 0) != tt.tagged || len(b) < 60 {
			t.Errorf("%+v: %s, %+v", tt, r, f.Key)
		}
		p, ok := l2switch.ParseProbe(f.Bytes()[f.L3:])
		if !ok || p.VLAN != tt.vlan || p.Port != 0x10007 || f.Key.SrcMAC[0]&3 != 2 {
			t.Errorf("%+v: %+v, %v", tt, p, ok)
		}
	}
}

// What is taken for a probe says what it was taken for; nothing makes the parser stumble.
func FuzzParseProbe(f *testing.F) {
	probe := probeOf(f, l2switch.PortConf{ID: 1})[14:]
	f.Add(probe)
	f.Add(probe[:len(probe)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := l2switch.ParseProbe(b)
		if !ok {
			return
		}
		again := append(append([]byte{}, probe[:40]...), p.Bridge[:]...)
		again = binary.BigEndian.AppendUint32(again, uint32(p.Port))
		again = append(binary.BigEndian.AppendUint16(again, p.VLAN), p.Nonce[:]...)
		if string(b[:len(again)]) != string(again) {
			t.Errorf("%x was read as %+v", b, p)
		}
	})
}
