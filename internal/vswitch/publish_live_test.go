package vswitch_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// session is a TCP connection to an echo server that stays open.
func session(t *testing.T, c *netnstest.Container, addr string) net.Conn {
	t.Helper()
	conn, err := c.DialTCP(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := hear(conn); err != nil { // the greeting
		t.Fatal(err)
	}
	return conn
}

func alive(conn net.Conn) bool { return echoedWithin(conn, netnstest.Patience) }

// ended is the contrary of alive, which it believes earlier.
func ended(conn net.Conn) bool { return !echoedWithin(conn, 2*time.Second) }

func echoedWithin(conn net.Conn, patience time.Duration) bool {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return false
	}
	got, err := hearWithin(conn, patience)
	return err == nil && strings.Trim(got, "x") == "" && got != ""
}

// TestPublishLive: what is published and taken back touches no connection but those by what goes; those end at once.
func TestPublishLive(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	echoes(t, b, 80)
	echoes(t, b, 81)
	d.Must("publish", "b", "8080-8081:80-81")
	d.Must("publish", "b", "10.11.0.1:9000:80", "--from", "10.11.0.0/24")
	first, second := session(t, a, "10.11.0.1:8080"), session(t, a, "10.11.0.1:9000")
	direct := session(t, a, "10.12.0.2:80")
	d.Must("publish", "b", "7000:80", "--", "publish", "b", "7001:81/udp", "--", "unpublish", "b", "81/udp")
	d.Must("set-port", "b", "--publish", "7002:80", "--alias", "www")
	d.Must("set-network", "netb", "--label", "k=v")
	for i, conn := range []net.Conn{first, second, direct, session(t, a, "[fd11::1]:7000"), session(t, a, "10.12.0.1:7002")} {
		if !alive(conn) {
			t.Errorf("connection %d ended by what others published", i)
		}
	}
	last := session(t, a, "[fd11::1]:8081")
	d.Must("unpublish", "b", "9000:80")
	if got := []bool{ended(second), alive(first), alive(direct), alive(last)}; slices.Contains(got, false) {
		t.Errorf("after unpublish, whether one ended and these are alive: %v", got)
	}
	d.Must("unpublish", "b", "--", "publish", "b", "8080:80")
	if got := []bool{ended(last), alive(direct), alive(first)}; slices.Contains(got, false) {
		t.Errorf("after a transaction, whether one ended and these are alive: %v", got)
	}
	if rows := netnstest.Get[[]api.Connection](d, "conntrack", "--dport", "9000"); len(rows) != 0 {
		t.Errorf("connections are left: %+v", rows)
	}
}

// TestPublishFrom: nobody else connects, and a drop reason says so.
func TestPublishFrom(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	echoes(t, b, 80)
	d.Must("publish", "b", "8080:80", "--from", "10.11.0.2", "--from", "fd77::/64")
	if got, err := tcpSeen(a, "10.11.0.1:8080"); err != nil || got != "10.11.0.2" {
		t.Errorf("who may connect is seen as %q: %v", got, err)
	}
	if got := dial(a, "tcp", "[fd11::1]:8080", "timeout"); got != "timeout" || dropped(d, "a", "publish_from") == 0 {
		t.Errorf("who may not connect gets %q; dropped: %d", got, dropped(d, "a", "publish_from"))
	}
	if got := d.Must("list-published", "--no-headers"); !strings.Contains(got, "10.11.0.2/32,fd77::/64") {
		t.Errorf("list-published: %s", got)
	}
	if out := d.Must("trace", "in_port=a,tcp6,ipv6_src=fd11::2,ipv6_dst=fd11::1,tcp_dst=8080"); !strings.Contains(out, "publish_from") {
		t.Errorf("trace: %s", out)
	}
}

