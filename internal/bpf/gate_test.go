package bpf_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/packet"
	pt "vswitch/internal/packettest"
)

// TestGate: SYNs enter while there is credit, of which reading gives more when it drained the queue; where nobody reads, some enter all the
// same from time to time. Other frames enter always.
func TestGate(t *testing.T) {
	const drained, served, wait = 1024, 16, 100 * time.Millisecond // see gate.go
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4), netip.MustParseAddr(host6)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	s.Set(bpf.UDP, 8080)
	flags := func(src, dst string, flags uint8) *packet.Frame {
		return pt.TCP(sent(src, dst, 8080, pt.Flags(flags))...)
	}
	seq := uint32(0)
	for name, syn := range map[string][]pt.Option{
		"IPv4":              sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn)),
		"IPv4 with options": sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn), pt.IPOptions(7, 7, 4, 0, 0, 0, 0, 0)),
		"IPv4 with ECN":     sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn|0xc0)),
		"IPv6":              sent(peer6, host6, 8080, pt.Flags(packet.TCPSyn)),
	} {
		for _, c := range []struct {
			all    bool
			credit int
		}{{true, drained}, {false, served}} {
			seq++ // one that was not refused before
			syn := pt.TCP(append(syn, pt.Seq(seq))...)
			s.Served(c.all)
			before, n := s.Refused(), 0
			verdict := run(t, p, syn)
			for ; verdict == redirect; verdict = run(t, p, syn) {
				n++
			}
			const more = 50 // that enter for another reason, where others keep this test from its work
			if n < c.credit || n > c.credit+more || verdict != drop || s.Refused() != before+1 {
				t.Errorf("%s, drained %v: %d entered, want %d; %d refused, verdict %d", name, c.all, n, c.credit, s.Refused()-before, verdict)
			}
		}
	}
	for name, f := range map[string]*packet.Frame{
		"SYN and ACK": flags(peer4, host4, packet.TCPSyn|packet.TCPAck),
		"ACK":         flags(peer6, host6, packet.TCPAck),
		"RST":         flags(peer4, host4, 4),
		"UDP":         pt.UDP(sent(peer4, host4, 8080)...),
		"UDP, IPv6":   pt.UDP(sent(peer6, host6, 8080, pt.Payload([]byte{2, 2, 2, 2, 2, 2, 2, 2}))...),
	} {
		if got := run(t, p, f); got != redirect {
			t.Errorf("%s: verdict %d", name, got)
		}
	}
	host := pt.TCP(sent(peer4, host4, 22, pt.Flags(packet.TCPSyn))...)
	if got := run(t, p, host); got != stack {
		t.Errorf("a SYN to a port of the host's: verdict %d", got)
	}
	time.Sleep(wait + 10*time.Millisecond)
	if got := run(t, p, flags(peer4, host4, packet.TCPSyn)); got != redirect {
		t.Errorf("a SYN, when nobody has read for a while: verdict %d", got)
	}
}

// TestGateAdopted: who takes the maps over lets SYNs in at once.
func TestGateAdopted(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	syn := pt.TCP(sent(peer4, host4, 8080, pt.Flags(packet.TCPSyn))...)
	for run(t, p, syn) == redirect {
	}
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
	if got := run(t, p, syn); got != redirect {
		t.Errorf("a SYN to the heir: verdict %d", got)
	}
	if again.Refused() != s.Refused() || again.Refused() == 0 {
		t.Errorf("%d and %d refused", again.Refused(), s.Refused())
	}
}

// TestGateRemembers: a SYN that was refused has credit of its own when it comes again, by as many as there is, and one that only looks like it
// has none.
func TestGateRemembers(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4), netip.MustParseAddr(host6)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	syn := func(src, dst string, seq uint32) *packet.Frame {
		return pt.TCP(sent(src, dst, 8080, pt.Flags(packet.TCPSyn), pt.Seq(seq))...)
	}
	var first []*packet.Frame
	for try := uint32(0); ; try += 10 {
		first = []*packet.Frame{syn(peer4, host4, try), syn(peer6, host6, try)}
		other := []*packet.Frame{syn(peer4, host4, try+1), syn(peer6, host6, try+1), syn("198.51.100.10", host4, try), syn("2001:db8:9::10", host6, try)}
		// exhaust leaves no credit, some 100 ms before the program itself lets one in.
		exhaust := func() (until time.Time) {
			time.Sleep(110 * time.Millisecond)
			for i := uint32(1000); run(t, p, syn(peer4, host4, i)) == redirect; i++ {
			}
			return time.Now().Add(50 * time.Millisecond)
		}
		judge := func(frames []*packet.Frame) (verdicts []int32) {
			for _, f := range frames {
				verdicts = append(verdicts, run(t, p, f))
			}
			return verdicts
		}
		s.Served(false)
		until := exhaust()
		once, copied := judge(first), judge(first)
		late := time.Now().After(until)
		time.Sleep(200 * time.Millisecond)
		until = exhaust()
		first[1].Bytes()[17]++ // the flow label: some senders take another one for each attempt
		others, again := judge(other), judge(first)
		if late || time.Now().After(until) {
			if try == 200 {
				t.Fatal("this machine is too busy")
			}
			continue
		}
		for what, verdicts := range map[string][]int32{"for the first time": once, "at once again": copied, "another one": others} {
			if slices.ContainsFunc(verdicts, func(v int32) bool { return v != drop }) {
				t.Errorf("%s: verdicts %d", what, verdicts)
			}
		}
		if slices.ContainsFunc(again, func(v int32) bool { return v != redirect }) {
			t.Errorf("when they come again: verdicts %d", again)
		}
		break
	}
	n := 0
	for ; n < 2000 && run(t, p, first[0]) == redirect; n++ {
	}
	if n == 0 || n > 16 {
		t.Errorf("it came again %d times more, and had credit for 16 in all", n)
	}
}
