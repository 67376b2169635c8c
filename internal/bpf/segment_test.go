package bpf_test

import (
	"net"
	"testing"

	"vswitch/internal/bpf"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	pt "vswitch/internal/packettest"
)

// Verdicts of a socket filter: how many bytes of the frame are accepted.
const (
	accept = -1
	none   = 0
	shut   = -2 // none, and the gate has counted it
)

func loadSegment(t testing.TB, mac [6]byte) (bpf.Program, *bpf.Gate) {
	t.Helper()
	linktest.Root(t)
	g, err := bpf.NewGate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	p, err := bpf.LoadSegment(mac, g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, g
}

// TestSegmentVerdicts: the filter takes what is for the station, and how neighbors are found; while SYNs are refused, nothing else for the station is.
func TestSegmentVerdicts(t *testing.T) {
	const mac = "02:00:00:00:ab:cd"
	own, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	p, g := loadSegment(t, [6]byte(own))
	to := func(mac, src, dst string, more ...pt.Option) []pt.Option {
		return append([]pt.Option{pt.From(peerMAC, src, 40000), pt.To(mac, dst, 80)}, more...)
	}
	syn := pt.Flags(packet.TCPSyn)
	cut := func(n int, f *packet.Frame) *packet.Frame {
		f.Load(nil, f.Bytes()[:n])
		return f
	}
	arp := func(mac string) *packet.Frame {
		f := pt.ARPRequest(pt.From(peerMAC, peer4, 0), pt.To(mac, host4, 0))
		to, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		copy(f.Bytes(), to)
		return f
	}
	like := make([]byte, 20) // a SYN, for who reads it as TCP
	like[13] = packet.TCPSyn
	type row struct {
		name  string
		frame *packet.Frame
		want  int32
	}
	table := []row{
		{"ARP to all", arp("ff:ff:ff:ff:ff:ff"), accept},
		{"ARP to the station", arp(mac), accept},
		{"ARP to another MAC", arp("02:00:00:00:ab:ce"), none},
		{"UDP to all MACs", pt.UDP(to("ff:ff:ff:ff:ff:ff", peer4, host4)...), none},
		{"ICMPv6 to a group", pt.ICMPEcho(to("33:33:ff:00:00:02", peer6, host6)...), accept},
		{"UDP to a group", pt.UDP(to("33:33:ff:00:00:02", peer6, host6)...), none},
		{"IPv4, too short for TCP's", cut(14+20+13, pt.TCP(to(mac, peer4, host4, syn)...)), accept},
		{"IPv6, too short for TCP's", cut(14+40+13, pt.TCP(to(mac, peer6, host6, syn)...)), accept},
		{"a SYN behind hop-by-hop options", pt.TCP(to(mac, peer6, host6, syn, pt.HopByHop())...), accept},
	}
	for _, fam := range []struct{ name, host, peer string }{{"IPv4", host4, peer4}, {"IPv6", host6, peer6}} {
		more := func(o ...pt.Option) []pt.Option { return to(mac, fam.peer, fam.host, o...) }
		table = append(table,
			row{fam.name + ": SYN", pt.TCP(more(syn)...), shut},
			row{fam.name + ": SYN, first fragment", pt.TCP(more(syn, pt.Fragment(0, true))...), shut},
			row{fam.name + ": SYN to another MAC", pt.TCP(to("02:00:00:00:ab:cc", fam.peer, fam.host, syn)...), none},
			row{fam.name + ": SYN to a MAC that ends likewise", pt.TCP(to("02:00:00:01:ab:cd", fam.peer, fam.host, syn)...), none},
			row{fam.name + ": ACK", pt.TCP(more(pt.Flags(packet.TCPAck))...), accept},
			row{fam.name + ": SYN and ACK", pt.TCP(more(pt.Flags(packet.TCPSyn | packet.TCPAck))...), accept},
			row{fam.name + ": later fragment like a SYN", pt.IP(6, more(pt.Fragment(2, true), pt.Payload(like))...), accept},
			row{fam.name + ": UDP like a SYN", pt.UDP(more(pt.Payload(like[8:]))...), accept},
			row{fam.name + ": SCTP like a SYN", pt.IP(132, more(pt.Payload(like))...), accept},
			row{fam.name + ": echo request", pt.ICMPEcho(more()...), accept},
		)
	}
	exhaust(t, gated{g, p, accept, none}, func(uint32) *packet.Frame { return pt.TCP(to(mac, peer4, host4, syn)...) })
	for _, c := range table {
		before := g.Refused()
		got := run(t, p, c.frame)
		if got == none && g.Refused() == before+1 {
			got = shut
		}
		if got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}

// BenchmarkSegment is what a received frame costs the host, by BPF_PROG_TEST_RUN.
func BenchmarkSegment(b *testing.B) {
	p, _ := loadSegment(b, [6]byte{})
	for _, c := range []struct {
		name  string
		frame *packet.Frame
	}{
		{"host4", pt.TCP(pt.From(peerMAC, peer4, 1), pt.To("02:00:00:00:00:02", host4, 22))},
		{"tcp4", pt.TCP(sent(peer4, host4, 8080)...)},
		{"tcp6", pt.TCP(sent(peer6, host6, 8080)...)},
		{"udp4", pt.UDP(sent(peer4, host4, 8080)...)},
		{"udp6", pt.UDP(sent(peer6, host6, 8080)...)},
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