// TestPublishRefused: each with what is wrong and what to do, and without any effect.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	lab, d, _, _ := twoNetworks(t)
	for name, flags := range map[string]string{"pure": "--no-subnet", "inner": "--internal --subnet 10.21.0.0/24", "bare": "--no-gateway --subnet 10.22.0.0/24",
		"four": "--subnet 10.23.0.0/24", "lab": "--router lab --subnet 10.11.0.0/24"} {
		d.Must(append([]string{"add-network", name}, strings.Fields(flags)...)...)
		d.Must("add-port", name, name, "--netns", lab.Container(name).Name)
	}
	d.Must("add-port", "neta", "own", "--type", "host", "--ifname", "own0")
	d.Must("add-port", "neta", "v10", "--netns", lab.Container("v").Name, "--vlan", "10")
	d.Must("publish", "a", "8080-8089:80-89")
	d.Must("publish", "a", "10.11.0.1:99:99/udp")
	d.Must("publish", "lab", "8080:80") // another world
	for _, c := range []struct{ line, words string }{
		{"publish b 8085:80", "8085/tcp is published for port a of network neta already, as 8080-8089:80-89/tcp: unpublish that"},
		{"publish b 10.12.0.1:8085:80", "published for port a"},
		{"publish b 8000-9000:8000-9000", "published for port a"},
		{"publish b 99:99/udp", "published for port a"},
		{"publish b [fd12::1]:8085:80", "published for port a"},
		{"publish a 8080-8089:80-89", "published for port a"},
		{"publish pure 80", "port pure can't publish 80/tcp: network pure has no gateway"},
		{"publish bare 80", "network bare has no gateway"},
		{"publish inner 80", "network inner is internal, so that nobody outside reaches it"},
		{"publish own 80", "it is the host's own"},
		{"publish v10 80", "it is not in the untagged VLAN"},
		{"publish four [::]:80:80", "it has no address of the family of ::"},
		{"publish nobody 80", "no port \"nobody\""},
		{"unpublish a 90", "port a does not publish 90/tcp; 'vsctl list-published a' says what it does"},
		{"unpublish b", "port b publishes nothing"},
		{"list-published nobody", "no port \"nobody\""},
		{"set-port a --publish 90-", "does not publish"},
		{"set-port b --publish 8080:80", "published for port a"},
		{"add-port netb x --stage --publish 8080:80", "published for port a"},
		{"add-port inner x --stage --publish 80", "is internal"},
		{"publish b 90 -- publish b 91 -- publish b 8081:80", "operation 3 of 3 (publish b): 8081/tcp is published for port a"},
		{"set-network lab --router main --subnet 10.11.0.0/24- --subnet 10.44.0.0/24", "has address"},
		{"publish b 20000-32767 -- publish b 20000", "no 1 ports"},
	} {
		d.Refused(1, c.words, strings.Fields(c.line)...)
	}
	d.Refused(1, "no 30000 ports side by side from 20000 to 32767 are free", "publish", "b", "1-30000")
	if got := publishedBy(d, "b"); len(got) != 0 {
		t.Errorf("b publishes %v", got)
	}
	d.Must("unpublish", "a", "8080-8089:80-89", "--", "publish", "b", "8085:80")
	d.Must("publish", "b", "8085:80", "--may-exist")
	d.Must("unpublish", "b", "90", "--if-exists")
	d.Must("unpublish", "nobody", "--if-exists", "--", "publish", "b", "80", "--may-exist")
	if got := publishedBy(d, "b"); !slices.Equal(got, []string{"8085:80/tcp"}) {
		t.Errorf("b publishes %v", got)
	}
}

