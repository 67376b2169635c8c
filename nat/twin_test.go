package nat_test

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
	"vswitch/nat"
)

// twin is a table as anybody would write it: a list.
type twin struct {
	table *nat.Table
	pool  *nat.Pool
	now   int64
	conns []*twinConn // in the order in which they were entered, or last changed between established and not
}

type twinConn struct {
	orig, reply   nat.Tuple
	state, before nat.State
	closed        [2]bool
	last          int64
	network       uint32
	port          packet.PortID
	cell          *flow.Cell
	version       uint64
}

const (
	twinConnections = 7
	twinPerNetwork  = 4
)

func (w *twin) timeout(c *twinConn) int64 {
	if c.state == nat.Aborted {
		return 10e9
	}
	switch {
	case c.orig.Proto == udp && c.state == nat.New:
		return 120e9
	case c.orig.Proto == udp:
		return 300e9
	case c.state == nat.Established:
		return 7440e9
	}
	return 240e9
}

func (w *twin) live(c *twinConn) bool { return w.now-c.last < w.timeout(c) }

// find returns the connection with the tuple, expired or not.
func (w *twin) find(q nat.Tuple) (c *twinConn, reply bool) {
	for _, c := range w.conns {
		if c.orig == q || c.reply == q {
			return c, c.orig != q
		}
	}
	return nil, false
}

func (w *twin) drop(c *twinConn) {
	for i := range w.conns {
		if w.conns[i] == c {
			w.conns = append(w.conns[:i], w.conns[i+1:]...)
			return
		}
	}
}

// next is the states' diagram once more, as a list of what leads where.
func (c *twinConn) next(reply bool, s nat.Signal) {
	if c.orig.Proto == udp {
		if reply {
			c.state = nat.Established
		}
		return
	}
	if s == nat.Abort {
		if c.state != nat.Aborted {
			c.before, c.state = c.state, nat.Aborted
		}
		return
	}
	if s == nat.Open && !reply && (c.state == nat.Closing || c.state == nat.Aborted) {
		c.state, c.closed = nat.New, [2]bool{}
		return
	}
	if c.state == nat.Aborted {
		c.state = c.before
	}
	type edge struct {
		from  nat.State
		reply bool
		s     nat.Signal
	}
	if to, ok := map[edge]nat.State{
		{nat.New, true, nat.Open}: nat.Opening, {nat.New, true, nat.Accept}: nat.Opening,
		{nat.New, true, nat.Data}: nat.Established, {nat.New, true, nat.Close}: nat.Established,
		{nat.Opening, false, nat.Data}: nat.Established, {nat.Opening, false, nat.Close}: nat.Established, {nat.Opening, false, nat.Accept}: nat.Established,
		{nat.Opening, true, nat.Data}: nat.Established, {nat.Opening, true, nat.Close}: nat.Established,
	}[edge{c.state, reply, s}]; ok {
		c.state = to
	}
	if s == nat.Close {
		side := 0
		if reply {
			side = 1
		}
		c.closed[side] = true
		if c.closed == [2]bool{true, true} {
			c.state = nat.Closing
		}
	}
}

// meet moves a connection on.
func (w *twin) meet(c *twinConn, reply bool, s nat.Signal) {
	was := c.state
	c.next(reply, s)
	c.last = w.now
	if c.state != was { // to the end of the list
		w.drop(c)
		w.conns = append(w.conns, c)
	}
}

// tuple draws one: of a connection, in the reply direction if that will do, or of the few others that there are.
func (w *twin) tuple(t *rapid.T, reply bool) nat.Tuple {
	if len(w.conns) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
		c := rapid.SampledFrom(w.conns).Draw(t, "connection")
		if reply && rapid.Bool().Draw(t, "reply") {
			return c.reply
		}
		return c.orig
	}
	proto := rapid.SampledFrom([]uint8{tcp, udp}).Draw(t, "proto")
	return tuple(proto, fmt.Sprintf("10.0.0.%d:%d > 1.1.1.%d:80", rapid.IntRange(1, 2).Draw(t, "host"), rapid.IntRange(1, 3).Draw(t, "port"),
		rapid.IntRange(1, 2).Draw(t, "to")))
}

