package vswitch_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestRulesAndOutside: rules of a container hold towards the outside, masqueraded, and for who comes by a published port, with his own address; and the
// answers of what was allowed come back.
func TestRulesAndOutside(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0", "--", "publish", "c", "8080:80")
	echoes(t, n.server, 80)
	echoes(t, n.c, 80)
	ids := func(rules ...string) (list []string) {
		for _, rule := range rules {
			list = append(list, strings.Fields(n.d.Must(append([]string{"add-rule"}, strings.Fields(rule)...)...))[0])
		}
		return list
	}
	for _, x := range []struct {
		rules              []string
		tcp, udp, in, icmp string
	}{
		{nil, "", "", "", ""},
		{[]string{"c out deny"}, "", "", "timeout", ""},
		{[]string{"c in deny"}, "timeout", "timeout", "", "timeout"},
		{[]string{"c in allow --proto tcp --dst " + serverAddrs[0], "c in allow --proto tcp --dst " + serverAddrs[1], "c in reject", "net out deny"}, "", "prohibited", "timeout", "prohibited"},
		{[]string{"c out allow --src " + serverAddrs[0] + " --proto tcp --dport 80", "c out allow --src " + serverAddrs[1] + " --proto tcp --dport 80", "c out reject"}, "", "", "", ""},
		{[]string{"c out reject --proto tcp --dport 80"}, "", "", "refused", ""},
		{[]string{"c out reject --proto tcp --dport 8080"}, "", "", "", ""}, // the port that the container has counts
	} {
		added := ids(x.rules...)
		for i, addr := range serverAddrs {
			service, ours := net.JoinHostPort(addr, "80"), net.JoinHostPort([]string{"192.0.2.2", "2001:db8:1::2"}[i], "8080")
			got := [4]string{dial(n.c, "tcp", service, x.tcp), dial(n.c, "udp", service, x.udp), dial(n.server, "tcp", ours, x.in), pingEnd(n.c, addr, x.icmp)}
			if want := [4]string{x.tcp, x.udp, x.in, x.icmp}; got != want {
				t.Errorf("%q, %s: TCP and UDP out, TCP in, ping: %q, want %q", x.rules, addr, got, want)
			}
		}
		for _, id := range added {
			n.d.Must("del-rule", id)
		}
	}
	conn := session(t, n.c, net.JoinHostPort(serverAddrs[0], "80"))
	ids("net in deny --dst " + serverAddrs[0])
	if !ended(conn) {
		t.Error("a connection to the outside goes on in spite of a new rule")
	}
	n.expectUntouched(t)
}

// TestRulesAndHost: the host is a neighbor like any other.
func TestRulesAndHost(t *testing.T) {
	t.Parallel()
	_, d, a, b := withHost(t)
	echoes(t, a, 80)
	echoes(t, d.Host, 81)
	d.Must("add-rule", "a", "out", "reject", "--src", "192.0.0.0/29", "--", "add-rule", "a", "out", "reject", "--src", "fd00::/8", "--proto", "tcp",
		"--", "add-rule", "netb", "in", "deny", "--dst", "192.0.2.2")
	for _, addr := range []string{"10.11.0.2:80", "[fd11::2]:80"} {
		if got := dial(d.Host, "tcp", addr, "refused"); got != "refused" {
			t.Errorf("from the host to %s: %q", addr, got)
		}
	}
	if got := []string{dial(a, "tcp", "192.0.2.2:81", ""), dial(b, "tcp", "192.0.2.2:81", "timeout"), dial(b, "tcp", "192.0.0.6:81", ""), dial(a, "tcp", "[2001:db8::2]:81", "")}; !slices.Equal(got, []string{"", "timeout", "", ""}) {
		t.Errorf("to the host: %q", got)
	}
}

// TestKilledWhileRuling: before the transaction is committed nothing has changed; after that all is as asked. The rules of a port go with it, wherever the
// daemon is killed.
func TestKilledWhileRuling(t *testing.T) {
	t.Parallel()
	l := newStepLab(t, "tap")
	l.d.Allow("failpoint")
	l.d.Allow("a rule is forgotten")
	l.addB()
	l.d.Must("add-rule", "b", "in", "deny", "--proto", "sctp")
	rules := func() (ids []string) {
		for _, r := range netnstest.Get[[]api.RuleEntry](l.d, "list-rules") {
			ids = append(ids, r.ID)
		}
		return ids
	}
	for _, c := range []struct {
		step string
		line string
		code int
		want string
	}{
		{"transaction.planned:error", "add-rule b out deny --proto gre", 1, "r1"},
		{"transaction.planned:kill", "add-rule b out deny --proto gre", 3, "r1"},
		{"transaction.committed:kill", "add-rule b out deny --proto gre", 3, "r1 r2"},
		{"transaction.planned:kill", "del-rule r1", 3, "r1 r2"},
		{"transaction.committed:kill", "del-rule r1 -- add-rule net1 out deny --proto gre", 3, "r2 r3"},
		{"delete.found:kill", "del-port b", 3, "r2 r3"},
		{"delete.recorded:kill", "del-port b", 3, "r3"},
	} {
		l.restart(c.step)
		if r := l.d.Vsctl(strings.Fields(c.line)...); r.Code != c.code {
			t.Fatalf("%s, %s: exit code %d: %s", c.line, c.step, r.Code, r.Err)
		}
		if c.code == 3 {
			l.killed(c.step)
			l.restart("")
		}
		got := rules()
		if slices.Sort(got); strings.Join(got, " ") != c.want {
			t.Errorf("%s, %s: rules %v, want %s", c.line, c.step, got, c.want)
		}
	}
}
