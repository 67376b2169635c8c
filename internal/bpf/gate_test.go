package bpf_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/packet"
	pt "vswitch/internal/packettest"
)

// gated is a program with a gate, which says by its verdict what enters.
type gated struct {
	*bpf.Gate
	bpf.Program
	enter, refuse int32
}

// eachGated runs a test with each of the programs, which let TCP and UDP to port 8080 of either address enter.
func eachGated(t *testing.T, test func(*testing.T, gated)) {
	t.Run("steer", func(t *testing.T) {
		s := steering(t)
		p := loadSteer(t, s)
		if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4), netip.MustParseAddr(host6)}); err != nil {
			t.Fatal(err)
		}
		s.Set(bpf.TCP, 8080)
		s.Set(bpf.UDP, 8080)
		test(t, gated{s.Gate, p, redirect, drop})
	})
	t.Run("segment", func(t *testing.T) {
		p, g := loadSegment(t, [6]byte{}) // ownMAC
		test(t, gated{g, p, accept, none})
	})
}

// exhaust lets SYNs enter until one is refused.
func exhaust(t *testing.T, g gated, syn func(i uint32) *packet.Frame) {
	t.Helper()
	for i := range uint32(1 << 14) {
		if run(t, g.Program, syn(i)) == g.refuse {
			return
		}
	}
	t.Fatal("the gate refuses nothing")
}

// TestGate: SYNs enter while there is credit, of which reading gives more when it drained the queue; where nobody reads, some enter all the
// same from time to time. Other frames enter always.
func TestGate(t *testing.T) { eachGated(t, testGate) }

func testGate(t *testing.T, g gated) {
	const drained, served, wait = 1024, 16, 100 * time.Millisecond // see gate.go
	flags := func(src, dst string, flags uint8) *packet.Frame {
		return pt.TCP(sent(src, dst, 8080, pt.Flags(flags))...)
	}
	seq := uint32(0)
	for name, syn := range map[string][]pt.Option{
		"IPv4":                       sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn)),
		"IPv4 with options":          sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn), pt.IPOptions(7, 7, 4, 0, 0, 0, 0, 0)),
		"IPv4 with all options":      sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn), pt.IPOptions(append([]byte{7, 39, 4}, make([]byte, 37)...)...)),
		"IPv4 with ECN":              sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn|0xc0)),
		"IPv4, the first fragment":   sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn), pt.Fragment(0, true)),
		"IPv6":                       sent(peer6, host6, 8080, pt.Flags(packet.TCPSyn)),
		"IPv6, the first fragment":   sent(peer6, host6, 8080, pt.Flags(packet.TCPSyn), pt.Fragment(0, true)),
		"IPv6, as if it were urgent": sent(peer6, host6, 8080, pt.Flags(packet.TCPSyn|0x28)),
	} {
		for _, c := range []struct {
			all    bool
			credit int
		}{{true, drained}, {false, served}} {
			seq++ // one that was not refused before
			syn := pt.TCP(append(syn, pt.Seq(seq))...)
			g.Served(c.all)
			before, n := g.Refused(), 0
			verdict := run(t, g.Program, syn)
			for ; verdict == g.enter && n < 2*drained; verdict = run(t, g.Program, syn) {
				n++
			}
			const more = 50 // that enter for another reason, where others keep this test from its work
			if n < c.credit || n > c.credit+more || verdict != g.refuse || g.Refused() != before+1 {
				t.Errorf("%s, drained %v: %d entered, want %d; %d refused, verdict %d", name, c.all, n, c.credit, g.Refused()-before, verdict)
			}
		}
	}
	for name, f := range map[string]*packet.Frame{
		"SYN and ACK": flags(peer4, host4, packet.TCPSyn|packet.TCPAck),
		"ACK":         flags(peer6, host6, packet.TCPAck),
		"RST":         flags(peer4, host4, 4),
		"UDP":         pt.UDP(sent(peer4, host4, 8080, pt.Payload(bytes.Repeat([]byte{2}, 8)))...),
		"UDP, IPv6":   pt.UDP(sent(peer6, host6, 8080, pt.Payload(bytes.Repeat([]byte{2}, 8)))...),
	} {
		if got := run(t, g.Program, f); got != g.enter {
			t.Errorf("%s: verdict %d", name, got)
		}
	}
	time.Sleep(wait + 10*time.Millisecond)
	if got := run(t, g.Program, flags(peer4, host4, packet.TCPSyn)); got != g.enter {
		t.Errorf("a SYN, when nobody has read for a while: verdict %d", got)
	}
}

