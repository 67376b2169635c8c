package vswitch_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// hostRow returns the only row of what a port publishes.
func hostRow(t *testing.T, d *netnstest.Daemon, port string) api.PublishedPort {
	t.Helper()
	rows := netnstest.Get[[]api.PublishedPort](d, "list-published", port)
	if len(rows) != 1 {
		t.Fatalf("%s publishes %+v", port, rows)
	}
	return rows[0]
}

// TestPublishHost: programs of the host reach published ports at 127.0.0.1, ::1 and the host's own addresses, and so do containers at the
// latter, as themselves; nobody else does without an uplink.
func TestPublishHost(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	echoes(t, b, 80)
	d.Must("publish", "b", "8080:80", "--", "publish", "b", "8080:80/udp", "--", "publish", "b", "127.0.0.1:8081:80", "--", "publish", "b", "[::1]:8081:80/udp")
	try := func() {
		t.Helper()
		for _, addr := range []string{"127.0.0.1", "127.1.2.3", "[::1]", "192.0.2.2", "[2001:db8::2]", "10.12.0.1", "[fd12::1]"} {
			want := "192.0.0.6"
			if strings.HasPrefix(addr, "[") {
				want = "fd83:585c:c419::6"
			}
			for proto, seen := range map[string]func(*netnstest.Container, string) (string, error){"tcp": tcpSeen, "udp": udpSeen} {
				if got, err := seen(d.Host, addr+":8080"); err != nil || got != want {
					t.Errorf("%s from the host to %s: seen as %q, want %s: %v", proto, addr, got, want, err)
				}
			}
		}
		for addr, want := range map[string]string{"192.0.2.2": "10.11.0.2", "[2001:db8::2]": "fd11::2"} {
			if got, err := tcpSeen(a, addr+":8080"); err != nil || got != want {
				t.Errorf("from a to %s: seen as %q, want %s: %v", addr, got, want, err)
			}
		}
		if got, err := tcpSeen(b, "192.0.2.2:8080"); err != nil || got != "10.12.0.1" {
			t.Errorf("from b to itself: seen as %q: %v", got, err)
		}
		if got, err := tcpSeen(d.Host, "127.0.0.1:8081"); err != nil {
			t.Errorf("for the host alone, TCP: %q, %v", got, err)
		}
		if got, err := udpSeen(d.Host, "[::1]:8081"); err != nil {
			t.Errorf("for the host alone, UDP: %q, %v", got, err)
		}
		for _, addr := range []string{"192.0.2.2:8081", "10.11.0.1:8081"} {
			if got, err := tcpSeen(a, addr); err == nil {
				t.Errorf("for the host alone, and a is seen as %s at %s", got, addr)
			}
		}
	}
	try()
	if rows := netnstest.Get[[]api.PublishedPort](d, "list-published"); rows[0].Host != "listener" || rows[3].Host != "listener" {
		t.Errorf("list-published: %+v", rows)
	}
	d.Kill()
	d.Start()
	try()
	d.Must("set-port", "b", "--ip", "10.12.0.77", "--ip", "10.12.0.2-")
	try()
	conn := session(t, d.Host, "127.0.0.1:8080")
	other := session(t, d.Host, "127.0.0.1:8081")
	d.Must("unpublish", "b", "8080:80")
	if !ended(conn) || !alive(other) {
		t.Error("unpublish ended the wrong connections of the host")
	}
	if _, err := tcpSeen(d.Host, "127.0.0.1:8080"); err == nil {
		t.Error("the host is heard at a port that is taken back")
	}
}

// TestPublishHostTaken: a port that a program of the host has is refused, with what to do, and nothing of it stays; one that is taken while the
// daemon is away is told of, and heard again when it is free.
func TestPublishHostTaken(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	d.Allow("a program of the host has")
	echoes(t, a, 80)
	echoes(t, b, 80)
	prog := d.Host.ListenTCP("127.0.0.1:8080")
	for _, line := range []string{
		"publish b 8080:80", "publish b 127.0.0.1:8080:80", "set-port b --publish 8080:80", "publish a 9000:80 -- publish b 8080:80",
		"add-port netb x --stage --publish 8080:80",
	} {
		d.Refused(1, "a program of the host has", strings.Fields(line)...)
	}
	if got := append(publishedBy(d, "a"), publishedBy(d, "b")...); len(got) != 0 {
		t.Errorf("%v is published", got)
	}
	if _, err := tcpSeen(d.Host, "127.0.0.1:9000"); err == nil {
		t.Error("a transaction that failed has left a listener")
	}
	d.Must("publish", "b", "[::]:8080:80", "--", "publish", "b", "8080:80/udp", "--", "unpublish", "b") // nobody has these
	prog.Close()
	d.Must("publish", "b", "8080:80")
	d.Must("unpublish", "b", "--", "publish", "a", "8080:80") // it goes from one to the other with its listener
	if got, err := tcpSeen(d.Host, "[::1]:8080"); err != nil || got == "" {
		t.Errorf("a is not reached: %v", err)
	}
	d.Stop()
	prog = d.Host.ListenTCP("0.0.0.0:8080")
	d.Start()
	if row := hostRow(t, d, "a"); row.Host != "" || !strings.Contains(row.HostProblem, "a program of the host has 0.0.0.0:8080/tcp") {
		t.Errorf("list-published: %+v", row)
	}
	prog.Close()
	d.Eventually("the listener is back", func() bool { return hostRow(t, d, "a").Host == "listener" })
	var l net.Listener
	err := d.Host.Do(func() (err error) {
		l, err = net.Listen("tcp4", "0.0.0.0:8080")
		return err
	})
	if err == nil {
		l.Close()
		t.Error("a program of the host can take a published port")
	}
	d.Must("del-port", "a")
	l = d.Host.ListenTCP("0.0.0.0:8080")
	l.Close()
}

