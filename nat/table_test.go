package nat_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/packet"
	"vswitch/nat"
)

const (
	tcp  = packet.ProtoTCP
	udp  = packet.ProtoUDP
	icmp = packet.ProtoICMP
	sctp = packet.ProtoSCTP
)

// sec makes times of the tests, which begin long after 0.
func sec(n float64) int64 { return int64((1000 + n) * 1e9) }

func addr(s string) (b [16]byte) {
	copy(b[:], netip.MustParseAddr(s).AsSlice())
	return b
}

// tuple makes one from "10.0.0.1:1 > 10.0.0.2:2".
func tuple(proto uint8, s string) nat.Tuple {
	var a, b string
	if _, err := fmt.Sscanf(s, "%s > %s", &a, &b); err != nil {
		panic(err)
	}
	src, dst := netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)
	q := nat.Tuple{
		Src: addr(src.Addr().String()), Dst: addr(dst.Addr().String()), SrcPort: src.Port(), DstPort: dst.Port(), Zone: 1, Proto: proto, Family: 4,
	}
	if src.Addr().Is6() {
		q.Family = 6
	}
	return q
}

func newTable() *nat.Table { return nat.NewTable(nat.Limits{}, nat.Timeouts{}) }

func pool(t testing.TB, table *nat.Table, a string, low, high uint16) *nat.Pool {
	t.Helper()
	p, err := table.NewPool(netip.MustParseAddr(a), low, high)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens a connection of network 1 and port 1.
func open(t testing.TB, table *nat.Table, r nat.Request, now int64) nat.Conn {
	t.Helper()
	r.Network, r.Port = 1, 1
	c, drop := table.Open(&r, now)
	if drop != packet.DropNone {
		t.Fatalf("%v: %v", &r.Tuple, drop)
	}
	return c
}

func track(t testing.TB, table *nat.Table, q nat.Tuple, s nat.Signal, now int64) nat.Conn {
	t.Helper()
	c, ok := table.Track(&q, s, now)
	if !ok {
		t.Fatalf("%v: no connection", &q)
	}
	return c
}

// TestStates walks connections through their states. A step is a signal, in the reply direction when it begins with <.
func TestStates(t *testing.T) {
	signals := map[string]nat.Signal{"data": nat.Data, "open": nat.Open, "accept": nat.Accept, "close": nat.Close, "abort": nat.Abort}
	type step struct {
		signal string
		want   nat.State
	}
	for name, c := range map[string]struct {
		proto uint8
		first string
		state nat.State
		steps []step
	}{
		"handshake, both close": {tcp, "open", nat.New, []step{
			{"<accept", nat.Opening}, {"data", nat.Established}, {"<data", nat.Established}, {"close", nat.Established}, {"<data", nat.Established},
			{"<close", nat.Closing}, {"data", nat.Closing}}},
		"repeated SYN": {tcp, "open", nat.New, []step{{"open", nat.New}, {"<accept", nat.Opening}, {"open", nat.Opening}, {"<accept", nat.Opening},
			{"data", nat.Established}, {"open", nat.Established}}},
		"simultaneous open":        {tcp, "open", nat.New, []step{{"<open", nat.Opening}, {"accept", nat.Established}}},
		"refused":                  {tcp, "open", nat.New, []step{{"<abort", nat.Aborted}, {"open", nat.New}, {"<accept", nat.Opening}}},
		"forged reset":             {tcp, "open", nat.New, []step{{"<accept", nat.Opening}, {"data", nat.Established}, {"<abort", nat.Aborted}, {"<abort", nat.Aborted}, {"<data", nat.Established}}},
		"taken up midway":          {tcp, "data", nat.New, []step{{"data", nat.New}, {"<data", nat.Established}}},
		"reopened":                 {tcp, "open", nat.New, []step{{"<accept", nat.Opening}, {"close", nat.Established}, {"<close", nat.Closing}, {"open", nat.New}, {"<accept", nat.Opening}, {"data", nat.Established}, {"<close", nat.Established}}},
		"not reopened from beyond": {tcp, "open", nat.New, []step{{"<accept", nat.Opening}, {"close", nat.Established}, {"<close", nat.Closing}, {"<open", nat.Closing}}},
		"SCTP":                     {sctp, "open", nat.New, []step{{"<accept", nat.Opening}, {"data", nat.Established}, {"close", nat.Established}, {"<close", nat.Closing}}},
		"UDP":                      {udp, "data", nat.New, []step{{"data", nat.New}, {"<data", nat.Established}, {"data", nat.Established}}},
		"echo":                     {icmp, "data", nat.New, []step{{"<accept", nat.Established}}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable()
			q := tuple(c.proto, "10.0.0.1:1 > 1.1.1.1:80")
			now := sec(0)
			conn := open(t, table, nat.Request{Tuple: q, Signal: signals[c.first]}, now)
			if conn.State != c.state {
				t.Fatalf("opened as %v", conn.State)
			}
			for i, s := range c.steps {
				way, signal := q, s.signal
				if signal[0] == '<' {
					way, signal = q.Reverse(), signal[1:]
				}
				now += 1e9
				if got := track(t, table, way, signals[signal], now); got.State != s.want || got.Reply != (way == q.Reverse()) {
					t.Fatalf("step %d, %s: %v, want %v", i, s.signal, got.State, s.want)
				}
			}
		})
	}
}

