package vswitch_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestPublishUplink: who comes from outside by an uplink is seen by the container as himself, in both families; --from and addresses narrow that;
// containers and the host reach the same port by the host's address; nothing of the host is touched, and the daemon's death closes nothing.
func TestPublishUplink(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "--host-port=vsw0")
	d := n.d
	echoes(t, n.c, 80)
	d.Must("publish", "c", "8080:80", "--", "publish", "c", "8080:80/udp")
	d.Must("add-uplink", "up0")
	d.Must("publish", "c", "192.0.2.2:8081:80", "--", "publish", "c", "127.0.0.1:8082:80", "--", "publish", "c", "[::1]:8082:80", "--", "publish", "c", "9000-9009:71-80")
	d.Must("publish", "c", "8083:80", "--from", "198.51.100.0/24")
	d.Must("publish", "c", "[2001:db8:1::2]:8084:80", "--from", "2001:db8:9::9", "--", "publish", "c", "8085:80", "--from", "2001:db8:f::/64")
	other := n.lab.Container("other")
	d.Join("net", "other", other)
	reached := func() {
		t.Helper()
		for _, x := range []struct {
			from     *netnstest.Container
			addr, as string // nobody is reached: ""
		}{
			{n.server, "192.0.2.2:8080", serverAddrs[0]}, {n.server, "[2001:db8:1::2]:8080", serverAddrs[1]},
			{n.server, "192.0.2.2:8081", serverAddrs[0]}, {n.server, "[2001:db8:1::2]:8081", ""}, {n.server, "192.0.2.2:8082", ""}, {n.server, "[2001:db8:1::2]:8082", ""}, {other, "10.11.0.1:8082", ""}, {other, "[fd11::1]:8082", ""},
			{n.server, "192.0.2.2:8083", serverAddrs[0]}, {n.server, "[2001:db8:1::2]:8083", ""}, {n.server, "[2001:db8:1::2]:9009", serverAddrs[1]},
			{n.server, "[2001:db8:1::2]:8084", serverAddrs[1]}, {n.server, "192.0.2.2:8084", ""}, {n.server, "[2001:db8:1::2]:8085", ""},
			{other, "192.0.2.2:8080", "10.11.0.1"}, {n.c, "[2001:db8:1::2]:8080", "fd11::1"},
			{n.host, "192.0.2.2:8080", "192.0.0.6"}, {n.host, "[::1]:8080", "fd83:585c:c419::6"}, {n.host, "127.0.0.1:8082", "192.0.0.6"}, {n.host, "[::1]:8082", "fd83:585c:c419::6"},
		} {
			if x.as == "" {
				err := x.from.Do(func() error {
					_, err := net.DialTimeout("tcp", x.addr, 500*time.Millisecond)
					return err
				})
				if err == nil {
					t.Errorf("%s reaches %s", x.from.Name, x.addr)
				}
				continue
			}
			got, err := tcpSeen(x.from, x.addr)
			if err != nil || got != x.as {
				t.Errorf("TCP from %s to %s: seen as %q, want %q: %v", x.from.Name, x.addr, got, x.as, err)
			}
			if !strings.HasSuffix(x.addr, ":8080") {
				continue
			}
			if got, err := udpSeen(x.from, x.addr); err != nil || got != x.as {
				t.Errorf("UDP from %s to %s: seen as %q, want %q: %v", x.from.Name, x.addr, got, x.as, err)
			}
		}
	}
	reached()
	conn := session(t, n.server, "192.0.2.2:8080")
	pushed, client := push(t, n)
	d.Kill()
	d.Start()
	if err := client.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); err != nil || len(got) != pushed {
		t.Errorf("%d of %d bytes came from a container while the daemon died: %v", len(got), pushed, err)
	}
	reached()
	if !alive(conn) {
		t.Error("a connection from outside does not outlive the daemon")
	}
	d.Must("unpublish", "c", "8080:80")
	if !ended(conn) {
		t.Error("a connection outlives what it came by")
	}
	l := n.host.ListenTCP("0.0.0.0:8080") // the port is the host's again
	defer l.Close()
	if conn, err := n.server.DialTCP("192.0.2.2:8080"); err != nil {
		t.Errorf("the host's own service is not reached: %v", err)
	} else {
		conn.Close()
	}
	d.Refused(1, "used by a program of the host", "publish", "c", "8080:80")
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
}

// TestPublishUplinkRefused: where nothing listens in the container, who is outside is told so, as the host would; the way to a published port is seen hop by
// hop; and it is reached where the network is not masqueraded, too.
func TestPublishUplinkRefused(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("set-network", "net", "--masquerade", "off", "--", "add-uplink", "up0", "--", "publish", "c", "8080:80", "--", "publish", "c", "8080:80/udp")
	for i, at := range hostAddrs {
		place := net.JoinHostPort(at, "8080")
		n.d.Eventually(place+" refuses", func() bool { return dial(n.server, "tcp", place, "timeout") == "refused" })
		if got := dial(n.server, "udp", place, "refused"); got != "refused" {
			t.Errorf("a datagram to %s, where nobody listens: %q", place, got)
		}
		out, err := n.server.Try("traceroute", "-n", "-q", "1", "-w", "3", "-T", "-p", "8080", at)
		if hop := []string{"198.51.100.1", "2001:db8:9::1"}[i]; !strings.Contains(out, " 1  "+hop+" ") || !strings.Contains(out, " 2  "+at+" ") || !strings.Contains(out, " 3  "+at+" ") {
			t.Errorf("the way to %s: %v\n%s", place, err, out)
		}
	}
	echoes(t, n.c, 80)
	for i, at := range hostAddrs {
		if got, err := tcpSeen(n.server, net.JoinHostPort(at, "8080")); err != nil || got != serverAddrs[i] {
			t.Errorf("at %s, of a network that is not masqueraded: seen as %q: %v", at, got, err)
		}
	}
	n.expectUntracked(t)
	n.expectUntouched(t)
}

// push has a container send to a client outside that says nothing, by a published port.
func push(t *testing.T, n *internet) (size int, client net.Conn) {
	t.Helper()
	size = 64 << 20
	l := n.c.ListenTCP("[::]:71")
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = conn.Write(make([]byte, size))
			conn.Close()
		}
	}()
	client, err := n.server.DialTCP("192.0.2.2:9000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return size, client
}

// TestUplinkTakesNothing: a published port that a program of the host uses is no obstacle to who is inside, but to an uplink, which would take it.
func TestUplinkTakesNothing(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	prog := n.host.ListenTCP("0.0.0.0:2222")
	defer prog.Close()
	n.d.Must("publish", "c", "2222:80")
	n.d.Refused(1, "port 2222/tcp, which port c of network net publishes, is used by a program of the host", "add-uplink", "up0")
	n.d.Must("unpublish", "c", "--", "publish", "c", "10.11.0.1:2222:80", "--", "publish", "c", "2222:80/udp", "--", "add-uplink", "up0")
	n.d.Refused(1, "used by a program of the host", "publish", "c", "192.0.2.2:2222:80")
	n.d.Must("publish", "c", "[fd11::1]:2222:80")
	conn, err := n.server.DialTCP("192.0.2.2:2222")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
