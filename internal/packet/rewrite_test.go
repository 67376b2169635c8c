package packet_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
)

type ends struct {
	src, dst         string
	srcPort, dstPort uint16
}

func (e ends) from() Option { return From("02:00:00:00:00:01", e.src, e.srcPort) }
func (e ends) to() Option   { return To("02:00:00:00:00:02", e.dst, e.dstPort) }

var (
	before4 = ends{"10.0.0.1", "10.0.0.2", 1000, 2000}
	after4  = ends{"198.51.100.9", "203.0.113.200", 61001, 443}
	before6 = ends{"fd00::1", "fd00::2", 1000, 2000}
	after6  = ends{"2001:db8::ffff", "2001:db8:1::9", 61001, 443}
)

// rewriteOf returns what makes one pair of endpoints of another.
func rewriteOf(a, b ends, src, dst bool) (r packet.Rewrite, is ends) {
	is = a
	if src {
		is.src, is.srcPort = b.src, b.srcPort
	}
	if dst {
		is.dst, is.dstPort = b.dst, b.dstPort
	}
	copy(r.Src[:], netip.MustParseAddr(b.src).AsSlice())
	copy(r.Dst[:], netip.MustParseAddr(b.dst).AsSlice())
	r.SrcPort, r.DstPort, r.NewSrc, r.NewDst = b.srcPort, b.dstPort, src, dst
	return r, is
}

// sameBut0 tells whether frames are equal, but that a checksum may be 0 or 0xffff.
func sameBut0(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			j := i &^ 1
			x, y := binary.BigEndian.Uint16(a[j:]), binary.BigEndian.Uint16(b[j:])
			if x^y != 0xffff || x != 0 && y != 0 {
				return false
			}
		}
	}
	return true
}

// TestRewrite compares a rewritten frame with one that is built anew with the other endpoints, checksums and all.
func TestRewrite(t *testing.T) {
	frames := map[string]func(...Option) *packet.Frame{
		"TCP": TCP, "UDP": UDP, "echo": ICMPEcho, "echo reply": ICMPEchoReply,
		"GRE":         func(o ...Option) *packet.Frame { return IP(47, append(o, Size(60))...) },
		"TCP partial": func(o ...Option) *packet.Frame { return TCP(append(o, Partial(), Size(100))...) },
		"UDP partial": func(o ...Option) *packet.Frame { return UDP(append(o, Partial(), Size(101))...) },
		"TSO":         func(o ...Option) *packet.Frame { return TCP(append(o, GSO(1400), Size(30000))...) },
		"USO":         func(o ...Option) *packet.Frame { return UDP(append(o, GSO(1400), Size(30001))...) },
		"UDP zero":    func(o ...Option) *packet.Frame { return UDP(append(o, NoChecksum())...) },
		"tagged":      func(o ...Option) *packet.Frame { return UDP(append(o, VLAN(7), Trailer(9), Size(3))...) },
		"fragment":    func(o ...Option) *packet.Frame { return UDP(append(o, Fragment(0, true), Size(64))...) },
		"fragment 2":  func(o ...Option) *packet.Frame { return UDP(append(o, Fragment(9, true), Size(64))...) },
		"SCTP":        func(o ...Option) *packet.Frame { return SCTP(append(o, Size(5001))...) },
	}
	for name, build := range frames {
		for _, family := range [][2]ends{{before4, after4}, {before6, after6}} {
			for i := 1; i < 4; i++ {
				a, b := family[0], family[1]
				r, is := rewriteOf(a, b, i&1 != 0, i&2 != 0)
				t.Run(fmt.Sprint(name, " ", a.src, " ", i), func(t *testing.T) {
					o := []Option{Echo(0x1234, 1)}
					if name == "echo" && r.NewSrc {
						o = []Option{Echo(b.srcPort, 1)}
					}
					if name == "echo reply" && r.NewDst {
						o = []Option{Echo(b.dstPort, 1)}
					}
					got := parsed(t, build(a.from(), a.to(), Echo(0x1234, 1)))
					want := parsed(t, build(append(o, is.from(), is.to())...))
					got.Rewrite(&r)
					if !sameBut0(got.WithVnet(), want.WithVnet()) {
						t.Errorf("\ngot  %s\nwant %s", hex.EncodeToString(got.WithVnet()), hex.EncodeToString(want.WithVnet()))
					}
					if got.Key != want.Key {
						t.Errorf("key %+v, want %+v", got.Key, want.Key)
					}
				})
			}
		}
	}
}

