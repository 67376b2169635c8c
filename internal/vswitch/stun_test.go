package vswitch_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// What of STUN (RFC 8489, RFC 5780) a discovery client needs: a binding request, with or without CHANGE-REQUEST, and the answer, with
// XOR-MAPPED-ADDRESS.
const (
	stunCookie        = 0x2112a442
	stunRequest       = 0x0001
	stunSuccess       = 0x0101
	stunChangeRequest = 0x0003
	stunXORMapped     = 0x0020
	stunChangeIP      = 4
	stunChangePort    = 2
)

// stunServer answers binding requests at two addresses and two ports each, and from where the request wants it.
func stunServer(c *netnstest.Container, addrs [2]string) {
	sockets := map[[2]int]*net.UDPConn{}
	for i, addr := range addrs {
		for j, port := range []string{"3478", "3479"} {
			sockets[[2]int{i, j}] = c.UDP(net.JoinHostPort(addr, port))
		}
	}
	for at, socket := range sockets {
		go func() {
			buf := make([]byte, 1500)
			for {
				n, from, err := socket.ReadFromUDPAddrPort(buf)
				if err != nil {
					return // closed by the test's end
				}
				if n < 20 || binary.BigEndian.Uint16(buf) != stunRequest {
					continue
				}
				by := at
				if n >= 28 && binary.BigEndian.Uint16(buf[20:]) == stunChangeRequest {
					by[0] ^= int(buf[27]&stunChangeIP) / stunChangeIP
					by[1] ^= int(buf[27]&stunChangePort) / stunChangePort
				}
				_, _ = sockets[by].WriteToUDPAddrPort(stunAnswer(buf[:20], from), from)
			}
		}()
	}
}

func stunAnswer(request []byte, from netip.AddrPort) []byte {
	addr := from.Addr().Unmap().AsSlice()
	b := binary.BigEndian.AppendUint16(nil, stunSuccess)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(addr)))
	b = append(b, request[4:20]...)
	b = binary.BigEndian.AppendUint16(b, stunXORMapped)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(addr)))
	b = append(b, 0, map[int]byte{4: 1, 16: 2}[len(addr)])
	b = binary.BigEndian.AppendUint16(b, from.Port()^stunCookie>>16)
	for i := range addr {
		b = append(b, addr[i]^request[4+i])
	}
	return b
}

// bind asks a server as which address and port the socket is seen. An error is that no answer came.
func bind(socket *net.UDPConn, server string, change byte) (mapped netip.AddrPort, err error) {
	b := binary.BigEndian.AppendUint16(nil, stunRequest)
	b = append(b, 0, 8)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	b = append(b, make([]byte, 12)...)
	_, _ = rand.Read(b[8:20])
	b = append(b, 0, stunChangeRequest, 0, 4, 0, 0, 0, change)
	buf, within := make([]byte, 1500), netnstest.Patience/8
	if change != 0 { // none is expected
		within = 300 * time.Millisecond
	}
	for range 3 {
		if _, err := socket.WriteToUDPAddrPort(b, netip.MustParseAddrPort(server)); err != nil {
			return mapped, err
		}
		if err := socket.SetReadDeadline(time.Now().Add(within)); err != nil {
			return mapped, err
		}
		n, _, err := socket.ReadFromUDPAddrPort(buf)
		if err != nil || n < 28 || !bytes.Equal(buf[4:20], b[4:20]) {
			continue
		}
		addr := bytes.Clone(buf[28:n])
		for i := range addr {
			addr[i] ^= b[4+i]
		}
		a, _ := netip.AddrFromSlice(addr)
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(buf[26:])^stunCookie>>16), nil
	}
	return mapped, fmt.Errorf("no answer by %s", server)
}

