package netlab_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// ruled is a network of three ports that know each other.
func ruled(lab *netlab.Lab) (c1, c2, c3 *netlab.Port) {
	c1, c2, c3 = lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
	hello(lab, c1, c2, c3)
	return c1, c2, c3
}

// families runs the test by IPv4 and by IPv6, with the cache and without it.
func families(t *testing.T, test func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option)) {
	t.Run("IPv4", func(t *testing.T) {
		modes(t, func(t *testing.T, lab *netlab.Lab) { test(t, lab, (*netlab.Port).From, (*netlab.Port).To) })
	})
	t.Run("IPv6", func(t *testing.T) {
		modes(t, func(t *testing.T, lab *netlab.Lab) { test(t, lab, (*netlab.Port).From6, (*netlab.Port).To6) })
	})
}

// Answers to what was allowed pass, and nothing else that rules deny.
func TestRulesLetAnswersPass(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, c3 := ruled(lab)
		lab.Rules("n", "c1 out deny", "c2 in deny")
		for _, build := range []func(...Option) *packet.Frame{UDP, TCP} {
			ask, answer := build(from(c1, 1000), to(c2, 53), Flags(packet.TCPSyn)), build(from(c2, 53), to(c1, 1000), Flags(packet.TCPSyn|packet.TCPAck))
			stray := build(from(c2, 53), to(c1, 1001), Flags(packet.TCPAck))
			c2.Send(answer, stray) // nobody has asked yet
			lab.Settle()
			c1.Send(ask)
			c2.Expect(t, ask)
			lab.Settle()
			c2.Send(answer, stray)
			c1.Expect(t, answer)
			ack := build(from(c1, 1000), to(c2, 53), Flags(packet.TCPAck))
			for range 3 {
				c1.Send(ack)
				c2.Expect(t, ack)
				lab.Settle()
				c2.Send(answer)
				c1.Expect(t, answer)
			}
		}
		c1.Send(ICMPEcho(from(c1, 0), to(c2, 0), Echo(7, 1)))
		c2.Take()
		reply := ICMPEchoReply(from(c2, 0), to(c1, 0), Echo(7, 1))
		c2.Send(reply, ICMPEchoReply(from(c2, 0), to(c1, 0), Echo(8, 1)), ICMPEcho(from(c2, 0), to(c1, 0), Echo(7, 1)))
		c1.Expect(t, reply)
		c3.Send(UDP(from(c3, 53), to(c1, 1000)))
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropRuleDeny: 9})
	})
}

// A new rule ends a connection at once, in both directions, also by reset; and where it goes again, so does the connection.
func TestNewRuleEndsConnection(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		syn, ack := TCP(from(c1, 1000), to(c2, 80), Flags(packet.TCPSyn)), TCP(from(c2, 80), to(c1, 1000), Flags(packet.TCPSyn|packet.TCPAck))
		data, answer := TCP(from(c1, 1000), to(c2, 80), Size(9)), TCP(from(c2, 80), to(c1, 1000), Size(9))
		goes := func() {
			t.Helper()
			for range 2 {
				c1.Send(data)
				c2.Expect(t, data)
				c2.Send(answer)
				c1.Expect(t, answer)
			}
		}
		before := []string{"c2 in deny --proto tcp --sport 1-79", "c1 out deny --proto udp"}
		lab.Rules("n", before...)
		c1.Send(syn)
		c2.Expect(t, syn)
		c2.Send(ack)
		c1.Expect(t, ack)
		goes()
		for i, rule := range []string{"n in deny --proto tcp --dport 80", "c1 in deny --dst @c2", "c2 out deny --src @c1"} {
			lab.Rules("n", append(before, rule)...)
			c1.Send(data, data)
			c2.Send(answer)
			lab.ExpectNothing(t)
			lab.ExpectDrops(t, drops{packet.DropRuleDeny: 3 * (i + 1)})
			if hits := lab.RuleHits("n")["r3"]; hits != 3 && i == 0 {
				t.Errorf("rule %s was hit by %d packets, want 3", rule, hits)
			}
			lab.Rules("n", before...)
			if i == 1 {
				goes()
			}
		}
	})
}

