package vswitch_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestBadPath: behind the uplink frames are lost, doubled, late and out of order. TCP arrives whole through masquerade and published
// port; of datagrams exactly those that the path lost are missing, and exactly those that it doubled come twice; fragments out of order
// are put together by the kernels at both ends. No kernel counts a wrong checksum.
func TestBadPath(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	second, cable := n.second(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80", "--", "publish", "c", "8080:80/udp")
	for i, addr := range secondAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		cable.Set(netnstest.Faults{Loss: 101, Twice: 29, Late: 13})
		if err := netnstest.Stream(n.c, second, addr, 2<<20); err != nil {
			t.Errorf("TCP to %s: %v", addr, err)
		}
		if err := netnstest.StreamVia(second, n.c, ":80", net.JoinHostPort(hostAddrs[i], "8080"), 2<<20); err != nil {
			t.Errorf("TCP to the port published at %s: %v", hostAddrs[i], err)
		}
		n.settle(t, cable, second)

		inner, outer := n.c.UDP(":0"), second.UDP(net.JoinHostPort(addr, "0"))
		back := datagramsThrough(t, n, cable, inner, outer, netip.MustParseAddrPort(outer.LocalAddr().String()), false)
		datagramsThrough(t, n, cable, outer, inner, back, true)
		published, client := n.c.UDP(":80"), second.UDP(net.JoinHostPort(addr, "0"))
		back = datagramsThrough(t, n, cable, client, published, netip.AddrPortFrom(netip.MustParseAddr(hostAddrs[i]), 8080), true)
		datagramsThrough(t, n, cable, published, client, back, false)
		published.Close()

		cable.Set(netnstest.Faults{Late: 2})
		for _, size := range []int{2000, 4000, 20000} {
			for range 10 {
				if err := echoed(n.c, second, addr, size, netnstest.Patience/4); err != nil {
					t.Errorf("fragments of %d bytes by %s: %v\n%s", size, addr, err, n.d.Must("drops"))
				}
			}
		}
	}
	for _, reason := range []string{"frag_overlap", "frag_bad", "frag_limit", "nat_filtered", "conn_limit", "egress_full"} {
		if k := dropped(n.d, "c", reason) + dropped(n.d, "uplink:auto", reason); k != 0 {
			t.Errorf("%d dropped as %s", k, reason)
		}
	}
	netnstest.ExpectNoErrors(n.c, second, n.host, n.isp)
	n.expectUntouched(t)
}

// settle waits until nothing comes by the cable any more: connections that ended may have something to send yet, until both kernels know that
// they have.
func (n *internet) settle(t *testing.T, cable *netnstest.BadCable, second *netnstest.Container) {
	t.Helper()
	n.lab.Eventually("the end of all connections", func() bool {
		return n.c.Run("ss", "-Htn")+second.Run("ss", "-Htn") == "" // it lists none that listens or waits
	})
	before := [2]netnstest.Fared{}
	n.lab.Eventually("silence", func() bool {
		time.Sleep(300 * time.Millisecond)
		now := [2]netnstest.Fared{cable.Fared(false), cable.Fared(true)}
		quiet := now == before
		before = now
		return quiet
	})
}

// datagramsThrough sends numbered datagrams in bursts through the bad cable, which the sender is behind or the receiver, and holds what
// arrives against what the cable did. It returns from where they came.
func datagramsThrough(t *testing.T, n *internet, cable *netnstest.BadCable, tx, rx *net.UDPConn, to netip.AddrPort, fromSecond bool) (from netip.AddrPort) {
	t.Helper()
	const count, burst = 2000, 50
	before := cable.Fared(fromSecond)
	payload := func(i int) []byte {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
		return append(binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat(sum[:], 1+i%40)...)
	}
	seen := make([]int, count)
	total, buf := 0, make([]byte, 1<<16)
	hear := func(within time.Duration) bool {
		if err := rx.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		k, by, err := rx.ReadFromUDPAddrPort(buf)
		if os.IsTimeout(err) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		i := int(binary.BigEndian.Uint32(buf))
		if i >= count || !bytes.Equal(buf[:k], payload(i)) {
			t.Fatalf("datagram %d of %d bytes is damaged", i, k)
		}
		seen[i]++
		total++
		from = netip.AddrPortFrom(by.Addr().Unmap(), by.Port())
		return true
	}
	for i := range count {
		if _, err := tx.WriteToUDPAddrPort(payload(i), to); err != nil {
			t.Fatal(err)
		}
		if i%burst == burst-1 {
			n.lab.Eventually("the cable to be passed", func() bool { return cable.Fared(fromSecond).Sent-before.Sent > uint64(i) })
			for hear(time.Millisecond) {
			}
		}
	}
	after := cable.Fared(fromSecond)
	want := int(after.Sent - before.Sent - (after.Lost - before.Lost) + after.Twice - before.Twice)
	for total < want && hear(netnstest.Patience/4) {
	}
	for hear(20 * time.Millisecond) {
	}
	missing := 0
	for _, k := range seen {
		if k == 0 {
			missing++
		}
	}
	if lost := int(after.Lost - before.Lost); after.Sent-before.Sent != count || lost == 0 || after.Late == before.Late || missing != lost || total != want {
		t.Errorf("to %v: %d sent, %+v after %+v on the cable; %d arrived, %d of them missing\n%s", to, count, after, before, total, missing, n.d.Must("drops"))
	}
	return from
}
