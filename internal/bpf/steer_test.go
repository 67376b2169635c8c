package bpf_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	pt "vswitch/internal/packettest"
)

// Verdicts of linux/pkt_cls.h.
const (
	stack    = -1
	drop     = 2
	redirect = 7
)

// noDevice is the index of no interface: what is cloned to it is lost, and judged as ever.
const noDevice = 1 << 30

const (
	host4, host6 = "192.0.2.2", "2001:db8::2"
	peer4, peer6 = "198.51.100.9", "2001:db8:9::9"

	ownMAC  = "00:00:00:00:00:00" // that of lo, on which BPF_PROG_TEST_RUN receives
	peerMAC = "02:00:00:00:00:09"
)

func steering(t testing.TB) *bpf.Steering {
	t.Helper()
	linktest.Root(t)
	s, err := bpf.NewSteering()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func loadSteer(t testing.TB, s *bpf.Steering) bpf.Program {
	t.Helper()
	p, err := s.LoadSteer(noDevice)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// sent is where a frame comes from and goes to, in either family.
func sent(src, dst string, port uint16, more ...pt.Option) []pt.Option {
	return append([]pt.Option{pt.From(peerMAC, src, 40000), pt.To(ownMAC, dst, port)}, more...)
}

func run(t testing.TB, p bpf.Program, f *packet.Frame) int32 {
	t.Helper()
	verdict, err := p.Run(f.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

// TestSteerVerdicts: the program takes what is the switch's, and nothing else.
func TestSteerVerdicts(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4), netip.MustParseAddr(host6)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	s.Set(bpf.UDP, 53)
	s.Set(bpf.SCTP, 65535)
	s.Set(bpf.Echo, 7)
	s.Set(bpf.TCP, 0x1f90) // 8080 in the other order of bytes is 36895: nothing of it may be steered
	sctp := func(port uint16) []byte {
		return []byte{0x9c, 0x40, byte(port >> 8), byte(port), 0, 0, 0, 1, 0, 0, 0, 0}
	}
	for _, fam := range []struct {
		name, host, other, peer string
		errors                  [3]uint8
	}{
		{"IPv4", host4, "192.0.2.3", peer4, [3]uint8{3, 11, 12}}, {"IPv6", host6, "2001:db8::3", peer6, [3]uint8{1, 3, 4}},
	} {
		to := func(port uint16, more ...pt.Option) []pt.Option { return sent(fam.peer, fam.host, port, more...) }
		for _, c := range []struct {
			name  string
			frame *packet.Frame
			want  int32
		}{
			{"TCP to our port", pt.TCP(to(8080)...), redirect},
			{"TCP super-frame's size", pt.TCP(to(8080, pt.Size(3000))...), redirect},
			{"TCP to our port in the other order of bytes", pt.TCP(to(0x901f)...), stack},
			{"TCP to a port beside", pt.TCP(to(8081)...), stack},
			{"TCP to a port of the host's", pt.TCP(to(22)...), stack},
			{"TCP to our UDP port", pt.TCP(to(53)...), stack},
			{"TCP to our port of another address", pt.TCP(sent(fam.peer, fam.other, 8080)...), stack},
			{"TCP from our port", pt.TCP(pt.From(peerMAC, fam.peer, 8080), pt.To(ownMAC, fam.host, 22)), stack},
			{"TCP for another MAC", pt.TCP(pt.From(peerMAC, fam.peer, 1), pt.To("02:00:00:00:00:77", fam.host, 8080)), stack},
			{"TCP to all MACs", pt.TCP(pt.From(peerMAC, fam.peer, 1), pt.To("ff:ff:ff:ff:ff:ff", fam.host, 8080)), stack},
			{"TCP with a VLAN tag", pt.TCP(to(8080, pt.VLAN(5))...), stack},
			{"TCP with two tags", pt.TCP(to(8080, pt.ServiceVLAN(5), pt.VLAN(6))...), stack},
			{"UDP to our port", pt.UDP(to(53)...), redirect},
			{"UDP to our TCP port", pt.UDP(to(8080)...), stack},
			{"UDP, first fragment", pt.UDP(to(53, pt.Fragment(0, true))...), redirect},
			{"UDP, later fragment", pt.UDP(to(53, pt.Fragment(2, false))...), stack}, // and a copy
			{"UDP, later fragment like a header", pt.IP(17, to(0, pt.Fragment(2, true), pt.Payload(sctp(53)))...), stack},
			{"SCTP to our port", pt.IP(132, to(0, pt.Payload(sctp(65535)))...), redirect},
			{"SCTP to a port of the host's", pt.IP(132, to(0, pt.Payload(sctp(65534)))...), stack},
			{"of another protocol", pt.IP(47, to(0, pt.Payload(sctp(8080)))...), stack},
			{"too short for ports", pt.IP(6, to(0, pt.Payload([]byte{0x9c, 0x40, 0x1f, 0x90}))...), stack},
			{"echo request", pt.ICMPEcho(to(0, pt.Echo(8080, 1))...), stack},
			{"echo reply of ours", pt.ICMPEchoReply(to(0, pt.Echo(7, 1))...), stack}, // and a copy, as of all that follow: they may be the host's
			{"unreachable", pt.ICMP(fam.errors[0], to(0)...), stack},
			{"time exceeded", pt.ICMP(fam.errors[1], to(0)...), stack},
			{"parameter problem", pt.ICMP(fam.errors[2], to(0)...), stack},
		} {
			if got := run(t, p, c.frame); got != c.want {
				t.Errorf("%s: %s: verdict %d, want %d", fam.name, c.name, got, c.want)
			}
		}
	}
	options := pt.TCP(sent(peer4, host4, 8080, pt.IPOptions(7, 7, 4, 0, 0, 0, 0, 0))...)
	if got := run(t, p, options); got != redirect {
		t.Errorf("IPv4 options: verdict %d", got)
	}
	if got := run(t, p, pt.TCP(sent(peer6, host6, 8080, pt.HopByHop())...)); got != stack {
		t.Errorf("IPv6 hop-by-hop options: verdict %d", got)
	}
	for ihl := range byte(5) {
		f := pt.TCP(sent(peer4, host4, 8080)...)
		f.Bytes()[14] = 0x40 | ihl
		if got := run(t, p, f); got != stack {
			t.Errorf("an IPv4 header of %d words: verdict %d", ihl, got)
		}
	}
}

// TestSteering: bits and addresses work as soon as they are set, in each table by themselves.
func TestSteering(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	addr := netip.MustParseAddr(host4)
	tcp := func(port uint16) int32 { return run(t, p, pt.TCP(sent(peer4, host4, port)...)) }
	if s.Set(bpf.TCP, 1000); tcp(1000) != stack {
		t.Error("steered without an address")
	}
	if err := s.SetAddrs([]netip.Addr{addr, netip.MustParseAddr(host6)}); err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{0, 1, 31, 32, 33, 4096, 32768, 65534, 65535} {
		s.Set(bpf.TCP, port)
		if tcp(port) != redirect || !s.Has(bpf.TCP, port) {
			t.Errorf("port %d is set and not steered", port)
		}
		for _, other := range []bpf.Table{bpf.UDP, bpf.SCTP, bpf.Echo} {
			if s.Has(other, port) {
				t.Errorf("port %d of TCP is set in table %d too", port, other)
			}
		}
		if s.Clear(bpf.TCP, port); tcp(port) != stack || s.Has(bpf.TCP, port) {
			t.Errorf("port %d is cleared and still steered", port)
		}
	}
	var want bpf.PortSet
	want.AddRange(61000, 65535)
	want.Remove(61005)
	s.Replace(bpf.TCP, &want)
	for port, verdict := range map[uint16]int32{1000: stack, 60999: stack, 61000: redirect, 61005: stack, 65535: redirect} {
		if got := tcp(port); got != verdict {
			t.Errorf("after Replace: port %d: verdict %d, want %d", port, got, verdict)
		}
	}
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host6)}); err != nil {
		t.Fatal(err)
	}
	if tcp(61000) != stack {
		t.Error("steered to an address that was taken away")
	}
}

