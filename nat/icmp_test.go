package nat_test

import (
	"bytes"
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/nat"
)

func parsed(t testing.TB, f *packet.Frame) *packet.Frame {
	t.Helper()
	if r := f.Parse(); r != packet.DropNone {
		t.Fatal(r)
	}
	return f
}

func from(ip string, port uint16) Option { return From("02:00:00:00:00:01", ip, port) }
func to(ip string, port uint16) Option   { return To("02:00:00:00:00:02", ip, port) }

// through tracks a frame, or opens a connection for it, and rewrites it.
func through(t testing.TB, table *nat.Table, f *packet.Frame, r nat.Request) nat.Conn {
	t.Helper()
	q, s, ok := nat.Of(parsed(t, f), 1)
	if !ok {
		t.Fatal("no tuple")
	}
	c, ok := table.Track(&q, s, sec(0))
	if !ok {
		r.Tuple, r.Signal = q, s
		c = open(t, table, r, sec(0))
	}
	f.Rewrite(&c.Rewrite)
	return c
}

// TestError: an error about what was translated comes back to who sent it, and quotes what that sent.
func TestError(t *testing.T) {
	for name, c := range map[string]struct {
		build                   func(...Option) *packet.Frame
		kind                    uint8
		inside, outside, router string
		external                string
	}{
		"TCP":    {TCP, 3, "10.0.0.1", "1.1.1.1", "9.9.9.9", "192.0.2.1"},
		"UDP":    {UDP, 11, "10.0.0.1", "1.1.1.1", "9.9.9.9", "192.0.2.1"},
		"echo":   {ICMPEcho, 11, "10.0.0.1", "1.1.1.1", "9.9.9.9", "192.0.2.1"},
		"UDP 6":  {UDP, 1, "fd00::1", "2606::1", "2606::9", "2001:db8::1"},
		"TCP 6":  {TCP, 2, "fd00::1", "2606::1", "2606::9", "2001:db8::1"},
		"echo 6": {ICMPEcho, 3, "fd00::1", "2606::1", "2606::9", "2001:db8::1"},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable()
			p := pool(t, table, c.external, 61000, 61009)
			sent := parsed(t, c.build(from(c.inside, 4000), to(c.outside, 80), Echo(77, 1)))
			original := bytes.Clone(sent.Bytes()[14:])
			conn := through(t, table, sent, nat.Request{Pool: p})
			used, version := conn.Cell.LastUsed(), conn.Cell.Version()
			e := parsed(t, ICMP(c.kind, from(c.router, 0), to(c.external, 0), Payload(sent.Bytes()[14:])))
			got, drop := table.Error(e, 1, sec(5))
			if drop != packet.DropNone || !got.Reply || !got.Translated() {
				t.Fatalf("%v, %+v", drop, got)
			}
			e.RewriteError(&got.Outer, &got.Quoted, &got.Quote)
			want := parsed(t, ICMP(c.kind, from(c.router, 0), to(c.inside, 0), Payload(original)))
			if !bytes.Equal(e.Bytes(), want.Bytes()) {
				t.Errorf("\ngot  %x\nwant %x", e.Bytes(), want.Bytes())
			}
			if conn.Cell.LastUsed() != used || conn.Cell.Version() != version || table.Len() != 1 {
				t.Error("the error did something to the connection")
			}
		})
	}
}

// TestErrorFromInside: who publishes a port answers with an error: nobody sees its address, nor that of a router before it.
func TestErrorFromInside(t *testing.T) {
	for name, sender := range map[string]string{"container": "10.0.0.1", "router": "10.0.0.254"} {
		table := newTable()
		sent := parsed(t, UDP(from("1.1.1.1", 4000), to("192.0.2.1", 8080)))
		original := bytes.Clone(sent.Bytes()[14:])
		through(t, table, sent, nat.Request{DNAT: true, To: nat.Endpoint{Addr: addr("10.0.0.1"), Port: 80}})
		e := parsed(t, ICMP(3, from(sender, 0), to("1.1.1.1", 0), Payload(sent.Bytes()[14:])))
		got, drop := table.Error(e, 1, sec(0))
		if drop != packet.DropNone {
			t.Fatal(drop)
		}
		e.RewriteError(&got.Outer, &got.Quoted, &got.Quote)
		want := parsed(t, ICMP(3, from("192.0.2.1", 0), to("1.1.1.1", 0), Payload(original)))
		if !bytes.Equal(e.Bytes(), want.Bytes()) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, e.Bytes(), want.Bytes())
		}
	}
}

