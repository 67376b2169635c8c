package vswitch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestUplinkTraceroute: the hops show themselves to a container, by UDP, ICMP and TCP: the gateway, the host's router, the server.
func TestUplinkTraceroute(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	for i, addr := range serverAddrs {
		hops := [][]string{{"10.11.0.1", "192.0.2.1", serverAddrs[0]}, {"fd11::1", "2001:db8:1::1", serverAddrs[1]}}[i]
		for _, how := range [][]string{{}, {"-I"}, {"-T", "-p", "2222"}} {
			out, err := n.c.Try("traceroute", append(append([]string{"-n", "-q", "1", "-w", "3"}, how...), addr)...)
			for k, hop := range hops {
				if !strings.Contains(out, hop+" ") {
					t.Errorf("traceroute %s to %s does not name hop %d, %s: %v\n%s", how, addr, k+1, hop, err, out)
				}
			}
		}
	}
}

// TestUplinkDatagrams: of many datagrams each arrives once, whole and in order, in both directions.
func TestUplinkDatagrams(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0")
	for _, addr := range serverAddrs {
		if err := pinged(n.c, addr); err != nil { // all kernels on the way know their neighbors: what waits for one may be overtaken
			t.Error(err)
		}
		sizes := make([]int, 4096)
		for i := range sizes {
			sizes[i] = 1 + i*997%1400
		}
		if err := netnstest.Datagrams(n.c, n.server, addr, sizes...); err != nil {
			t.Errorf("to %s: %v", addr, err)
		}
		if err := netnstest.SegmentedDatagrams(n.c, n.server, addr, 1200, 40); err != nil {
			t.Errorf("in super-frames to %s: %v", addr, err)
		}
		rx, tx := n.server.UDP(net.JoinHostPort(addr, "0")), n.c.UDP(":0")
		if err := ask(tx, rx, 1024); err != nil {
			t.Errorf("there and back to %s: %v", addr, err)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
	for _, reason := range []string{"nat_ports", "conn_limit", "egress_full"} {
		if k := dropped(n.d, "c", reason); k != 0 {
			t.Errorf("%d dropped as %s", k, reason)
		}
	}
}

// ask sends datagrams and has each sent back before the next.
func ask(tx, rx *net.UDPConn, times int) error {
	b := make([]byte, 1<<16)
	for i := range times {
		for _, c := range []*net.UDPConn{tx, rx} {
			if err := c.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
				return err
			}
		}
		if _, err := tx.WriteTo(b[:1+i], rx.LocalAddr()); err != nil {
			return err
		}
		k, from, err := rx.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err = rx.WriteTo(b[:k], from); err != nil {
			return err
		}
		if k, _, err = tx.ReadFrom(b); err != nil || k != 1+i {
			return fmt.Errorf("%d bytes came back of %d: %w", k, 1+i, err)
		}
	}
	return nil
}

// TestUplinkMTU: who sends more than fits through the uplink, or a hop behind it, is told, and TCP goes on: at both sides.
func TestUplinkMTU(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0")
	mtu := func(c *netnstest.Container, ifname, size string) { c.IP("link set " + ifname + " mtu " + size) }
	for _, addr := range serverAddrs {
		told := func(by, want string, size string) {
			t.Helper()
			out, err := n.c.Try("ping", "-n", "-c", "1", "-W", "10", "-M", "do", "-s", size, addr)
			if err == nil || !strings.Contains(strings.ToLower(out+err.Error()), "mtu") {
				t.Errorf("%s: a ping of %s bytes to %s: %s %v", by, size, addr, out, err)
			}
			if route := n.c.Run("ip", "route", "get", addr); !strings.Contains(route, "mtu "+want) {
				t.Errorf("%s: the container did not learn the MTU to %s: %s", by, addr, route)
			}
		}
		err := netnstest.StreamAfter(n.c, n.server, addr, 8<<20, func() {
			mtu(n.isp, "eth0", "1400") // the other end of the cable, so that the server is told
			mtu(n.host, "up0", "1400")
			n.d.Eventually("the uplink's MTU", func() bool { return strings.Contains(n.d.Must("show", "uplink", "up0"), "MTU: 1400") })
		})
		if err != nil {
			t.Errorf("TCP to %s over an uplink that shrank: %v", addr, err)
		}
		told("the uplink", "1400", "1420")
		err = netnstest.StreamAfter(n.c, n.server, addr, 8<<20, func() {
			mtu(n.server, "eth0", "1300") // likewise
			mtu(n.isp, "eth1", "1300")
		})
		if err != nil {
			t.Errorf("TCP to %s over a path that shrank: %v", addr, err)
		}
		told("a hop behind", "1300", "1320")
		mtu(n.host, "up0", "1500")
		mtu(n.isp, "eth0", "1500")
		mtu(n.isp, "eth1", "1500")
		mtu(n.server, "eth0", "1500")
		n.d.Eventually("the uplink's MTU", func() bool { return strings.Contains(n.d.Must("show", "uplink", "up0"), "MTU: 1500") })
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
}

// TestUplinkPublished: clients outside reach a published port by the host's addresses and are seen with their own; a program of the host keeps
// its port; nothing else of the host is reached that was not before.
func TestUplinkPublished(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	own := n.host.ListenTCP("[::]:2222") // of the host, and open in its firewall
	defer own.Close()
	n.d.Refused(1, "used by a program of the host", "publish", "c", "2222:80")
	n.d.Must("publish", "c", "8080:80", "--", "publish", "c", "8081:81/udp")
	for flow, want := range map[string]string{
		"tcp,ip_src=198.51.100.9,ip_dst=192.0.2.2,tcp_dst=8080":        "published by port c of network net: to 10.11.0.2:80",
		"udp6,ipv6_src=2001:db8:9::9,ipv6_dst=2001:db8:1::2,udp_dst=9": "drop: foreign",
	} {
		if got := n.d.Must("trace", "in_port=uplink:auto,"+flow); !strings.Contains(got, want) {
			t.Errorf("trace of %s lacks %s:\n%s", flow, want, got)
		}
	}
	n.d.Refused(1, "add ip_src=", "trace", "in_port=uplink:auto,tcp,ip_dst=192.0.2.2,tcp_dst=8080")
	for i, at := range []string{"192.0.2.2", "2001:db8:1::2"} {
		l := n.c.ListenTCP(":80")
		conn, err := n.server.DialTCP(net.JoinHostPort(at, "8080"))
		if err != nil {
			t.Fatalf("connect to the port published at %s: %v\n%s", at, err, n.d.Must("drops"))
		}
		peer, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if got := netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr().Unmap().String(); got != serverAddrs[i] {
			t.Errorf("the client is seen as %s, and is %s", got, serverAddrs[i])
		}
		if err := words(conn, peer); err != nil {
			t.Errorf("by %s: %v", at, err)
		}
		l.Close()
		rx, tx := n.c.UDP(":81"), n.server.UDP(":0")
		if _, err := tx.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(at), 8081))); err != nil {
			t.Fatal(err)
		}
		if k, from, err := readFrom(rx); err != nil || k != 1 || netip.MustParseAddrPort(from.String()).Addr().Unmap().String() != serverAddrs[i] {
			t.Errorf("a datagram to %s: %d bytes from %v, %v", at, k, from, err)
		}
		rx.Close()
		if conn, err := n.server.DialTCP(net.JoinHostPort(at, "2222")); err != nil {
			t.Errorf("the host's own port at %s: %v", at, err)
		} else {
			conn.Close()
		}
	}
	n.expectUntracked(t)
	n.expectUntouched(t)
	n.d.Must("unpublish", "c")
	if _, err := n.server.DialTCP("192.0.2.2:8080"); err == nil {
		t.Error("the port is open after unpublish")
	}
}