// TestPublishRests: what a port publishes is kept while it can't be heard, gives its ports to others, and comes back if they are free.
func TestPublishRests(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	echoes(t, b, 80)
	d.Must("publish", "b", "8080:80")
	rests := func(why string) {
		t.Helper()
		rows := netnstest.Get[[]api.PublishedPort](d, "list-published", "b")
		if len(rows) != 1 || len(rows[0].To) != 0 || !strings.Contains(rows[0].Why, why) {
			t.Errorf("list-published: %+v, want why: %s", rows, why)
		}
		d.Must("publish", "a", "8080:80", "--", "unpublish", "a")
	}
	d.Must("disconnect", "b")
	rests("it is on no network")
	d.Must("publish", "a", "8080:80")
	d.Refused(1, "published for port a", "connect", "b", "netb")
	d.Must("unpublish", "a")
	d.Must("connect", "b", "netb")
	if !answers(a, "10.11.0.1:8080", true) {
		t.Error("what is published does not come back with the network")
	}
	d.Must("set-network", "netb", "--internal")
	rests("is internal")
	d.Kill()
	d.Start()
	rests("is internal")
	d.Must("publish", "a", "8080:80")
	d.Refused(1, "published for port a", "set-network", "netb", "--internal=false")
	d.Refused(1, "published for port a", "set-network", "netb", "--internal=false", "--", "set-network", "netb", "--label", "a=b")
	d.Must("unpublish", "a", "--", "set-network", "netb", "--internal=false")
	if !answers(a, "10.11.0.1:8080", true) {
		t.Error("what is published does not come back when the network is open again")
	}
	d.Must("set-network", "netb", "--router", "lab")
	if answers(a, "10.11.0.1:8080", false) {
		t.Error("what is published is heard by the router that it left")
	}
	c := lab.Container("c")
	d.Join("netb", "c", c, "--mac", "random")
	if !answers(c, "10.12.0.1:8080", true) {
		t.Error("what is published is not heard by its new router")
	}
	d.Must("publish", "c", "9090:90")
	c.Delete()
	lab.Eventually("what a port publishes dies with its namespace", func() bool { return d.Vsctl("publish", "b", "9090:80").Code == 0 })
}