// Connections that were there before the network had rules are met as what they most likely are: the higher port's.
func TestRulesMeetOldConnections(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		lab.Advance(time.Minute)
		for i, build := range []func(...Option) *packet.Frame{UDP, TCP} {
			ask, answer := build(from(c1, 1000), to(c2, 53)), build(from(c2, 53), to(c1, 1000))
			lab.Rules("n")
			c1.Send(ask)
			c2.Expect(t, ask)
			lab.Rules("n", "c1 in deny --dst @c2") // the answers that come yet don't open the way again
			c2.Send(answer)
			c1.Expect(t, answer)
			c1.Send(ask)
			lab.ExpectNothing(t)
			lab.ExpectDrops(t, drops{packet.DropRuleDeny: 2*i + 1})
			lab.Rules("n")
			lab.Rules("n", "c1 out deny") // but what c1 began goes on
			c2.Send(answer)
			lab.ExpectNothing(t)
			c1.Send(ask)
			c2.Expect(t, ask)
			c2.Send(answer)
			c1.Expect(t, answer)
			lab.ExpectDrops(t, drops{packet.DropRuleDeny: 2*i + 2})
			lab.Connections().Remove(&nat.Filter{})
		}
		lab.Rules("n")
		lab.Rules("n", "c1 in deny --dst @c2")
		lab.Advance(3 * time.Hour) // now there is none left
		c2.Send(UDP(from(c2, 53), to(c1, 1000)))
		c1.Take()
		c1.Send(UDP(from(c1, 1000), to(c2, 53)))
		if len(c2.Take()) != 1 {
			t.Error("a reply was denied")
		}
	})
}

// A flood reaches those ports whose rules don't refuse it.
func TestRulesAndFloods(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, c3 := ruled(lab)
		lab.Rules("n", "c2 out deny --proto udp --dport 9", "c3 out deny --proto udp --dport 10", "n out deny --proto udp --dport 11", "c1 in deny --proto udp --dport 12")
		groupMAC, groupIP, stranger, answer := "01:00:5e:00:00:07", "224.0.0.7", "10.0.0.99", []byte{34: 3, 35: 13}
		if UDP(from(c1, 1), to(c2, 1)).Bytes()[12] == 0x86 {
			groupMAC, groupIP, stranger, answer = "33:33:00:00:00:07", "ff0e::7", "fd00::99", []byte{54: 1, 55: 1}
		}
		group := func(port uint16) *packet.Frame { return UDP(from(c1, 1), To(groupMAC, groupIP, port)) }
		unknown := func(port uint16) *packet.Frame { return UDP(from(c1, 1), To("02:99:00:00:00:07", stranger, port)) }
		for _, f := range []func(uint16) *packet.Frame{group, group, unknown} {
			c1.Send(f(8), f(9), f(10), f(11), f(12))
			c2.Expect(t, f(8), f(10))
			c3.Expect(t, f(8), f(9))
		}
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropRuleDeny: 6})
		lab.Rules("n", "n out reject")
		c1.Send(group(9), unknown(9))
		if got, at := c1.Take(), len(answer)-2; len(got) != 1 || !bytes.Equal(got[0][at:at+2], answer[at:]) {
			t.Errorf("who spoke to a stranger got %x, want an ICMP error", got)
		}
		c2.ExpectNothing(t)
	})
}