func (w *twin) signal(t *rapid.T, q nat.Tuple) nat.Signal {
	if q.Proto == udp {
		return nat.Data
	}
	return rapid.SampledFrom([]nat.Signal{nat.Data, nat.Open, nat.Accept, nat.Close, nat.Abort}).Draw(t, "signal")
}

// Track compares what Track finds.
func (w *twin) Track(t *rapid.T) {
	q := w.tuple(t, true)
	s := w.signal(t, q)
	got, ok := w.table.Track(&q, s, w.now)
	c, reply := w.find(q)
	if c != nil && !w.live(c) {
		w.drop(c)
		c = nil
	}
	if ok != (c != nil) {
		t.Fatalf("%v: found %v, want %v", &q, ok, c != nil)
	}
	if c != nil {
		w.meet(c, reply, s)
		w.same(t, c, got, reply)
	}
}

// same holds what a frame meets against the twin's connection.
func (w *twin) same(t *rapid.T, c *twinConn, got nat.Conn, reply bool) {
	in, out := c.orig, c.reply
	if reply {
		in, out = out, in
	}
	r := packet.Rewrite{
		Src: out.Dst, SrcPort: out.DstPort, Dst: out.Src, DstPort: out.SrcPort,
		NewSrc: out.Dst != in.Src || out.DstPort != in.SrcPort, NewDst: out.Src != in.Dst || out.SrcPort != in.DstPort,
	}
	if got.State != c.state || got.Reply != reply || got.Rewrite != r {
		t.Fatalf("met %+v, want state %v, reply %v, %+v", got, c.state, reply, r)
	}
	if got.Cell.LastUsed() != w.now || got.Version != got.Cell.Version() {
		t.Fatalf("not touched, or of another version")
	}
	c.cell, c.version = got.Cell, got.Version
}

// Open compares what a new connection becomes, and who had to go for it.
func (w *twin) Open(t *rapid.T) {
	q := w.tuple(t, false)
	r := nat.Request{
		Tuple: q, Signal: w.signal(t, q),
		Network: rapid.Uint32Range(1, 2).Draw(t, "network"), Port: packet.PortID(rapid.IntRange(1, 3).Draw(t, "ingress")),
	}
	if rapid.Bool().Draw(t, "masquerade") {
		r.Pool = w.pool
	}
	if rapid.IntRange(0, 3).Draw(t, "DNAT") == 0 {
		r.DNAT, r.To = true, nat.Endpoint{Addr: addr("10.0.0.9"), Port: 8080}
	}
	counters := w.table.Counters()
	got, drop := w.table.Open(&r, w.now)
	c, reply := w.find(q)
	if c != nil && !w.live(c) {
		w.drop(c)
		c = nil
	}
	w.gone(t, w.table.Counters().Replaced-counters.Replaced)
	switch {
	case c != nil:
		w.meet(c, reply, r.Signal)
		w.same(t, c, got, reply)
	case r.Signal == nat.Accept || r.Signal == nat.Abort:
		if drop != packet.DropConnInvalid {
			t.Fatalf("%v opened by %v", &q, r.Signal)
		}
	case drop == packet.DropNATPorts:
		w.noPort(t, &r)
	case drop == packet.DropConnFull:
		if w.evicts(r.Network) != nil {
			t.Fatal("refused, and there was one to make room")
		}
	case drop != packet.DropNone:
		t.Fatal(drop)
	default:
		w.enter(t, &r, got)
	}
}

// gone forgets n closed connections that are no longer in the table, for their external port was needed.
func (w *twin) gone(t *rapid.T, n uint64) {
	for _, c := range append([]*twinConn(nil), w.conns...) {
		if _, ok := w.table.Peek(&c.orig, 0); ok || n == 0 {
			continue
		}
		if c.state == nat.Closing || c.state == nat.Aborted {
			w.drop(c)
			n--
		}
	}
	if n != 0 {
		t.Fatal("replaced one that was not closed")
	}
}

