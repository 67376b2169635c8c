package netlab_test

import (
	"encoding/binary"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

// What is rejected is answered as by a closed port: a RST in the sender's window (RFC 9293 3.5.2), or ICMP that quotes what was sent.
func TestReject(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		for _, rule := range []string{"c1 in reject", "c2 out reject", "n in reject --dst @c2"} {
			lab.Rules("n", rule)
			for _, c := range []struct {
				name     string
				sent     []Option
				seq, ack uint32
				flags    uint8
			}{
				{"SYN", []Option{Flags(packet.TCPSyn), Seq(7)}, 0, 8, packet.TCPRst | packet.TCPAck},
				{"FIN and data", []Option{Flags(packet.TCPFin), Seq(7), Size(10)}, 0, 18, packet.TCPRst | packet.TCPAck},
				{"ACK", []Option{Flags(packet.TCPAck), Seq(7), Ack(99), Size(10)}, 99, 0, packet.TCPRst},
				{"super-frame", []Option{Flags(packet.TCPAck), Seq(7), Ack(99), GSO(100), Size(450)}, 99, 0, packet.TCPRst},
			} {
				c1.Send(TCP(append(c.sent, from(c1, 1000), to(c2, 80))...))
				want := TCP(from(c2, 80), to(c1, 1000), Flags(c.flags), Seq(c.seq), Ack(c.ack), Window(0), ID(0, true))
				t.Log(rule, c.name)
				c1.Expect(t, want)
			}
			for _, f := range []*packet.Frame{UDP(from(c1, 1000), to(c2, 53), Size(100)), IP(47, from(c1, 0), to(c2, 0), Size(30)), ICMPEcho(from(c1, 0), to(c2, 0), Echo(1, 1), Size(30))} {
				c1.Send(f)
				expectProhibited(t, c1, f)
			}
		}
		lab.ExpectNothing(t)
	})
}

// expectProhibited expects ICMP of type 3 and code 13, or of type 1 and code 1 by IPv6, about a frame of the port, from whom it was sent to.
func expectProhibited(t *testing.T, p *netlab.Port, about *packet.Frame) {
	t.Helper()
	got := p.Take()
	if len(got) != 1 {
		t.Fatalf("%s got %d frames, want an ICMP error", p.Name, len(got))
	}
	f, sent := packet.NewFrame(make([]byte, packet.BufSize)), about.Clone()
	f.Load(nil, got[0])
	if r := f.Parse(); r != packet.DropNone || sent.Parse() != packet.DropNone {
		t.Fatalf("it is broken: %s", r)
	}
	k, kind := &f.Key, uint16(3<<8|13)
	if sent.Key.EtherType == packet.EtherTypeIPv6 {
		kind = 1<<8 | 1
	}
	if k.SrcPort != kind || k.SrcMAC != sent.Key.DstMAC || k.Src != sent.Key.Dst || k.Dst != sent.Key.Src || !f.VerifyTransport() {
		t.Errorf("got %x", got[0])
	}
	quoted := f.Transport()[8:]
	if want := sent.Bytes()[sent.L3:sent.L3End]; string(quoted) != string(want) {
		t.Errorf("it quotes %x, want %x", quoted, want)
	}
}

// Nobody is told about resets, ICMP errors, fragments, groups, broken checksums, addresses that nobody has, or too often.
func TestRejectInSilence(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		lab.Rules("n", "c1 in reject")
		broken := TCP(from(c1, 1), to(c2, 1), Flags(packet.TCPSyn), Complete())
		others, at := []*packet.Frame{
			UDP(c1.From(1), To("01:00:5e:00:00:07", "224.0.0.7", 9)), UDP(c1.From(1), To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 9)),
			UDP(From(macOf(c1.MAC), "127.0.0.1", 1), c2.To(1)), UDP(From(macOf(c1.MAC), "0.0.0.0", 1), c2.To(1)), UDP(c1.From(1), To(macOf(c2.MAC), "224.0.0.1", 1)),
			ICMP(3, c1.From(0), c2.To(0), Size(28)),
		}, 14+20+16
		if broken.Bytes()[12] == 0x86 {
			others, at = []*packet.Frame{
				UDP(c1.From6(1), To("33:33:00:00:00:07", "ff0e::7", 9)), UDP(From(macOf(c1.MAC), "::1", 1), c2.To6(1)), UDP(From(macOf(c1.MAC), "::", 1), c2.To6(1)),
				UDP(c1.From6(1), To(macOf(c2.MAC), "ff02::1", 1)), ICMP(1, c1.From6(0), c2.To6(0), Size(48)), ICMP(2, c1.From6(0), c2.To6(0), Size(48)),
			}, 14+40+16
		}
		binary.BigEndian.PutUint16(broken.Bytes()[at:], 0x1234)
		quiet := append(others, broken,
			TCP(from(c1, 1), to(c2, 1), Flags(packet.TCPRst)), UDP(from(c1, 1), to(c2, 1), Fragment(0, true), Size(16)),
			UDP(from(c1, 1), to(c2, 1), Fragment(100, false), Size(16)), Raw(0x88cc, from(c1, 0), to(c2, 0)))
		c1.Send(quiet...)
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropRuleReject: len(quiet)})
		for range 200 {
			c1.Send(UDP(from(c1, 1), to(c2, 1)))
		}
		if n := len(c1.Take()); n != 50 {
			t.Errorf("%d of 200 frames at once were answered, want 50", n)
		}
	})
}

// The answer to a frame with a VLAN's tag has it too.
func TestRejectInVLAN(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		a, b := lab.Port("n", "a", netlab.Trunk(10, 10)), lab.Port("n", "b", netlab.VLAN(10))
		lab.Rules("n", "n in reject")
		a.Send(TCP(a.From(1000), b.To(80), Flags(packet.TCPAck), Ack(7), VLAN(10|5<<13)))
		a.Expect(t, TCP(b.From(80), a.To(1000), Flags(packet.TCPRst), Seq(7), Ack(0), Window(0), ID(0, true), VLAN(10)))
		b.Send(TCP(b.From(1000), a.To(80), Flags(packet.TCPAck), Ack(7)))
		b.Expect(t, TCP(a.From(80), b.To(1000), Flags(packet.TCPRst), Seq(7), Ack(0), Window(0), ID(0, true)))
		lab.ExpectNothing(t)
	})
}