// On a network that is --icc=false a rule opens what its ports may ask of each other; then they find each other, and answers pass.
func TestRuleOpensICC(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		lab.ICC("n", false)
		lab.Rules("n", "c1 in allow --proto tcp --dport 80 --dst @c2")
		arp := ARPReply(c1.From(0), c2.To(0))
		syn, ack := TCP(from(c1, 1000), to(c2, 80), Flags(packet.TCPSyn)), TCP(from(c2, 80), to(c1, 1000), Flags(packet.TCPSyn|packet.TCPAck))
		c1.Send(arp, syn)
		c2.Expect(t, arp, syn)
		c2.Send(ack, TCP(from(c2, 1000), to(c1, 80), Flags(packet.TCPSyn)))
		c1.Expect(t, ack)
		c1.Send(TCP(from(c1, 1000), to(c2, 81), Flags(packet.TCPSyn)))
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropICCOff: 2})
	})
}

// Rules of both networks judge what is routed, by the addresses that each side sees: before masquerading, and behind a published port.
func TestRulesOfRouted(t *testing.T) {
	for name, o := range map[string][]netlab.Option{"cache": nil, "no cache": {netlab.NoCache()}} {
		t.Run(name, func(t *testing.T) {
			lab, a1, a2, b1 := translated(t, o...)
			lab.Rules("a", "a out allow --proto tcp --dport 80 --dst @a1 --src @b1", "a out deny", "a2 in reject --dst @b1")
			lab.Rules("b", "b1 out allow --src @a", "b1 out deny", "b1 in deny --proto udp --sport 53")
			for _, way := range natWays(a1, b1) {
				for range 3 {
					way[0].check(t, UDP)
					way[1].check(t, UDP) // an answer: a out deny is not asked
				}
			}
			mac, gw := macOf(b1.Net().Gateway().If.MAC), macOf(a1.Net().Gateway().If.MAC)
			b1.Send( // published, at its real port
				TCP(b1.From(999), To(mac, "10.2.0.1", 8080), Flags(packet.TCPSyn)),
				TCP(b1.From6(999), To(mac, "fd02::1", 8080), Flags(packet.TCPSyn)),
			)
			a1.Expect(t, TCP(From(gw, b1.IP4.String(), 999), a1.To(80), Flags(packet.TCPSyn), TTL(63)),
				TCP(From(gw, b1.IP6.String(), 999), a1.To6(80), Flags(packet.TCPSyn), TTL(63)))
			b1.Send(UDP(b1.From(999), b1.Via(a1.IP4, 80)), UDP(b1.From(53), b1.Via(a1.IP4, 80)), UDP(b1.From6(999), b1.Via(a1.IP6, 80)), UDP(b1.From6(53), b1.Via(a1.IP6, 80)))
			lab.ExpectNothing(t)
			lab.ExpectDrops(t, drops{packet.DropRuleDeny: 4})
			a2.Send(UDP(a2.From(5), a2.Via(b1.IP4, 5)), UDP(a2.From6(5), a2.Via(b1.IP6, 5)))
			got := a2.Take()
			if len(got) != 2 || fmt.Sprintf("%x", got[0][26:30]) != "0a010001" || got[0][34] != 3 || got[0][35] != 13 ||
				fmt.Sprintf("%x", got[1][22:38]) != "fd010000000000000000000000000001" || got[1][54] != 1 || got[1][55] != 1 {
				t.Errorf("a2 got %x, want ICMP errors from its gateway", got)
			}
		})
	}
}

// ICMP errors about a connection pass where its datagrams do, and others where rules let ICMP pass.
func TestRulesAndErrors(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		lab.Rules("n", "c1 out deny", "c2 in deny")
		ask := UDP(from(c1, 1000), to(c2, 53))
		c1.Send(ask)
		c2.Expect(t, ask)
		quote, kind, port := ask.Bytes()[14:], uint8(3), 21
		if quote[0]>>4 == 6 {
			kind, port = 1, 41
		}
		about := ICMP(kind, from(c2, 0), to(c1, 0), Payload(quote))
		c2.Send(about)
		c1.Expect(t, about)
		other := append([]byte(nil), quote...)
		other[port]++ // of another source port
		c2.Send(ICMP(kind, from(c2, 0), to(c1, 0), Payload(other)))
		lab.Settle()
		lab.ExpectDrops(t, drops{packet.DropRuleDeny: 1})
		lab.Rules("n", "c1 in deny --proto udp")
		c2.Send(about)
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropRuleDeny: 2})
	})
}