// TestCacheable: no decision is cached that would let a frame pass which the state depends on.
func TestCacheable(t *testing.T) {
	table := newTable()
	q := tuple(tcp, "10.0.0.1:1 > 1.1.1.1:80")
	c := open(t, table, nat.Request{Tuple: q, Signal: nat.Open}, sec(0))
	if c.Cacheable {
		t.Error("SYN: cacheable, so that the ACK would not be seen")
	}
	if track(t, table, q.Reverse(), nat.Accept, sec(0)).Cacheable {
		t.Error("SYN ACK: cacheable")
	}
	if c = track(t, table, q, nat.Data, sec(0)); !c.Cacheable || c.Version != c.Cell.Version() {
		t.Error("established: not cacheable")
	}
	if track(t, table, q, nat.Abort, sec(1)); c.Version == c.Cell.Version() {
		t.Error("RST: decisions made before still hold, so that nothing restores the connection")
	}
	if c = track(t, table, q, nat.Data, sec(2)); !c.Cacheable {
		t.Error("restored: not cacheable")
	}
	track(t, table, q, nat.Close, sec(3))
	if c = track(t, table, q.Reverse(), nat.Close, sec(3)); !c.Cacheable {
		t.Error("closing: not cacheable")
	}
	if n := track(t, table, q, nat.Open, sec(4)); n.Cacheable || c.Version == c.Cell.Version() {
		t.Error("reopened: decisions of before hold")
	}
	u := open(t, table, nat.Request{Tuple: tuple(udp, "10.0.0.1:1 > 1.1.1.1:53")}, sec(0))
	if !u.Cacheable {
		t.Error("UDP: not cacheable")
	}
}

// TestTimeouts: each state's default, to the nanosecond, and that use counts.
func TestTimeouts(t *testing.T) {
	establish := func(t *testing.T, table *nat.Table, q nat.Tuple, now int64) {
		track(t, table, q.Reverse(), nat.Accept, now)
		track(t, table, q, nat.Data, now)
	}
	closed := func(t *testing.T, table *nat.Table, q nat.Tuple, now int64) {
		establish(t, table, q, now)
		track(t, table, q, nat.Close, now)
		track(t, table, q.Reverse(), nat.Close, now)
	}
	reply := func(t *testing.T, table *nat.Table, q nat.Tuple, now int64) {
		track(t, table, q.Reverse(), nat.Data, now)
	}
	abort := func(t *testing.T, table *nat.Table, q nat.Tuple, now int64) {
		establish(t, table, q, now)
		track(t, table, q.Reverse(), nat.Abort, now)
	}
	for name, c := range map[string]struct {
		proto  uint8
		signal nat.Signal
		then   func(*testing.T, *nat.Table, nat.Tuple, int64)
		want   time.Duration
	}{
		"TCP SYN":          {tcp, nat.Open, nil, 240 * time.Second},
		"TCP established":  {tcp, nat.Open, establish, 124 * time.Minute},
		"TCP closing":      {tcp, nat.Open, closed, 240 * time.Second},
		"TCP reset":        {tcp, nat.Open, abort, 10 * time.Second},
		"UDP":              {udp, nat.Data, nil, 120 * time.Second},
		"UDP answered":     {udp, nat.Data, reply, 300 * time.Second},
		"ICMP":             {icmp, nat.Data, nil, 60 * time.Second},
		"SCTP INIT":        {sctp, nat.Open, nil, 60 * time.Second},
		"SCTP established": {sctp, nat.Open, establish, 300 * time.Second},
		"SCTP closing":     {sctp, nat.Open, closed, 30 * time.Second},
		"GRE":              {47, nat.Data, reply, 600 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			q := tuple(c.proto, "10.0.0.1:1 > 1.1.1.1:80")
			table := newTable()
			conn := open(t, table, nat.Request{Tuple: q, Signal: c.signal}, sec(0))
			if c.then != nil {
				c.then(t, table, q, sec(0))
			}
			version := conn.Cell.Version()
			conn.Cell.Touch(sec(5)) // by a cached flow
			end := sec(5) + int64(c.want)
			if table.Sweep(1000, end-1); table.Len() != 1 {
				t.Fatal("swept too early")
			}
			if _, ok := table.Peek(&q, end-1); !ok {
				t.Fatal("expired too early")
			}
			if _, ok := table.Peek(&q, end); ok {
				t.Fatal("not expired")
			}
			if table.Sweep(1000, end); table.Len() != 0 || conn.Cell.Version() == version {
				t.Fatal("not swept, or decisions still lean on it")
			}
			if _, ok := table.Track(&q, nat.Data, end); ok {
				t.Fatal("found after it was swept")
			}
		})
	}
}