// noPort checks that each port of the pool is taken towards the destination by a connection that is in use.
func (w *twin) noPort(t *rapid.T, r *nat.Request) {
	reply := r.Tuple.Reverse()
	if r.DNAT {
		reply.Src, reply.SrcPort = r.To.Addr, r.To.Port
	}
	if r.DNAT && r.Pool == nil {
		t.Fatal("DNAT found no port")
	}
	ports := []uint16{reply.DstPort}
	if r.Pool != nil {
		reply.Dst, ports = addr("192.0.2.1"), []uint16{61000, 61001}
	}
	for _, port := range ports {
		reply.DstPort = port
		if c, _ := w.find(reply); c == nil || !w.live(c) {
			t.Fatalf("%v is free", &reply)
		}
	}
}

// evicts returns the connection that makes room for one more of the network, nil when none can.
func (w *twin) evicts(network uint32) *twinConn {
	count := map[uint32]int{}
	for _, c := range w.conns {
		count[c.network]++
	}
	switch {
	case count[network] >= twinPerNetwork:
	case len(w.conns) < twinConnections:
		return &twinConn{} // nobody needs to go
	case count[1] < count[2]:
		network = 2
	default:
		network = 1
	}
	for _, established := range []bool{false, true} {
		ports, most := map[packet.PortID]int{}, 0
		for _, c := range w.conns {
			if c.network == network && (c.state == nat.Established) == established {
				ports[c.port]++
				most = max(most, ports[c.port])
			}
		}
		if most > 0 {
			return w.oldest(network, established, ports, most)
		}
	}
	return nil
}

// oldest returns a connection that may go: of a port that has most, the first of those not established, or any idle enough of the others.
func (w *twin) oldest(network uint32, established bool, ports map[packet.PortID]int, most int) *twinConn {
	for _, c := range w.conns {
		if c.network != network || (c.state == nat.Established) != established || ports[c.port] != most {
			continue
		}
		if !established || w.now-c.last >= int64(nat.Spared) {
			return c
		}
	}
	return nil
}

// enter adds the new connection, and checks who went.
func (w *twin) enter(t *rapid.T, r *nat.Request, got nat.Conn) {
	for _, c := range append([]*twinConn(nil), w.conns...) {
		if w.there(c) {
			continue
		}
		if v := c.cell; v != nil && v.Version() == c.version {
			t.Fatal("decisions lean on a connection that is no more")
		}
		if w.live(c) && !w.mayGo(c, r.Network) {
			t.Fatalf("%v went for another one", &c.orig)
		}
		w.drop(c)
	}
	rw := got.Rewrite
	reply := nat.Tuple{Src: rw.Dst, SrcPort: rw.DstPort, Dst: rw.Src, DstPort: rw.SrcPort, Zone: 1, Proto: r.Tuple.Proto, Family: 4}
	if c, _ := w.find(reply); c != nil {
		t.Fatalf("two connections with the tuple %v", &reply)
	}
	if r.DNAT != rw.NewDst || r.DNAT && (rw.Dst != r.To.Addr || rw.DstPort != r.To.Port) {
		t.Fatalf("DNAT: %+v", rw)
	}
	if r.Pool == nil && rw.NewSrc && (!r.DNAT || rw.Src != r.Tuple.Src) { // DNAT moves a port when the client has its tuple already
		t.Fatalf("source: %+v", rw)
	}
	if masq := r.Pool != nil; masq && !rw.NewSrc || masq && (rw.Src != addr("192.0.2.1") || rw.SrcPort != 61000 && rw.SrcPort != 61001) {
		t.Fatalf("masquerade: %+v", rw)
	}
	c := &twinConn{orig: r.Tuple, reply: reply, state: nat.New, last: w.now, network: r.Network, port: r.Port}
	w.conns = append(w.conns, c)
	w.meet(c, false, r.Signal)
	w.same(t, c, got, false)
}