// TestRewriteThereAndBack: whatever the endpoints, the sums stay right, and the way back gives what was.
func TestRewriteThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		build := rapid.SampledFrom([]func(...Option) *packet.Frame{TCP, UDP, ICMPEcho}).Draw(t, "build")
		o := []Option{Size(rapid.IntRange(0, 40).Draw(t, "size"))}
		var r, back packet.Rewrite
		if n := 4; rapid.Bool().Draw(t, "IPv6") {
			n = 16
			o = append(o, before6.from(), before6.to())
			copy(r.Src[:], rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "src"))
			copy(r.Dst[:], rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "dst"))
		} else {
			o = append(o, before4.from(), before4.to())
			copy(r.Src[:], rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "src"))
			copy(r.Dst[:], rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "dst"))
		}
		r.SrcPort, r.DstPort = rapid.Uint16().Draw(t, "sport"), rapid.Uint16().Draw(t, "dport")
		r.NewSrc, r.NewDst = true, true
		f := build(o...)
		if f.Parse() != packet.DropNone {
			t.Fatal("not parsed")
		}
		was := bytes.Clone(f.Bytes())
		back = packet.Rewrite{Src: f.Key.Src, Dst: f.Key.Dst, SrcPort: f.Key.SrcPort, DstPort: f.Key.DstPort, NewSrc: true, NewDst: true}
		if f.Key.Proto == packet.ProtoICMP || f.Key.Proto == packet.ProtoICMPv6 {
			back.SrcPort = f.Key.DstPort // the identifier
		}
		f.Rewrite(&r)
		if !f.VerifyTransport() {
			t.Fatalf("wrong checksum: %x", f.Bytes())
		}
		if f.Key.EtherType == packet.EtherTypeIPv4 {
			if h := f.IPv4(); packet.Fold(packet.Sum(h[:20], 0)) != 0xffff {
				t.Fatalf("wrong header checksum: %x", h)
			}
		}
		key := f.Key
		if f.Parse() != packet.DropNone || f.Key != key {
			t.Fatalf("the key is %+v, that of the frame %+v", key, f.Key)
		}
		f.Rewrite(&back)
		if !sameBut0(f.Bytes(), was) {
			t.Fatalf("there and back: %x, was %x", f.Bytes(), was)
		}
	})
}

// TestRewriteKeepsWrong: a checksum that was wrong is not mended, for somebody has yet to find out.
func TestRewriteKeepsWrong(t *testing.T) {
	r, _ := rewriteOf(before4, after4, true, true)
	for name, f := range map[string]*packet.Frame{
		"TCP": TCP(BadChecksum(), Size(3)), "UDP": UDP(BadChecksum()), "echo": ICMPEcho(BadChecksum(), Size(8)),
	} {
		f = parsed(t, f)
		if f.Rewrite(&r); f.VerifyTransport() {
			t.Errorf("%s: mended", name)
		}
	}
	s := SCTP(Size(20))
	s.Bytes()[60] ^= 1
	parsed(t, s).Rewrite(&r)
	crc := binary.LittleEndian.Uint32(s.Transport()[8:])
	binary.LittleEndian.PutUint32(s.Transport()[8:], 0)
	if crc == crc32.Checksum(s.Transport(), crc32.MakeTable(crc32.Castagnoli)) {
		t.Error("SCTP: mended")
	}
}