func TestTimeoutsAreSettable(t *testing.T) {
	table := nat.NewTable(nat.Limits{}, nat.Timeouts{UDPNew: 3 * time.Second})
	q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
	open(t, table, nat.Request{Tuple: q}, sec(0))
	if _, ok := table.Peek(&q, sec(2.9)); !ok {
		t.Error("expired early")
	}
	if _, ok := table.Track(&q, nat.Data, sec(3)); ok {
		t.Error("not expired")
	}
}

// TestTimeoutsByName: each timeout has a name, by which it is set and told.
func TestTimeoutsByName(t *testing.T) {
	const defaults = "tcp=7440s,tcp-opening=240s,tcp-closing=240s,udp=300s,udp-new=120s,icmp=60s,sctp=300s,sctp-opening=60s,sctp-closing=30s,other=600s,aborted=10s"
	var o nat.Timeouts
	if o.String() != defaults {
		t.Errorf("%v", o)
	}
	var want []string
	for i, name := range strings.Split(defaults, ",") {
		name, _, _ = strings.Cut(name, "=")
		if err := o.Set(name, time.Duration(i+2)*time.Second); err != nil {
			t.Error(err)
		}
		want = append(want, fmt.Sprintf("%s=%ds", name, i+2))
	}
	if o.String() != strings.Join(want, ",") || nat.NewTable(nat.Limits{}, o).Timeouts() != o {
		t.Errorf("%v, want %v", o, want)
	}
	for name, d := range map[string]time.Duration{"tcp": time.Second, "udp": 31 * 24 * time.Hour, "icmp": -1, "UDP": time.Minute, "": time.Minute} {
		if err := o.Set(name, d); err == nil {
			t.Errorf("%q=%v is taken", name, d)
		}
	}
}

// TestOpenRefuses: what opens nothing.
func TestOpenRefuses(t *testing.T) {
	for name, r := range map[string]nat.Request{
		"SYN ACK":      {Tuple: tuple(tcp, "10.0.0.1:1 > 1.1.1.1:80"), Signal: nat.Accept},
		"RST":          {Tuple: tuple(tcp, "10.0.0.1:1 > 1.1.1.1:80"), Signal: nat.Abort},
		"LAND":         {Tuple: tuple(tcp, "10.0.0.1:80 > 10.0.0.1:80"), Signal: nat.Open},
		"echo reply":   {Tuple: tuple(icmp, "10.0.0.1:0 > 1.1.1.1:7"), Signal: nat.Accept},
		"LAND by DNAT": {Tuple: tuple(tcp, "10.0.0.1:80 > 9.9.9.9:80"), Signal: nat.Open, DNAT: true, To: nat.Endpoint{Addr: addr("10.0.0.1"), Port: 80}},
	} {
		table := newTable()
		r.Network = 1
		_, drop := table.Open(&r, sec(0))
		if drop != packet.DropConnInvalid || table.Len() != 0 {
			t.Errorf("%s: %v, %d connections", name, drop, table.Len())
		}
	}
}