// TestPublishApply: what is published is exported, compared and applied, automatic ports as they are; a port goes from one container to
// another in one step.
func TestPublishApply(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	echoes(t, a, 80)
	echoes(t, b, 80)
	d.Must("publish", "b", "80")
	d.Must("publish", "b", "[::]:8080:80/udp", "--from", "fd11::/64")
	file := filepath.Join(t.TempDir(), "vswitch.yaml")
	apply := func(from, to string) string {
		t.Helper()
		text := d.Must("export")
		if !strings.Contains(text, from) {
			t.Fatalf("%q is not in\n%s", from, text)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(text, from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return d.Must("apply", "-f", file)
	}
	if out := apply(`"20000:80/tcp"`, "80"); out != "" {
		t.Errorf("an automatic port changes by apply: %s", out)
	}
	conn := session(t, a, "10.11.0.1:20000")
	out := apply(`publish: ["20000:80/tcp", "[::]:8080:80/udp from fd11::/64"]`, `publish: ["20000:80/tcp", "8081:80"]`)
	if !strings.Contains(out, "~ port b on netb: publish 20000:80/tcp [::]:8080:80/udp from fd11::/64 -> 20000:80/tcp 8081:80/tcp") {
		t.Errorf("apply prints %s", out)
	}
	if !alive(conn) || !answers(a, "10.11.0.1:8081", true) {
		t.Error("apply ended a connection, or did not publish")
	}
	moved := strings.Replace(d.Must("export"), `        publish: ["20000:80/tcp", "8081:80/tcp"]`, "", 1)
	moved = strings.Replace(moved, fmt.Sprintf("netns: %s\n", a.Name), fmt.Sprintf("netns: %s\n        publish: [\"20000:80\", \"8081:80\"]\n", a.Name), 1)
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Must("apply", "-f", file)
	if got := publishedBy(d, "a"); !slices.Equal(got, []string{"20000:80/tcp", "8081:80/tcp"}) || len(publishedBy(d, "b")) != 0 || !ended(conn) {
		t.Errorf("a publishes %v", got)
	}
	if got, err := tcpSeen(b, "10.12.0.1:8081"); err != nil || got != "10.12.0.2" {
		t.Errorf("b is seen as %q: %v", got, err)
	}
}

// TestPublishLosesNothing: datagrams by a published port and between containers are counted while a thousand others are published and taken back,
// beside TCP that takes all that is left of the machine; the switch drops nothing of either.
func TestPublishLosesNothing(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	d.Must("publish", "b", "5000:5000/udp")
	to := b.UDP("[::]:5000")
	defer to.Close()
	from := a.UDP("[::]:0")
	defer from.Close()
	for _, addr := range []string{"10.12.0.2", "fd12::2"} { // no frame has to wait for its neighbor then
		if err := pinged(a, addr); err != nil {
			t.Fatal(err)
		}
	}
	near, far := pair(t, a, b, "10.12.0.2")
	unpaced(t, near)
	bulk, start := make(chan int64, 1), time.Now()
	go func() {
		var n int64
		for b := make([]byte, 1<<20); ; {
			m, err := far.Read(b)
			n += int64(m)
			if err != nil {
				bulk <- n
				return
			}
		}
	}()
	go func() {
		for b := make([]byte, 1<<20); ; {
			if _, err := near.Write(b); err != nil {
				return // closed below
			}
		}
	}()
	stop, sent, received := make(chan struct{}), make(chan int, 1), make(chan int, 1)
	go func() {
		n := 0
		for b := make([]byte, 64); ; n++ {
			if _, _, err := to.ReadFrom(b); err != nil {
				received <- n
				return
			}
		}
	}()
	go func() {
		n, addrs := 0, []*net.UDPAddr{{IP: net.ParseIP("10.11.0.1"), Port: 5000}, {IP: net.ParseIP("fd11::1"), Port: 5000}, {IP: net.ParseIP("10.12.0.2"), Port: 5000}}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				sent <- n
				return
			case <-tick.C:
			}
			for i := range 9 {
				if _, err := from.WriteTo([]byte("count me"), addrs[i%3]); err == nil {
					n++
				}
			}
		}
	}()
	for i := range 20 {
		spec := fmt.Sprintf("%d:80", 6000+i)
		d.Must("publish", "b", spec)
		d.Must("publish", "a", fmt.Sprintf("%d-%d", 7000+50*i, 7049+50*i), "--", "unpublish", "b", spec)
	}
	close(stop)
	want := <-sent
	near.Close()
	bytes, took := <-bulk, time.Since(start)
	t.Logf("%.1f Gbit/s of TCP meanwhile", float64(bytes)*8/1e9/took.Seconds())
	if err := to.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got, dropped := <-received, lost(d); got != want || want < 100 || dropped != 0 || bytes == 0 {
		t.Errorf("%d of %d datagrams came, and %d bytes of TCP; the switch dropped %d frames:\n%s", got, want, bytes, dropped, d.Must("drops"))
	}
}

// TestPublishAbreast: of ports that are added at the same time one gets the port of ours that all want, and each an automatic one of its own.
func TestPublishAbreast(t *testing.T) {
	t.Parallel()
	_, d, _, _ := twoNetworks(t)
	const n = 16
	fixed := api.Publish{HostPort: 8080, Port: 80, Last: 80, Proto: "tcp"}
	automatic := api.Publish{Port: 80, Last: 81, Proto: "tcp"}
	var g errgroup.Group
	var won atomic.Int32
	for i := range n {
		g.Go(func() error {
			r := api.PortRequest{Name: fmt.Sprint("p", i), Network: "neta", Stage: true, Publish: []api.Publish{automatic, fixed}}
			if _, err := d.Client.AddPort(t.Context(), r); err == nil {
				won.Add(1)
				return nil
			}
			r.Publish = r.Publish[:1]
			_, err := d.Client.AddPort(t.Context(), r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint16]bool)
	for _, row := range netnstest.Get[[]api.PublishedPort](d, "list-published") {
		if row.Publish.HostPort != 8080 {
			seen[row.Publish.HostPort/2] = true
		}
	}
	if won.Load() != 1 || len(seen) != n {
		t.Errorf("%d got port 8080, and %d different automatic ones were given", won.Load(), len(seen))
	}
}

// unpaced has a connection send as fast as the window lets it, whatever the default of the machine.
func unpaced(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") }); e != nil || err != nil {
		t.Fatal(errors.Join(e, err))
	}
}