// TestPublishHostRanges: ranges are looked up, also at one address, and so are single ports when there are many; programs of the host keep theirs.
func TestPublishHostRanges(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	for i := range 3 {
		echoes(t, b, 80+i)
	}
	prog := d.Host.ListenTCP("127.0.0.1:9500")
	defer prog.Close()
	d.Refused(1, "a program of the host has port 9500 of 0.0.0.0:9000-9999/tcp", "publish", "b", "9000-9999:9000-9999")
	d.Must("publish", "b", "9000-9002:80-82", "--", "publish", "b", "9000-9002:80-82/udp", "--", "publish", "b", "127.0.0.1:9100-9102:80-82",
		"--", "publish", "b", "[::1]:9100-9102:80-82/udp", "--", "publish", "b", "8080:80")
	try := func() {
		t.Helper()
		for _, addr := range []string{"127.0.0.1:9000", "127.0.0.1:9002", "[::1]:9001", "192.0.2.2:9002", "[2001:db8::2]:9000"} {
			for proto, seen := range map[string]func(*netnstest.Container, string) (string, error){"tcp": tcpSeen, "udp": udpSeen} {
				if got, err := seen(d.Host, addr); err != nil || got != "192.0.0.6" && got != "fd83:585c:c419::6" {
					t.Errorf("%s from the host to %s: seen as %q: %v", proto, addr, got, err)
				}
			}
		}
		if _, err := tcpSeen(d.Host, "127.0.0.1:9102"); err != nil {
			t.Errorf("a range of one address: %v", err)
		}
		if _, err := udpSeen(d.Host, "[::1]:9101"); err != nil {
			t.Errorf("a range of one address: %v", err)
		}
		if _, err := tcpSeen(d.Host, "127.0.0.2:9102"); err == nil {
			t.Error("a range is heard at an address that is not its own")
		}
		if got, err := tcpSeen(a, "192.0.2.2:9001"); err != nil || got != "10.11.0.2" {
			t.Errorf("from a: seen as %q: %v", got, err)
		}
	}
	try()
	d.Kill()
	d.Start()
	try()
	for _, row := range netnstest.Get[[]api.PublishedPort](d, "list-published") {
		if want := map[bool]string{true: "sk_lookup", false: "listener"}[row.Publish.Last > row.Publish.Port]; row.Host != want || row.HostProblem != "" {
			t.Errorf("%v: %q, %q; want %s", row.Publish, row.Host, row.HostProblem, want)
		}
	}
	conn := session(t, d.Host, "127.0.0.1:9000")
	d.Must("unpublish", "b", "80-82/udp", "--", "unpublish", "b", "9000-9002:80-82")
	if !ended(conn) {
		t.Error("unpublish ends no looked up connection")
	}
	if _, err := tcpSeen(d.Host, "127.0.0.1:9001"); err == nil {
		t.Error("a range that is taken back is heard")
	}
	l := d.Host.ListenTCP("127.0.0.1:9001") // it is the host's again
	defer l.Close()
	if conn, err := d.Host.DialTCP("127.0.0.1:9001"); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// TestPublishHostMany: beyond 1024 single ports the next ones are looked up.
func TestPublishHostMany(t *testing.T) {
	t.Parallel()
	_, d, _, b := withHost(t)
	echoes(t, b, 80)
	for first := 20000; first < 21100; first += 550 {
		var line []string
		for p := first; p < first+550; p++ {
			line = append(line, "--publish", fmt.Sprintf("%d:80", p))
		}
		d.Must(append([]string{"set-port", "b"}, line...)...)
	}
	count := map[string]int{}
	for _, row := range netnstest.Get[[]api.PublishedPort](d, "list-published") {
		count[row.Host]++
	}
	if count["listener"] != 1024 || count["sk_lookup"] != 76 {
		t.Errorf("by way: %v", count)
	}
	for _, addr := range []string{"127.0.0.1:20000", "[::1]:21099", "127.0.0.1:21050"} {
		if _, err := tcpSeen(d.Host, addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	files := d.FDs()
	d.Must("unpublish", "b")
	if now := d.FDs(); now > files-2000 {
		t.Errorf("%d files were open, and %d are", files, now)
	}
}