// Ten thousand rules cost a cached flow nothing: it is decided once, and counts its packets all the same.
func TestManyRulesAndACachedFlow(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1, c2, _ := ruled(lab)
	texts := make([]string, 10000)
	for i := range texts {
		texts[i] = fmt.Sprintf("n in deny --proto udp --dst 10.7.%d.%d", i/256, i%256)
	}
	lab.Rules("n", append(texts, "c1 in allow --proto udp", "c2 out allow --proto udp --dport 1-9")...)
	before := lab.Path().WorkerCounters()[0].FlowMisses
	for range 100 {
		c1.Send(UDP(c1.From(1000), c2.To(9)))
		lab.Settle()
	}
	if n := lab.Path().WorkerCounters()[0].FlowMisses - before; n != 1 {
		t.Errorf("100 frames of a flow were decided %d times", n)
	}
	for _, id := range []string{"r10001", "r10002"} {
		if n := lab.RuleHits("n")[id]; n != 100 {
			t.Errorf("rule %s has %d packets, want 100", id, n)
		}
	}
	lab.Path().FlushFlows()
	c1.Send(UDP(c1.From(1000), c2.To(9)))
	if n := lab.RuleHits("n")["r10001"]; n != 101 {
		t.Errorf("after a flush the rule has %d packets", n)
	}
}

// Fragments are judged by the ports of their datagram's first one.
func TestRulesAndFragments(t *testing.T) {
	families(t, func(t *testing.T, lab *netlab.Lab, from, to func(*netlab.Port, uint16) Option) {
		c1, c2, _ := ruled(lab)
		lab.Rules("n", "c1 in deny --proto udp --dport 53", "c2 out allow --proto udp --dport 54", "c2 out deny")
		for i, port := range []uint16{53, 54, 55} {
			first := UDP(from(c1, 1000), to(c2, port), Fragment(0, true), ID(uint16(port), false), Size(32))
			later := UDP(from(c1, 1000), to(c2, port), Fragment(5, false), ID(uint16(port), false), Size(32))
			c1.Send(first, later)
			if port == 54 {
				c2.Expect(t, first, later)
			}
			lab.ExpectNothing(t)
			if n, want := lab.Drops()[packet.DropRuleDeny], 2*((i+2)/2); n != want {
				t.Errorf("port %d: %d fragments were denied so far, want %d", port, n, want)
			}
		}
	})
}

// Judgements by rules with --log are told, but not too many.
func TestRulesTell(t *testing.T) {
	lab := netlab.New(t)
	c1, c2, _ := ruled(lab)
	lab.Rules("n", "c1 in deny --proto udp --log", "c2 out allow --log")
	c1.Send(UDP(c1.From(1), c2.To(1)), TCP(c1.From(1), c2.To(1)))
	all := lab.Judged()
	name := func(j pipeline.Judged) string { return fmt.Sprint(j.Network, j.Port, j.Direction, j.Rule.ID, j.Missed) }
	if len(all) != 2 || name(all[0]) != "nc1inr10" || name(all[1]) != "nc2outr20" {
		t.Fatalf("told: %+v", all)
	}
	for range 100 {
		c1.Send(UDP(c1.From(1), c2.To(1)))
	}
	if n := len(lab.Judged()); n != 9 {
		t.Errorf("%d of 100 are told, want 9: there was one before", n)
	}
	if hits := lab.RuleHits("n"); hits["r1"] != 101 || hits["r2"] != 1 {
		t.Errorf("hits: %v", hits)
	}
}
