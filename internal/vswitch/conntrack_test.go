package vswitch_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
	"vswitch/nat"
)

func conntrack(t *testing.T, d *netnstest.Daemon, args ...string) (list []api.Connection) {
	t.Helper()
	if err := json.Unmarshal([]byte(d.Must(append([]string{"conntrack", "-o", "json"}, args...)...)), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// summary tells what can be known of connections before there are any.
func summary(list []api.Connection) string {
	var rows []string
	for _, c := range list {
		row := strings.Join([]string{c.Router, c.Network, c.Port, c.Peer, c.Proto, c.State, c.Original.Src.String(), c.Original.Dst.String()}, " ")
		if c.Translated != nil {
			row += fmt.Sprintf(" as %s > %s", c.Translated.Src, c.Translated.Destination())
		}
		rows = append(rows, row)
	}
	return strings.Join(rows, "\n")
}

// pair is a TCP connection with both its ends.
func pair(t *testing.T, from, to *netnstest.Container, addr string) (near, far *net.TCPConn) {
	t.Helper()
	l := to.ListenTCP(net.JoinHostPort(addr, "0"))
	defer l.Close()
	near, err := from.DialTCP(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{near, far} {
		t.Cleanup(func() { c.Close() })
	}
	return near, far
}

func talk(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	for _, way := range [][2]*net.TCPConn{{near, far}, {far, near}, {near, far}} {
		if err := say(way[0], way[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// cached returns how many flows that the workers cache have the text in their match.
func cached(d *netnstest.Daemon, text string) int { return strings.Count(d.Must("flows"), text) }

// TestConntrack lists what is masqueraded under its names, and ends it piece by piece: what leans on it in the flow caches goes, what else
// there is stays, and the connection goes on as a new one.
func TestConntrack(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	d.Must("set-network", "neta", "--masquerade", "on")
	if list := conntrack(t, d); len(list) != 0 {
		t.Errorf("before there is any: %+v", list)
	}
	near, far := pair(t, a, b, "10.12.0.2")
	talk(t, near, far)
	server := netip.MustParseAddrPort(far.LocalAddr().String())
	rx, tx := b.UDP("[fd12::2]:5353"), a.UDP("[::]:0")
	if _, err := tx.WriteTo([]byte("?"), rx.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	var buf [4]byte
	if err := rx.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := rx.Read(buf[:]); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]any{{a, "10.12.0.2"}, {b, "10.11.0.2"}} {
		if err := pinged(way[0].(*netnstest.Container), way[1].(string)); err != nil {
			t.Fatal(err)
		}
	}
	want := "main neta a b icmp established 10.11.0.2 10.12.0.2 as 10.12.0.1 > 10.12.0.2\n" +
		"main neta a b tcp established 10.11.0.2 10.12.0.2 as 10.12.0.1 > " + server.String() + "\n" +
		"main neta a b udp new fd11::2 fd12::2 as fd12::1 > [fd12::2]:5353\n" +
		"main netb b a icmp established 10.12.0.2 10.11.0.2"
	if got := summary(conntrack(t, d)); got != want {
		t.Errorf("conntrack lists\n%s, want\n%s", got, want)
	}
	for _, c := range conntrack(t, d, "--proto", "tcp") {
		client := netip.MustParseAddrPort(near.LocalAddr().String())
		if c.Original.Source() != client.String() || c.Original.Destination() != server.String() || c.Translated.SrcPort != client.Port() ||
			c.Timeout < 7440-60 || c.Timeout > 7440 || c.Idle > 60 || c.Age > 60 {
			t.Errorf("the connection from %s is %+v, translated %+v", client, c, c.Translated)
		}
	}
	for line, n := range map[string]int{
		"neta": 3, "netb": 1, "--port b": 4, "neta --port b --proto udp": 1, "--state new": 1, "--state closing": 0, "--src fd11::/64": 1, "--src 10.11.0.2": 2,
		"--dst 10.12.0.0/24": 2, "--dport 5353": 1, "--dport " + fmt.Sprint(server.Port()): 1, "--router main": 4, "--translated": 3, "--proto 1": 2,
		"--sport " + fmt.Sprint(netip.MustParseAddrPort(near.LocalAddr().String()).Port()) + " --proto tcp": 1,
	} {
		if list := conntrack(t, d, strings.Fields(line)...); len(list) != n {
			t.Errorf("conntrack %s lists %d, want %d:\n%s", line, len(list), n, summary(list))
		}
	}

	if tcp, echoes := cached(d, "tcp,"), cached(d, "icmp,"); tcp != 2 || echoes != 4 {
		t.Fatalf("%d flows of TCP and %d of echoes are cached:\n%s", tcp, echoes, d.Must("flows"))
	}
	if out := d.Must("conntrack", "flush", "neta", "--proto", "tcp", "--dport", fmt.Sprint(server.Port())); out != "1 flushed" {
		t.Errorf("flush prints %q", out)
	}
	if tcp, echoes := cached(d, "tcp,"), cached(d, "icmp,"); tcp != 0 || echoes != 4 {
		t.Errorf("after TCP was flushed, %d flows of it and %d of echoes are cached:\n%s", tcp, echoes, d.Must("flows"))
	}
	rows := strings.Split(want, "\n")
	if got := summary(conntrack(t, d)); got != strings.Join([]string{rows[0], rows[2], rows[3]}, "\n") {
		t.Errorf("after TCP was flushed:\n%s", got)
	}
	talk(t, near, far) // it goes on, with the same external port
	if got := summary(conntrack(t, d, "--proto", "tcp")); got != rows[1] {
		t.Errorf("after TCP went on:\n%s", got)
	}
	d.Must("conntrack", "flush", "netb")
	if got := summary(conntrack(t, d)); got != strings.Join(rows[:3], "\n") {
		t.Errorf("after netb was flushed:\n%s", got)
	}
	if s, err := d.Client.Stats(t.Context()); err != nil || s.Connections.Connections != 3 || s.Connections.Opened != 5 || s.Connections.Bytes == 0 {
		t.Errorf("stats of connections: %+v, %v", s.Connections, err)
	}
	if out := d.Must("conntrack", "flush"); out != "3 flushed" || len(conntrack(t, d)) != 0 {
		t.Errorf("flush of all prints %q, and leaves\n%s", out, summary(conntrack(t, d)))
	}
}

// TestConnectionsEndWithPort: whichever end of a connection leaves, deleted, disconnected or dead, takes it along, and nobody else's; answers find
// none then.
func TestConnectionsEndWithPort(t *testing.T) {
	t.Parallel()
	lab, d, a, b := twoNetworks(t)
	d.Must("set-network", "neta", "--masquerade", "on")
	stays := lab.Container("stays")
	d.Join("neta", "stays", stays)
	near, far := pair(t, stays, b, "10.12.0.2")
	talk(t, near, far)
	count := func(port string) int { return len(conntrack(t, d, "--port", port, "--state", "established")) }
	for _, addr := range []string{"10.12.0.2", "fd12::2"} {
		client, server := pair(t, a, b, addr)
		talk(t, client, server)
	}
	if n := count("a"); n != 2 {
		t.Fatalf("%d connections of a", n)
	}
	d.Must("disconnect", "a")
	if n, others := count("a"), count("stays"); n != 0 || others != 1 {
		t.Errorf("after disconnect a has %d connections, and the other one %d", n, others)
	}
	for _, end := range []func(c *netnstest.Container){
		func(*netnstest.Container) { d.Must("del-port", "c") },
		func(c *netnstest.Container) { c.Delete() },
	} {
		c := lab.Container("c")
		d.Join("netb", "c", c) // it is spoken to
		addr := netip.MustParsePrefix(netnstest.Get[api.Port](d, "show", "port", "c").IPs[0].String()).Addr().String()
		rx := c.UDP(net.JoinHostPort(addr, "0"))
		if err := ask(stays.UDP(":0"), rx, 1); err != nil {
			t.Fatal(err)
		}
		rx.Close() // or its namespace would live on
		if n := count("c"); n != 1 {
			t.Fatalf("%d connections of c", n)
		}
		end(c)
		d.Eventually("its connections end", func() bool { return count("stays") == 1 })
	}
	talk(t, near, far)
}

// TestConntrackRefuses: a name that nothing has selects nothing, least of all everything.
func TestConntrackRefuses(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Must("add-network", "neta", "--subnet", "10.11.0.0/24")
	for line, want := range map[string]string{
		"conntrack flush netz":            `no network "netz"`,
		"conntrack --port web":            `no port "web"`,
		"conntrack flush --router lab":    `no router "lab"`,
		"conntrack flush --src 10.0.0.0/": "use an address, or ADDRESS/LENGTH",
	} {
		if r := d.Vsctl(strings.Fields(line)...); r.Code == 0 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: exit code %d, %s, want %q", line, r.Code, r.Err, want)
		}
	}
	if r := d.Vsctl("conntrack", "flush", ""); r.Code == 0 || !strings.Contains(r.Err, "network is empty") {
		t.Errorf("flush of a network without a name: exit code %d, %s", r.Code, r.Err)
	}
	if list := conntrack(t, d, "neta", "--router", "main"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestConnectionStates: the API's names are those of the table's states, in their order.
func TestConnectionStates(t *testing.T) {
	for i, name := range api.ConnectionStates {
		if s := nat.State(i + 1); s.String() != name {
			t.Errorf("state %d is %s, not %s", i+1, s, name)
		}
	}
	if last := nat.State(len(api.ConnectionStates)); last != nat.Aborted {
		t.Errorf("the last state is %s", last)
	}
}
