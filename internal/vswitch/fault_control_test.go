package vswitch_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// abuses are what clients do to the control socket; each is what one of them sends, and how many of them there are.
var abuses = []struct {
	name, text string
	clients    int
}{
	{"idle", "", 1000},
	{"half a request", "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Le", 100},
	{"half a body", "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"name\":", 100},
	{"garbage", strings.Repeat("\x00\xff\x16\x03 garbage \r\n\r\n", 100), 100},
	{"1 GiB", "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n" + strings.Repeat("x", 2<<20), 40},
	{"1 MiB of brackets", "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("[", 1<<20), 80},
	{"deep JSON", "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat(`{"labels":`, 100000), 40},
	{"requests without end", strings.Repeat("GET /v1/show HTTP/1.1\r\nHost: x\r\n\r\n", 1000), 40},
	{"streams without readers", "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", 100},
}

// abuse opens as many connections as that and sends text on each, reading nothing.
func abuse(t *testing.T, socket, text string, clients int) (end func()) {
	t.Helper()
	end, err := tryAbuse(socket, text, clients)
	if err != nil {
		end()
		t.Fatal(err)
	}
	return end
}

// tryAbuse is abuse of a daemon that may die of it; the error is that of the first client who finds it dead.
func tryAbuse(socket, text string, clients int) (end func(), err error) {
	var conns []net.Conn
	var wg sync.WaitGroup
	end = func() {
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}
	for i := range clients {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return end, fmt.Errorf("client %d: %w", i, err)
		}
		conns = append(conns, c)
		if text == "" {
			continue
		}
		wg.Go(func() {
			c.SetWriteDeadline(time.Now().Add(netnstest.Patience))
			io.WriteString(c, text) // the daemon may well hang up
		})
	}
	return end, nil
}

// TestAbuse: whatever clients do to the control socket, traffic and the administrator go on, and nothing is left of it.
//
//	a eth0 ===TCP=== net1 === eth0 b      many bad clients ===> control socket <=== vsctl
func TestAbuse(t *testing.T) {
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	d.Env = []string{"GOGC=20"}
	d.Allow("request failed") // of a client that leaves before its answer
	d.Start()
	a, b := pairOf(lab, d, "tap", "veth")
	s := startStream(t, a, b, b4)
	s.goesOn(lab)
	c := lab.Container("c")
	d.Join("net1", "c", c)
	d.Must("del-port", "c")
	before := vitalsOf(t, d)
	others := startBystander(t, a, b, b4)
	for _, tt := range abuses {
		t.Run(tt.name, func(t *testing.T) {
			lab.In(t)
			gap := shortest(time.Second, func() time.Duration {
				s.longest()
				end := abuse(t, d.Socket, tt.text, tt.clients)
				start := time.Now()
				d.Join("net1", "c", c)
				d.Must("del-port", "c")
				t.Logf("a port was added and deleted in %v", time.Since(start).Round(time.Millisecond))
				s.goesOn(lab)
				end()
				return s.longest()
			})
			if gap > time.Second {
				t.Errorf("traffic stood still for %v", gap)
			}
			before.wantBack(t, lab, d)
		})
	}
	others.end()
}

// TestReadOnlySocket: vsctl looks by it, and is told why it can't do more.
func TestReadOnlySocket(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.NewDaemon()
	ro := filepath.Join(filepath.Dir(d.State), "ro")
	d.Start("--ro-socket", ro)
	d.Pair("net1", "--subnet", subnet4)
	if info, err := os.Stat(ro); err != nil || info.Mode().Perm() != 0o666 {
		t.Fatalf("%v %v", info, err)
	}
	for _, look := range []string{"show", "list-networks", "list-ports", "fdb", "flows", "stats", "drops", "events", "version",
		"trace in_port=a,udp,ip_dst=10.9.0.3"} {
		args := strings.Fields(look)
		if rw, got := d.Vsctl(args...), d.Vsctl(append(args, "--socket", ro)...); got.Code != 0 || got.Err != "" || got.Out == "" && rw.Out != "" {
			t.Errorf("%s: %+v", look, got)
		}
	}
	for _, change := range []string{"add-network n", "del-network net1 --force", "add-port net1 x --stage", "del-port a",
		"add-fdb net1 02:00:00:00:00:99 a", "fdb flush", "flows flush"} {
		d.Refused(1, "this socket answers looks only", append(strings.Fields(change), "--socket", ro)...)
	}
	for i := range 200 { // its clients take no place from those of the control socket
		c, err := net.Dial("unix", ro)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer c.Close()
	}
	d.Must("show")
	if n := metric(t, d, "vswitch_api_clients"); n > 70 {
		t.Errorf("%v clients are connected", n)
	}
	d.Stop()
	if _, err := os.Stat(ro); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if err := d.TryStart("--ro-socket", ro, "--ro-group", "no-such-group"); err == nil || !strings.Contains(d.Log(), "make the group or name another one") {
		t.Errorf("started with a group that does not exist: %v", err)
	}
	d.Allow("make the group")
	d.Start("--ro-socket", ro, "--ro-group", "daemon")
	if info, err := os.Stat(ro); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info, err)
	}
}

// TestWhoDidIt: the log names who changed what.
func TestWhoDidIt(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4)
	d.Must("show")
	d.Refused(1, "no network", "del-network", "net9")
	want := fmt.Sprintf("peer.comm=vsctl peer.uid=%d peer.gid=%d", os.Getuid(), os.Getgid())
	var changes []string
	for line := range strings.Lines(d.Log()) {
		if strings.Contains(line, "msg=change") {
			changes = append(changes, line)
			if !strings.Contains(line, want) {
				t.Errorf("%q lacks %s", line, want)
			}
		}
	}
	if len(changes) != 2 || !strings.Contains(changes[0], `\"name\":\"net1\"`) || !strings.Contains(changes[1], "path=/v1/networks/net9") {
		t.Errorf("changes in the log: %q", changes)
	}
}