// TestRewriteError compares a translated ICMP error with one that quotes what the translated frame was before.
func TestRewriteError(t *testing.T) {
	quotes := map[string]func(...Option) *packet.Frame{
		"TCP": TCP, "UDP": UDP, "echo": ICMPEcho, "SCTP": SCTP,
		"long SCTP": func(o ...Option) *packet.Frame { return SCTP(append(o, Size(333))...) },
		"UDP zero":  func(o ...Option) *packet.Frame { return UDP(append(o, NoChecksum())...) },
		"long":      func(o ...Option) *packet.Frame { return UDP(append(o, Size(333))...) },
		"fragment":  func(o ...Option) *packet.Frame { return TCP(append(o, Fragment(0, true), Size(64))...) },
		"GRE":       func(o ...Option) *packet.Frame { return IP(47, append(o, Size(20))...) },
	}
	for name, build := range quotes {
		for i, family := range [][2]ends{{before4, after4}, {before6, after6}} {
			for _, cut := range []int{1000, 20, 12, 8} {
				t.Run(fmt.Sprint(name, " ", i, " ", cut), func(t *testing.T) {
					a, b := family[0], family[1]
					quote := func(e ends, id uint16) []byte {
						f := parsed(t, build(e.from(), e.to(), Echo(id, 1)))
						header := 40
						if i == 0 {
							header = 20
						} else if name == "fragment" {
							header = 48
						}
						q := f.Bytes()[f.L3:f.L3End]
						return bytes.Clone(q[:min(len(q), header+cut)])
					}
					kind := uint8(3)
					if i == 1 {
						kind = 1
					}
					// It was sent from a to its destination, went out as from b, and the error comes back to b's address.
					router := From("02:00:00:00:00:02", map[int]string{0: "192.0.2.1", 1: "2001:db8::1"}[i], 0)
					out := ends{b.src, a.dst, b.srcPort, a.dstPort}
					got := parsed(t, ICMP(kind, router, To("02:00:00:00:00:01", b.src, 0), Payload(quote(out, b.srcPort))))
					want := parsed(t, ICMP(kind, router, To("02:00:00:00:00:01", a.src, 0), Payload(quote(a, a.srcPort))))
					q, ok := got.Quote()
					if !ok || int(q.Proto) == 0 {
						t.Fatal("no quote")
					}
					var outer, quoted packet.Rewrite
					copy(outer.Dst[:], netip.MustParseAddr(a.src).AsSlice())
					outer.NewDst = true
					copy(quoted.Src[:], netip.MustParseAddr(a.src).AsSlice())
					quoted.SrcPort, quoted.NewSrc = a.srcPort, true
					got.RewriteError(&outer, &quoted, &q)
					if !got.VerifyTransport() {
						t.Error("wrong checksum")
					}
					if !sameBut0(got.Bytes(), want.Bytes()) || got.Key != want.Key {
						t.Errorf("\ngot  %x\nwant %x", got.Bytes(), want.Bytes())
					}
				})
			}
		}
	}
}

func TestQuoteRefuses(t *testing.T) {
	whole := parsed(t, TCP(Size(10)))
	inner := whole.Bytes()[14:]
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"cut off":      inner[:27],
		"other family": append([]byte{0x60}, inner[1:]...),
		"short header": append([]byte{0x44}, inner[1:]...),
		"long header":  append([]byte{0x4f}, inner[1:40]...),
		"later part":   append(append(bytes.Clone(inner[:6]), 0, 9), inner[8:]...),
	} {
		if _, ok := parsed(t, ICMP(3, Payload(b))).Quote(); ok {
			t.Errorf("%s: taken", name)
		}
	}
	inner6 := parsed(t, UDP(from6, to6)).Bytes()[14:]
	for name, b := range map[string][]byte{
		"cut off":            inner6[:47],
		"other family":       append([]byte{0x45}, inner6[1:]...),
		"cut off extensions": append(append(bytes.Clone(inner6[:6]), 0, 64), inner6[8:48]...),
	} {
		if _, ok := parsed(t, ICMP(1, from6, to6, Payload(b))).Quote(); ok {
			t.Errorf("IPv6 %s: taken", name)
		}
	}
}