// TestUplinkBroadcast: what a container sends to all of the host's segment at once leaves by no uplink, and is counted.
func TestUplinkBroadcast(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0")
	if err := pinged(n.c, serverAddrs[0]); err != nil {
		t.Error(err)
	}
	ear := n.isp.PacketSocket("eth0")
	for i, addr := range []string{"192.0.2.255", "192.0.2.0"} {
		_, _ = n.c.Try("ping", "-b", "-n", "-c", "1", "-W", "0.1", addr)
		n.d.Eventually("a directed broadcast is counted", func() bool { return dropped(n.d, "c", "directed_broadcast") > uint64(i) })
	}
	if f := ear.Find(50*time.Millisecond, func(f []byte) bool { return f[0]&1 != 0 && f[12] == 8 && (f[13] == 0 || f[13] == 6 && f[41] == 0) }); f != nil {
		t.Errorf("the segment hears % x", f)
	}
}

// words sends a few bytes each way.
func words(a, b *net.TCPConn) error {
	if err := say(a, b); err != nil {
		return err
	}
	return say(b, a)
}

// say sends a few bytes from one end to the other.
func say(from, to *net.TCPConn) error {
	for _, c := range []*net.TCPConn{from, to} {
		if err := c.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
			return err
		}
	}
	if _, err := from.Write([]byte("word")); err != nil {
		return err
	}
	var got [4]byte
	n, err := to.Read(got[:])
	if err == nil && string(got[:n]) != "word" {
		err = fmt.Errorf("%q arrived", got[:n])
	}
	return err
}