// TestGateAdopted: the program of who takes the maps over has a gate of its own, and lets SYNs in at once.
func TestGateAdopted(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	syn := pt.TCP(sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn))...)
	exhaust(t, gated{s.Gate, p, redirect, drop}, func(uint32) *packet.Frame { return syn })
	bits, addrs := s.FDs()
	a, err := unix.FcntlInt(uintptr(bits), unix.F_DUPFD_CLOEXEC, 0)
	b, err2 := unix.FcntlInt(uintptr(addrs), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	again, err := bpf.AdoptSteering(a, b)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := run(t, loadSteer(t, again), syn); got != redirect {
		t.Errorf("a SYN to the heir: verdict %d", got)
	}
	if got := run(t, loadSteer(t, again), pt.TCP(sent(peer4, host4, 22, pt.Flags(packet.TCPSyn))...)); got != stack {
		t.Errorf("a SYN to a port of the host's: verdict %d", got)
	}
}

// TestGateRemembers: a SYN that was refused has credit of its own when it comes again, by as many as there is, and one that only looks like it
// has none.
func TestGateRemembers(t *testing.T) { eachGated(t, testGateRemembers) }

func testGateRemembers(t *testing.T, g gated) {
	syn := func(src, dst string, seq uint32) *packet.Frame {
		return pt.TCP(sent(src, dst, 8080, pt.Flags(packet.TCPSyn), pt.Seq(seq))...)
	}
	var first []*packet.Frame
	for try := uint32(0); ; try += 10 {
		first = []*packet.Frame{syn(peer4, host4, try), syn(peer6, host6, try)}
		other := []*packet.Frame{syn(peer4, host4, try+1), syn(peer6, host6, try+1), syn("198.51.100.10", host4, try), syn("2001:db8:9::10", host6, try)}
		// shut leaves no credit, some 100 ms before the program itself lets one in.
		shut := func() (until time.Time) {
			time.Sleep(110 * time.Millisecond)
			exhaust(t, g, func(i uint32) *packet.Frame { return syn(peer4, host4, 1000+i) })
			return time.Now().Add(50 * time.Millisecond)
		}
		judge := func(frames []*packet.Frame) (verdicts []int32) {
			for _, f := range frames {
				verdicts = append(verdicts, run(t, g.Program, f))
			}
			return verdicts
		}
		g.Served(false)
		until := shut()
		once, copied := judge(first), judge(first)
		late := time.Now().After(until)
		time.Sleep(200 * time.Millisecond)
		until = shut()
		first[1].Bytes()[17]++ // the flow label: some senders take another one for each attempt
		others, again := judge(other), judge(first)
		if late || time.Now().After(until) {
			if try == 200 {
				t.Fatal("this machine is too busy")
			}
			continue
		}
		for what, verdicts := range map[string][]int32{"for the first time": once, "at once again": copied, "another one": others} {
			if slices.ContainsFunc(verdicts, func(v int32) bool { return v != g.refuse }) {
				t.Errorf("%s: verdicts %d", what, verdicts)
			}
		}
		if slices.ContainsFunc(again, func(v int32) bool { return v != g.enter }) {
			t.Errorf("when they come again: verdicts %d", again)
		}
		break
	}
	n := 0
	for ; n < 2000 && run(t, g.Program, first[0]) == g.enter; n++ {
	}
	if n == 0 || n > 16 {
		t.Errorf("it came again %d times more, and had credit for 16 in all", n)
	}
}