func TestRewriteNoAllocations(t *testing.T) {
	r, _ := rewriteOf(before4, after4, true, true)
	f := parsed(t, TCP(Size(100)))
	e := parsed(t, ICMP(3, Payload(bytes.Clone(f.Bytes()[14:]))))
	if n := testing.AllocsPerRun(100, func() {
		f.Rewrite(&r)
		q, _ := e.Quote()
		e.RewriteError(&r, &r, &q)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRewrite: no frame that Parse lets pass makes Rewrite or RewriteError panic, and checksums that were right stay so.
func FuzzRewrite(f *testing.F) {
	for _, frame := range []*packet.Frame{
		TCP(Size(10)), UDP(Partial()), UDP(NoChecksum()), TCP(from6, to6, GSO(100), Size(300)), ICMPEcho(from6, to6), SCTP(Size(20)),
		ICMP(3, Payload(TCP().Bytes()[14:])), ICMP(1, from6, to6, Payload(UDP(from6, to6, HopByHop()).Bytes()[14:])),
		UDP(from6, to6, Fragment(0, true)), TCP(IPOptions(1, 1, 1, 0), Fragment(0, true)),
	} {
		f.Add(bytes.Clone(frame.WithVnet()), []byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	}
	f.Fuzz(func(t *testing.T, b, ends []byte) {
		frame := packet.NewFrame(make([]byte, packet.Headroom-packet.VnetLen+len(b)))
		frame.SetRead(copy(frame.Space(), b))
		if frame.Parse() != packet.DropNone || frame.Key.EtherType != packet.EtherTypeIPv4 && frame.Key.EtherType != packet.EtherTypeIPv6 {
			return
		}
		r := packet.Rewrite{NewSrc: true, NewDst: len(ends)%2 == 0}
		if copy(r.Src[:], ends); len(ends) >= 36 {
			copy(r.Dst[:], ends[16:])
			r.SrcPort, r.DstPort = binary.BigEndian.Uint16(ends[32:]), binary.BigEndian.Uint16(ends[34:])
		}
		if frame.Key.EtherType == packet.EtherTypeIPv4 {
			clear(r.Src[4:])
			clear(r.Dst[4:])
		}
		right := frame.VerifyTransport()
		if frame.Flags&packet.FlagICMPError != 0 {
			if q, ok := frame.Quote(); ok {
				frame.RewriteError(&r, &r, &q)
			}
		} else {
			frame.Rewrite(&r)
		}
		if right && !frame.VerifyTransport() {
			t.Fatalf("the checksum was right: %x", frame.Bytes())
		}
		key := frame.Key
		if r := frame.Parse(); r != packet.DropNone || frame.Key != key {
			t.Fatalf("parsed again: %v, key %+v, was %+v", r, frame.Key, key)
		}
	})
}

func BenchmarkRewrite(b *testing.B) {
	r, _ := rewriteOf(before4, after4, true, true)
	r6, _ := rewriteOf(before6, after6, true, true)
	for name, run := range map[string]struct {
		f *packet.Frame
		r *packet.Rewrite
	}{
		"IPv4": {TCP(Size(1400)), &r}, "IPv6": {TCP(from6, to6, Size(1400)), &r6}, "TSO": {TCP(GSO(1400), Size(60000)), &r},
		"SCTP": {SCTP(Size(20)), &r},
	} {
		b.Run(name, func(b *testing.B) {
			if run.f.Parse() != packet.DropNone {
				b.Fatal("not parsed")
			}
			for b.Loop() {
				run.f.Rewrite(run.r)
			}
		})
	}
}