func readFrom(c *net.UDPConn) (int, net.Addr, error) {
	if err := c.SetReadDeadline(time.Now().Add(netnstest.Patience)); err != nil {
		return 0, nil, err
	}
	return c.ReadFrom(make([]byte, 2048))
}

// TestUplinkPrograms: the programs that people try first, outwards and by a published port.
func TestUplinkPrograms(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:5201", "--", "publish", "c", "8080:5201/udp")
	for i, addr := range serverAddrs {
		l := n.server.ListenTCP(net.JoinHostPort(addr, "0"))
		web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })}
		go func() { _ = web.Serve(l) }()
		t.Cleanup(func() { web.Close() })
		out, err := n.c.Try("curl", "-sSg", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "--max-time", "20", "http://"+l.Addr().String()+"/")
		if out != "200 1048576" {
			t.Errorf("curl of http://%s: %q, %v", l.Addr(), out, err)
		}
		if out, err := n.c.Try("mtr", "-n", "-r", "-c", "1", addr); err != nil || !strings.Contains(out, []string{"10.11.0.1 ", "fd11::1 "}[i]) || !strings.Contains(out, addr) {
			t.Errorf("mtr to %s: %v\n%s", addr, err, out)
		}
		for _, how := range []string{"-n 8M", "-n 8M -R", "-n 1M -u -b 20M", "-n 1M -u -b 20M -R"} {
			if err := iperf(n.c, n.server, addr, "5201", how); err != nil {
				t.Errorf("iperf3 %s to %s: %v", how, addr, err)
			}
			if err := iperf(n.server, n.c, hostAddrs[i], "8080", how); err != nil {
				t.Errorf("iperf3 %s to the port published at %s: %v", how, hostAddrs[i], err)
			}
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
	n.expectUntouched(t)
	n.expectUntracked(t)
}

// iperf has iperf3 measure between a client and a server, which listens on its usual port, and fails unless something was received.
func iperf(client, server *netnstest.Container, addr, port, how string) error {
	served := make(chan error, 1)
	go func() {
		_, err := server.Try("iperf3", "-s", "-1", "--idle-timeout", "20")
		served <- err
	}()
	for deadline := time.Now().Add(netnstest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if out, err := server.Try("ss", "-Hltn", "sport = :5201"); err != nil || out != "" {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not listen")
		}
	}
	out, err := client.Try("iperf3", append([]string{"-J", "-c", addr, "-p", port, "--connect-timeout", "10000"}, strings.Fields(how)...)...)
	if err := errors.Join(err, <-served); err != nil {
		return err
	}
	var report struct {
		End struct {
			Received struct{ Bytes int } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return err
	}
	if report.End.Received.Bytes == 0 {
		return fmt.Errorf("nothing was received: %s", out)
	}
	return nil
}