// there tells whether the table has the connection.
func (w *twin) there(c *twinConn) (found bool) {
	w.table.List(&nat.Filter{Proto: c.orig.Proto}, 0, func(e *nat.Entry) bool {
		found = e.Orig == c.orig && e.Reply == c.reply
		return !found
	})
	return found
}

// mayGo tells whether the connection is one that evicts could name; ports with as many are equal, and so are networks.
func (w *twin) mayGo(c *twinConn, network uint32) bool {
	count := map[uint32]int{}
	fresh := map[uint32]int{}
	ports := map[string]int{}
	key := func(c *twinConn) string { return fmt.Sprint(c.network, c.port, c.state == nat.Established) }
	most := map[string]int{}
	for _, c := range w.conns {
		count[c.network]++
		ports[key(c)]++
		kind := fmt.Sprint(c.network, c.state == nat.Established)
		most[kind] = max(most[kind], ports[key(c)])
		if c.state != nat.Established {
			fresh[c.network]++
		}
	}
	full := count[network] >= twinPerNetwork
	switch {
	case full && c.network != network,
		!full && len(w.conns) < twinConnections,
		!full && count[c.network] < max(count[1], count[2]),
		ports[key(c)] < most[fmt.Sprint(c.network, c.state == nat.Established)]:
		return false
	case c.state == nat.Established:
		return fresh[c.network] == 0 && w.now-c.last >= int64(nat.Spared)
	}
	for _, o := range w.conns { // the oldest of its port
		if key(o) == key(c) {
			return o == c
		}
	}
	return false
}

// Wait lets time pass.
func (w *twin) Wait(t *rapid.T) {
	w.now += rapid.SampledFrom([]int64{1e9, 10e9, 61e9, 121e9, 300e9, 8000e9}).Draw(t, "nanoseconds")
}

// Sweep frees all that has expired.
func (w *twin) Sweep(*rapid.T) {
	w.table.Sweep(1000, w.now)
	for _, c := range append([]*twinConn(nil), w.conns...) {
		if !w.live(c) {
			w.drop(c)
		}
	}
}

// Remove ends what a port has.
func (w *twin) Remove(t *rapid.T) {
	port := packet.PortID(rapid.IntRange(1, 3).Draw(t, "port"))
	n := 0
	for _, c := range append([]*twinConn(nil), w.conns...) {
		if c.port == port {
			w.drop(c)
			n++
		}
	}
	if got := w.table.RemovePort(port); got != n {
		t.Fatalf("%d removed, want %d", got, n)
	}
}

// Check compares all.
func (w *twin) Check(t *rapid.T) {
	if w.table.Len() != len(w.conns) || len(w.conns) > twinConnections {
		t.Fatalf("%d connections, want %d", w.table.Len(), len(w.conns))
	}
	n := 0
	w.table.List(&nat.Filter{}, w.now, func(e *nat.Entry) bool {
		n++
		c, reply := w.find(e.Orig)
		if c == nil || reply || !w.live(c) || c.reply != e.Reply || c.state != e.State || c.network != e.Network || c.port != e.Port ||
			int64(e.Idle) != w.now-c.last || int64(e.Expires) != w.timeout(c)-w.now+c.last {
			t.Fatalf("listed %+v, want %+v", e, c)
		}
		return true
	})
	for _, c := range w.conns {
		if w.live(c) {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("%d too many are listed", n)
	}
}

// TestTwin: whatever comes, the table does what a list does.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{table: nat.NewTable(nat.Limits{Connections: twinConnections, PerNetwork: twinPerNetwork}, nat.Timeouts{}), now: sec(0)}
		w.pool, _ = w.table.NewPool(netip.MustParseAddr("192.0.2.1"), 61000, 61001)
		t.Repeat(map[string]func(*rapid.T){
			"": w.Check, "Track": w.Track, "Open": w.Open, "Open 2": w.Open, "Wait": w.Wait, "Sweep": w.Sweep, "Remove": w.Remove,
		})
	})
}