// TestOpenTwice: two workers see the same first frame.
func TestOpenTwice(t *testing.T) {
	table := newTable()
	p := pool(t, table, "192.0.2.1", 61000, 61009)
	r := nat.Request{Tuple: tuple(udp, "10.0.0.1:1 > 1.1.1.1:80"), Pool: p}
	a, b := open(t, table, r, sec(0)), open(t, table, r, sec(0))
	if a != b || table.Len() != 1 || table.Counters().Opened != 1 {
		t.Errorf("%+v and %+v", a, b)
	}
}

// TestOneClientTwoAddresses: a client may connect from one port to a published port by two of our addresses; the container sees two ports.
func TestOneClientTwoAddresses(t *testing.T) {
	table := newTable()
	to := nat.Endpoint{Addr: addr("10.0.0.9"), Port: 80}
	a := open(t, table, nat.Request{Tuple: tuple(tcp, "1.1.1.1:5000 > 192.0.2.1:8080"), Signal: nat.Open, DNAT: true, To: to}, sec(0))
	b := open(t, table, nat.Request{Tuple: tuple(tcp, "1.1.1.1:5000 > 192.0.2.2:8080"), Signal: nat.Open, DNAT: true, To: to}, sec(0))
	if a.Rewrite.NewSrc || !b.Rewrite.NewSrc || b.Rewrite.Src != addr("1.1.1.1") || b.Rewrite.SrcPort < 1024 || b.Rewrite.SrcPort == 5000 {
		t.Fatalf("%+v and %+v", a.Rewrite, b.Rewrite)
	}
	answer := tuple(tcp, "10.0.0.9:80 > 1.1.1.1:5000")
	answer.DstPort = b.Rewrite.SrcPort
	if c := track(t, table, answer, nat.Accept, sec(0)).Rewrite; c.DstPort != 5000 || c.Src != addr("192.0.2.2") || c.SrcPort != 8080 {
		t.Errorf("answer: %+v", c)
	}
}

// TestPublishedAndDirect: a client may connect from one port to a published port and to the container itself; the container sees two ports. A
// segment of a connection under way can't get another port.
func TestPublishedAndDirect(t *testing.T) {
	for _, proto := range []uint8{udp, tcp} {
		table := newTable()
		to := nat.Endpoint{Addr: addr("10.0.0.9"), Port: 80}
		open(t, table, nat.Request{Tuple: tuple(proto, "1.1.1.1:5000 > 192.0.2.1:8080"), Signal: nat.Open, DNAT: true, To: to}, sec(0))
		direct := nat.Request{Tuple: tuple(proto, "1.1.1.1:5000 > 10.0.0.9:80"), Network: 1, Port: 1}
		if _, drop := table.Open(&direct, sec(0)); proto == tcp && drop != packet.DropNATPorts {
			t.Errorf("under way: %v", drop)
		}
		direct.Signal = nat.Open
		c := open(t, table, direct, sec(0)).Rewrite
		if !c.NewSrc || c.Src != addr("1.1.1.1") || c.SrcPort == 5000 || c.NewDst {
			t.Fatalf("%+v", c)
		}
		answer := tuple(proto, "10.0.0.9:80 > 1.1.1.1:5000")
		answer.DstPort = c.SrcPort
		if c := track(t, table, answer, nat.Accept, sec(0)).Rewrite; c.DstPort != 5000 || c.NewSrc {
			t.Errorf("answer: %+v", c)
		}
	}
}

// TestZones: routers don't see each other's connections.
func TestZones(t *testing.T) {
	table := newTable()
	q := tuple(udp, "10.0.0.1:1 > 1.1.1.1:80")
	open(t, table, nat.Request{Tuple: q}, sec(0))
	q.Zone = 2
	if _, ok := table.Track(&q, nat.Data, sec(0)); ok {
		t.Error("found in another zone")
	}
	open(t, table, nat.Request{Tuple: q}, sec(0))
	if n := table.Remove(&nat.Filter{Zone: 2}); n != 1 || table.Len() != 1 {
		t.Errorf("%d removed, %d left", n, table.Len())
	}
}