// TestErrorRefuses: forged and truncated errors.
func TestErrorRefuses(t *testing.T) {
	for _, x := range []struct {
		in, out, far, other, router string
		kind                        uint8
		header                      int // of IP
	}{
		{"10.0.0.1", "192.0.2.1", "1.1.1.1", "192.0.2.2", "9.9.9.9", 3, 20},
		{"fd00::1", "2001:db8::1", "2001:db8:1::1", "2001:db8::2", "2001:db8:9::9", 1, 40},
	} {
		table := newTable()
		sent := parsed(t, TCP(from(x.in, 4000), to(x.far, 80), Flags(packet.TCPSyn)))
		through(t, table, sent, nat.Request{Pool: pool(t, table, x.out, 61000, 61009)})
		right := sent.Bytes()[14:]
		about := func(o ...Option) []byte { return parsed(t, TCP(o...)).Bytes()[14:] }
		e := func(dst string, quote []byte) *packet.Frame {
			return ICMP(x.kind, from(x.router, 0), to(dst, 0), Payload(quote))
		}
		for name, c := range map[string]struct {
			e    *packet.Frame
			want packet.DropReason
		}{
			"the right one":           {e(x.out, right), packet.DropNone},
			"to somebody else":        {e(x.other, right), packet.DropConnInvalid},
			"about somebody else's":   {e(x.out, about(from(x.out, sent.Key.SrcPort), to(x.far, 81))), packet.DropConnInvalid},
			"cut off":                 {e(x.out, right[:x.header+7]), packet.DropBadICMP},
			"about nothing":           {e(x.out, nil), packet.DropBadICMP},
			"about an error":          {e(x.out, ICMP(x.kind, from(x.out, 0), to(x.far, 0), Payload(right)).Bytes()[14:]), packet.DropConnInvalid},
			"about what we have sent": {e(x.in, about(from(x.in, 4000), to(x.far, 80))), packet.DropConnInvalid},
		} {
			if _, drop := table.Error(parsed(t, c.e), 1, sec(0)); drop != c.want {
				t.Errorf("%s of %s: %v, want %v", name, x.router, drop, c.want)
			}
		}
		if _, drop := table.Error(parsed(t, e(x.out, right)), 1, sec(240)); drop != packet.DropConnInvalid {
			t.Errorf("of a connection that has expired: %v", drop)
		}
		if _, drop := table.Error(parsed(t, e(x.out, right)), 2, sec(0)); drop != packet.DropConnInvalid {
			t.Errorf("in another zone: %v", drop)
		}
	}
}

// TestOf: what frames tell.
func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		f    *packet.Frame
		want nat.Signal
		ok   bool
	}{
		"SYN":          {TCP(Flags(packet.TCPSyn)), nat.Open, true},
		"SYN ECN":      {TCP(Flags(packet.TCPSyn | packet.TCPEce | packet.TCPCwr)), nat.Open, true},
		"SYN ACK":      {TCP(Flags(packet.TCPSyn | packet.TCPAck)), nat.Accept, true},
		"ACK":          {TCP(), nat.Data, true},
		"FIN":          {TCP(Flags(packet.TCPFin | packet.TCPAck)), nat.Close, true},
		"RST":          {TCP(Flags(packet.TCPRst)), nat.Abort, true},
		"SYN RST":      {TCP(Flags(packet.TCPRst | packet.TCPSyn)), nat.Abort, true},
		"UDP":          {UDP(), nat.Data, true},
		"echo":         {ICMPEcho(), nat.Data, true},
		"echo reply":   {ICMPEchoReply(), nat.Accept, true},
		"timestamp":    {ICMP(13), nat.Data, false},
		"fragment":     {UDP(Fragment(0, true), Size(64)), nat.Data, false},
		"GRE":          {IP(47, Size(8)), nat.Data, true},
		"ARP":          {ARPRequest(), nat.Data, false},
		"INIT":         {IP(sctp, Payload("abcdefghijkl\x01")), nat.Open, true},
		"INIT ACK":     {IP(sctp, Payload("abcdefghijkl\x02")), nat.Accept, true},
		"ABORT":        {IP(sctp, Payload("abcdefghijkl\x06")), nat.Abort, true},
		"SHUTDOWN":     {IP(sctp, Payload("abcdefghijkl\x07")), nat.Close, true},
		"SHUTDOWN ACK": {IP(sctp, Payload("abcdefghijkl\x08")), nat.Close, true},
		"DATA":         {IP(sctp, Payload("abcdefghijkl\x00")), nat.Data, true},
		"short SCTP":   {IP(sctp, Payload("abc")), nat.Data, false},
	} {
		if _, s, ok := nat.Of(parsed(t, c.f), 1); ok != c.ok || ok && s != c.want {
			t.Errorf("%s: %v %v, want %v %v", name, s, ok, c.want, c.ok)
		}
	}
}