// TestNATBehavior: between networks.
func TestNATBehavior(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	c := lab.Container("c")
	d.Join("neta", "c", c)
	d.Must("set-network", "neta", "--masquerade", "on")
	b.IP("addr add 10.12.0.3/24 dev eth0")
	b.IP("-6 addr add fd12::3/64 dev eth0 nodad")
	expectNAT(t, a, c, b, [2]string{"10.12.0.2", "10.12.0.3"}, "10.12.0.1")
	expectNAT(t, a, c, b, [2]string{"fd12::2", "fd12::3"}, "fd12::1")
	netnstest.ExpectNoErrors(a, b, c)
}

// TestNATBehaviorByUplink: behind an address that is the host's.
func TestNATBehaviorByUplink(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	c := n.lab.Container("c2")
	n.d.Join("net", "c2", c)
	n.server.IP("addr add 198.51.100.10/24 dev eth0")
	n.server.IP("-6 addr add 2001:db8:9::10/64 dev eth0 nodad")
	for i, addrs := range [][2]string{{serverAddrs[0], "198.51.100.10"}, {serverAddrs[1], "2001:db8:9::10"}} {
		n.d.Eventually("the outside at "+addrs[0], func() bool { return pinged(n.c, addrs[0], "-W", "2") == nil })
		expectNAT(t, n.c, c, n.server, addrs, []string{"192.0.2.2", "2001:db8:1::2"}[i])
	}
	n.expectUntouched(t)
}

// expectNAT holds what a STUN client finds of the NAT (RFC 5780 4) against docs/routing.md: endpoint-independent mapping (4.3), address- and
// port-dependent filtering (4.4), and hairpins between external ports where both sides have spoken (RFC 4787 REQ-9). a and c are behind
// the external address gw, the server is not, and has two addresses.
func expectNAT(t *testing.T, a, c, b *netnstest.Container, server [2]string, gw string) {
	t.Helper()
	stunServer(b, server)
	at := func(i int, port string) string { return net.JoinHostPort(server[i], port) }
	socket := a.UDP(":0")
	mapped, err := bind(socket, at(0, "3478"), 0)
	if err != nil || mapped.Addr().String() != gw {
		t.Fatalf("a is seen as %v, %v", mapped, err)
	}
	for _, server := range []string{at(1, "3478"), at(1, "3479"), at(0, "3478")} {
		if again, err := bind(socket, server, 0); again != mapped {
			t.Errorf("the mapping depends on the endpoint: %v, by %s %v %v", mapped, server, again, err)
		}
	}
	fresh := a.UDP(":0") // which has spoken with nobody
	if _, err := bind(fresh, at(0, "3478"), 0); err != nil {
		t.Error(err)
	}
	for _, change := range []byte{stunChangeIP | stunChangePort, stunChangePort, stunChangeIP} {
		if by, err := bind(fresh, at(0, "3478"), change); err == nil {
			t.Errorf("an answer from another address or port (%d) came in: %v", change, by)
		}
	}
	// Two containers by their external ports.
	peer := c.UDP(":0")
	other, err := bind(peer, at(0, "3478"), 0)
	if err != nil {
		t.Fatal(err)
	}
	hear := func(s *net.UDPConn, within time.Duration) string {
		buf := make([]byte, 100)
		_ = s.SetReadDeadline(time.Now().Add(within))
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if err != nil {
			return ""
		}
		return fmt.Sprint(string(buf[:n]), " ", netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
	say := func(s *net.UDPConn, to netip.AddrPort, what string) {
		if _, err := s.WriteToUDPAddrPort([]byte(what), to); err != nil {
			t.Errorf("to %v: %v", to, err)
		}
	}
	say(socket, other, "early")
	if got := hear(peer, 300*time.Millisecond); got != "" {
		t.Errorf("c hears %q from whom it has not spoken to", got)
	}
	for range 2 {
		say(peer, mapped, "from c")
		if got, want := hear(socket, netnstest.Patience/4), fmt.Sprint("from c ", other); got != want {
			t.Errorf("a hears %q, want %q", got, want)
		}
		say(socket, other, "from a")
		if got, want := hear(peer, netnstest.Patience/4), fmt.Sprint("from a ", mapped); got != want {
			t.Errorf("c hears %q, want %q", got, want)
		}
	}
}