// TestAdoptSteering: who takes the fds over finds and changes what the program sees.
func TestAdoptSteering(t *testing.T) {
	s := steering(t)
	p := loadSteer(t, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4)}); err != nil {
		t.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	dup := func() (int, int) {
		bits, addrs := s.FDs()
		a, err := unix.FcntlInt(uintptr(bits), unix.F_DUPFD_CLOEXEC, 0)
		b, err2 := unix.FcntlInt(uintptr(addrs), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		return a, b
	}
	bits, addrs := dup()
	again, err := bpf.AdoptSteering(bits, addrs)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Has(bpf.TCP, 8080) {
		t.Error("the bits are lost")
	}
	again.Clear(bpf.TCP, 8080)
	again.Set(bpf.TCP, 8081)
	if got := run(t, p, pt.TCP(sent(peer4, host4, 8080)...)); got != stack {
		t.Errorf("cleared by the heir: verdict %d", got)
	}
	if got := run(t, p, pt.TCP(sent(peer4, host4, 8081)...)); got != redirect {
		t.Errorf("set by the heir: verdict %d", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	a, b := dup()
	if _, err := bpf.AdoptSteering(b, a); err == nil {
		t.Error("maps of the wrong shape are taken")
	}
}

// TestSendVerdicts: nothing but IP leaves by the TAP, with a detour of IPv6 or without.
func TestSendVerdicts(t *testing.T) {
	linktest.Root(t)
	gateway := netip.MustParseAddr("fe80::1")
	var links []netip.Prefix
	for i := range 2 * bpf.MaxOnLink {
		links = append(links, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 7: byte(i)}), 64-i))
	}
	for _, d := range []bpf.Detour{{}, {Gateway: gateway}, {Gateway: gateway, OnLink: links}} {
		p, err := bpf.LoadSend(noDevice, d)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		sendVerdicts(t, p)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func sendVerdicts(t *testing.T, p bpf.Program) {
	t.Helper()
	for _, c := range []struct {
		name  string
		frame *packet.Frame
		want  int32
	}{
		{"IPv4", pt.TCP(sent(host4, peer4, 80)...), redirect},
		{"IPv6", pt.UDP(sent(host6, peer6, 80)...), redirect},
		{"ARP", pt.ARPRequest(), drop},
		{"a VLAN tag", pt.TCP(sent(host4, peer4, 80, pt.VLAN(7))...), drop},
	} {
		if got := run(t, p, c.frame); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}

// BenchmarkSteer is what a received frame costs the host, by BPF_PROG_TEST_RUN, without the redirect itself.
func BenchmarkSteer(b *testing.B) {
	s := steering(b)
	p := loadSteer(b, s)
	if err := s.SetAddrs([]netip.Addr{netip.MustParseAddr(host4), netip.MustParseAddr(host6)}); err != nil {
		b.Fatal(err)
	}
	s.Set(bpf.TCP, 8080)
	s.Set(bpf.UDP, 8080)
	for _, c := range []struct {
		name  string
		frame *packet.Frame
	}{
		{"host4", pt.TCP(sent(peer4, host4, 22)...)},
		{"host6", pt.TCP(sent(peer6, host6, 22)...)},
		{"ours4", pt.TCP(sent(peer4, host4, 8080)...)},
		{"ours6", pt.UDP(sent(peer6, host6, 8080)...)},
		{"arp", pt.ARPRequest(pt.To(ownMAC, host4, 0))},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := p.Bench(c.frame.Bytes(), max(b.N, 1000))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(d.Nanoseconds()), "ns/frame")
		})
	}
}

// BenchmarkSteeringSet is what a new connection costs: a bit set, and cleared at its end.
func BenchmarkSteeringSet(b *testing.B) {
	s := steering(b)
	for i := range b.N {
		s.Set(bpf.Echo, uint16(i))
		s.Clear(bpf.Echo, uint16(i))
	}
}
