package vswitch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestDatagramsCounted sends numbered datagrams as fast as they are taken from a masqueraded container to a server outside, back, and through a
// published port, IPv4 and IPv6. Each arrives once, whole, and no kernel counts a wrong checksum. VSWITCH_DATAGRAMS says how many go each
// way; 'make datagrams' sends a million.
func TestDatagramsCounted(t *testing.T) {
	t.Parallel()
	count := number(t, "VSWITCH_DATAGRAMS", 125000) // a million in all
	n := newInternet(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80/udp")
	for i, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		inner, outer, published := n.c.UDP(":0"), n.server.UDP(net.JoinHostPort(addr, "0")), n.c.UDP(":80")
		server, at := netip.MustParseAddrPort(outer.LocalAddr().String()), netip.AddrPortFrom(netip.MustParseAddr(hostAddrs[i]), 8080)
		var seen netip.AddrPort
		for _, way := range []struct {
			what   string
			tx, rx *net.UDPConn
			to     func() netip.AddrPort
		}{
			{"out", inner, outer, func() netip.AddrPort { return server }},
			{"back", outer, inner, func() netip.AddrPort { return seen }},
			{"in by a published port", outer, published, func() netip.AddrPort { return at }},
			{"out by a published port", published, outer, func() netip.AddrPort { return server }},
		} {
			start := time.Now()
			from, err := counted(way.tx, way.rx, way.to(), count)
			if err != nil {
				t.Errorf("%s by %s: %v\n%s", way.what, addr, err, n.d.Must("drops"))
			}
			if way.what == "out" {
				seen = from
			}
			t.Logf("%d datagrams %s by %s: %.0f a second", count, way.what, addr, float64(count)/time.Since(start).Seconds())
		}
		published.Close()
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
	n.expectUntouched(t)
	n.expectUntracked(t)
}

// counted sends datagrams of 64 bytes and expects each once; it returns from where they came. Never more are under way than all queues hold.
func counted(tx, rx *net.UDPConn, to netip.AddrPort, count int) (from netip.AddrPort, err error) {
	const size, batch, window = 64, 32, 512
	if err := netnstest.Segment(tx, size); err != nil {
		return from, err
	}
	var got atomic.Int64
	sent := make(chan error, 1)
	go func() {
		b := make([]byte, batch*size)
		for i := 0; i < count; i += batch {
			k := min(batch, count-i)
			for j := range k {
				mark(b[j*size:], uint64(i+j))
			}
			for deadline := time.Now().Add(netnstest.Patience / 4); i-int(got.Load()) > window; time.Sleep(10 * time.Microsecond) {
				if time.Now().After(deadline) {
					sent <- fmt.Errorf("%d of %d are missing", i-int(got.Load()), i)
					return
				}
			}
			if _, err := tx.WriteToUDPAddrPort(b[:k*size], to); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	seen, b, want := make([]bool, count), make([]byte, 2048), make([]byte, size)
	for int(got.Load()) < count {
		if err := rx.SetReadDeadline(time.Now().Add(netnstest.Patience / 2)); err != nil {
			return from, err
		}
		k, by, err := rx.ReadFromUDPAddrPort(b)
		if err != nil {
			return from, errors.Join(err, <-sent)
		}
		i := binary.BigEndian.Uint64(b)
		if mark(want, i); k != size || string(b[:k]) != string(want) || i >= uint64(count) {
			return from, fmt.Errorf("%d bytes % x", k, b[:k])
		}
		if seen[i] {
			return from, fmt.Errorf("number %d came twice", i)
		}
		seen[i] = true
		from = netip.AddrPortFrom(by.Addr().Unmap(), by.Port())
		got.Add(1)
	}
	return from, <-sent
}

// mark makes 64 bytes of a number and what follows from it.
func mark(b []byte, n uint64) {
	for i := 0; i < 64; i += 8 {
		binary.BigEndian.PutUint64(b[i:], n+uint64(i)*0x9e3779b97f4a7c15)
	}
}
