package vswitch_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// ruled is a network of three containers, of which b answers on port 80.
func ruled(t *testing.T) (lab *netnstest.Lab, d *netnstest.Daemon, a, b, c *netnstest.Container) {
	t.Helper()
	lab = netnstest.New(t)
	d = lab.Daemon()
	a, b = d.Pair("net1", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64")
	c = lab.Container("c")
	d.Join("net1", "c", c, "--type", "veth")
	echoes(t, b, 80)
	return lab, d, a, b, c
}

// dial says how an exchange ended: "", "refused", "prohibited" or "timeout". For a timeout that is wanted it waits less long.
func dial(c *netnstest.Container, network, addr, want string) string {
	patience := netnstest.Patience
	if want == "timeout" {
		patience = 500 * time.Millisecond
	}
	return failed(c.Do(func() error {
		conn, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		return err
	}))
}

func failed(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
		return "prohibited"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}

// pingEnd says how a ping ended: "", "prohibited" or "timeout".
func pingEnd(c *netnstest.Container, addr, want string) string {
	patience := "10"
	if want == "timeout" {
		patience = "0.5"
	}
	out, err := c.Try("ping", "-n", "-c", "1", "-W", patience, addr)
	switch {
	case err == nil:
		return ""
	case strings.Contains(out+err.Error(), "filtered") || strings.Contains(out+err.Error(), "rohibited"):
		return "prohibited"
	}
	return "timeout"
}

// TestRulesOfKernels: what is allowed, denied and rejected, as kernels at both ends see it, within a network and over its gateway.
func TestRulesOfKernels(t *testing.T) {
	t.Parallel()
	lab, d, a, b, _ := ruled(t)
	d.Must("add-network", "net2", "--subnet", "10.10.0.0/24", "--subnet", "fd10::/64")
	far := lab.Container("far")
	d.Join("net2", "far", far)
	for _, x := range []struct {
		rules, tcp, udp, ping string
	}{
		{"", "", "", ""},
		{"b out reject", "refused", "prohibited", "prohibited"},
		{"b out deny", "timeout", "timeout", "timeout"},
		{"net1 out reject --proto tcp; b out deny --proto udp", "refused", "timeout", ""},
		{"b out reject --proto tcp --dport 81", "", "", ""},
		{"b out allow --proto tcp --dport 80; b out reject; b in deny", "", "prohibited", "prohibited"},
		{"b out allow --src @a; b out allow --src @net2 --priority 1; b out deny --priority 1", "", "", ""},
		{"b in deny --proto tcp; b in reject --proto udp --dport 1-1000; net1 in deny --src @b --proto icmp; net1 in deny --src @b --proto icmp6", "", "", ""},
		{"b out deny --proto icmp --icmp-type echo-request; b out reject --proto icmp6 --icmp-type echo-request", "", "", "timeout|prohibited"},
		{"net1 out reject --proto udp --dport 80; net1 in allow --proto udp", "", "prohibited", ""},
	} {
		var ids []string
		for rule := range strings.SplitSeq(x.rules, "; ") {
			if rule != "" {
				ids = append(ids, strings.Fields(d.Must(append([]string{"add-rule"}, strings.Fields(rule)...)...))[0])
			}
		}
		var wg sync.WaitGroup
		for _, from := range []*netnstest.Container{a, far} {
			for _, addr := range []string{"10.9.0.3", "fd09::3"} {
				pinged := x.ping
				if four, six, both := strings.Cut(x.ping, "|"); both {
					pinged = map[bool]string{true: four, false: six}[strings.Contains(addr, ".")]
				}
				service := net.JoinHostPort(addr, "80")
				wg.Go(func() {
					got := [3]string{dial(from, "tcp", service, x.tcp), dial(from, "udp", service, x.udp), pingEnd(from, addr, pinged)}
					if want := [3]string{x.tcp, x.udp, pinged}; got != want {
						t.Errorf("%q: TCP, UDP and ping from %s to %s: %q, want %q", x.rules, from.Name, addr, got, want)
					}
				})
			}
		}
		wg.Wait()
		for _, id := range ids {
			d.Must("del-rule", id)
		}
	}
	netnstest.ExpectNoErrors(a, b, far)
}

// TestNewRuleEndsStream: a connection that a new rule denies ends, at both ends when it rejects, and others go on; so do all when the rule goes, and
// those that rules let begin only.
func TestNewRuleEndsStream(t *testing.T) {
	t.Parallel()
	_, d, a, b, c := ruled(t)
	d.Must("add-rule", "net1", "out", "deny", "--proto", "tcp", "--dport", "81")
	for _, addr := range []string{"10.9.0.3:80", "[fd09::3]:80"} {
		first, other := session(t, a, addr), session(t, c, addr)
		id := strings.Fields(d.Must("add-rule", "a", "in", "reject", "--proto", "tcp", "--dst", "@b"))[0]
		if _, err := first.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := hear(first); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: a rejected connection ends with %v", addr, err)
		}
		if !alive(other) {
			t.Errorf("%s: a rule about another ended a connection", addr)
		}
		d.Must("del-rule", id)
		first = session(t, a, addr)
		id = strings.Fields(d.Must("add-rule", "b", "out", "deny", "--src", "@a"))[0]
		if !ended(first) {
			t.Errorf("%s: a denied connection goes on", addr)
		}
		d.Must("del-rule", id)
		if err := first.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := first.Read(make([]byte, 9)); err != nil { // what was sent meanwhile is sent again
			t.Errorf("%s: a connection does not go on when the rule is gone: %d, %v", addr, n, err)
		}
		id = strings.Fields(d.Must("add-rule", "a", "out", "deny"))[0]
		if !alive(first) || !alive(session(t, a, addr)) {
			t.Errorf("%s: replies are denied", addr)
		}
		echoes(t, a, 90+len(addr))
		if got := dial(b, "tcp", fmt.Sprint(strings.NewReplacer("3:80", "2", "3]:80", "2]").Replace(addr), ":", 90+len(addr)), "timeout"); got != "timeout" {
			t.Errorf("%s: who may not begin got %q", addr, got)
		}
		d.Must("del-rule", id)
	}
	if rows := netnstest.Get[[]api.Connection](d, "conntrack", "net1", "--proto", "tcp", "--state", "established"); len(rows) == 0 || rows[0].Router != "" {
		t.Errorf("connections of the network: %+v", rows)
	}
}

// TestRulesSurvive a daemon that is killed: they hold from the first frame on, connections go on, counters begin anew, and ids stay.
func TestRulesSurvive(t *testing.T) {
	t.Parallel()
	_, d, a, b, _ := ruled(t)
	d.Must("add-rule", "b", "out", "allow", "--src", "@a", "--proto", "tcp", "--dport", "80", "--", "add-rule", "b", "out", "deny", "--", "add-rule", "net1", "in", "deny", "--proto", "sctp", "--log",
		"--", "add-rule", "b", "in", "deny", "--priority", "9")
	before := d.Must("list-rules", "-o", "json")
	conn := session(t, a, "10.9.0.3:80")
	d.Kill()
	d.Start()
	if !alive(conn) {
		t.Error("a connection ended with the daemon")
	}
	if got := []string{dial(a, "tcp", "[fd09::3]:80", ""), dial(a, "udp", "10.9.0.3:80", "timeout"), dial(b, "tcp", "10.9.0.2:80", "timeout")}; strings.Join(got, ",") != ",timeout,timeout" {
		t.Errorf("after a restart: %q", got)
	}
	rules := func(list []api.RuleEntry) (s string) {
		for _, r := range list {
			s += r.ID + " " + r.String() + "\n"
		}
		return s
	}
	list := netnstest.Get[[]api.RuleEntry](d, "list-rules")
	if want := "r4 b in deny --priority 9\n"; !strings.Contains(rules(list), want) || strings.Count(before, `"id"`) != 4 || len(list) != 4 {
		t.Errorf("rules are\n%s", rules(list))
	}
	if got := strings.Fields(d.Must("add-rule", "b", "out", "deny", "--proto", "gre"))[0]; got != "r5" {
		t.Errorf("a new rule is %s", got)
	}
	d.Must("del-port", "b")
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules"); len(list) != 1 {
		t.Errorf("rules of a port that is no more: %s", rules(list))
	}
	d.Kill()
	d.Start()
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules"); len(list) != 1 || list[0].ID != "r3" {
		t.Errorf("rules of a port that is no more, after a start: %s", rules(list))
	}
}

// TestRulesOfNewPort: rules that come with a port in one transaction hold before its container is heard; and after a transaction that failed
// there is nothing of them.
func TestRulesOfNewPort(t *testing.T) {
	t.Parallel()
	lab, d, _, b, _ := ruled(t)
	sniffer := b.PacketSocket("eth0")
	e := lab.Container("e")
	d.Must("add-port", "net1", "e", "--netns", e.Name, "--", "add-rule", "e", "in", "deny", "--ethertype", "arp", "--", "add-rule", "e", "in", "deny")
	if got := dial(e, "udp", "10.9.0.3:80", "timeout"); got == "" {
		t.Error("a new port is heard in spite of its rules")
	}
	mac := string(macBytes(e.MAC()))
	if f := sniffer.Find(0, func(f []byte) bool { // of IP, but for neighbor discovery, which passes
		discovery := f[20] == 58 && len(f) > 54 && f[54] >= 133 && f[54] <= 137
		return string(f[6:12]) == mac && (f[12] == 8 && f[13] == 0 || f[12] == 0x86 && !discovery)
	}); f != nil {
		t.Errorf("b heard % x", f)
	}
	d.Refused(1, "operation 3 of 3", "del-port", "e", "--", "add-rule", "b", "in", "deny", "--", "del-port", "nobody")
	d.Refused(1, "nothing was changed", "add-port", "net1", "f", "--netns", e.Name, "--ifname", "f0", "--", "add-rule", "f", "in", "deny", "--", "add-port", "net1", "g", "--netns", "nowhere")
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules"); len(list) != 2 || list[0].On != "e" {
		t.Errorf("rules: %+v", list)
	}
}

// TestRulesFollowNames: of ports that move, go and come again.
func TestRulesFollowNames(t *testing.T) {
	t.Parallel()
	lab, d, a, _, c := ruled(t)
	d.Must("add-rule", "b", "out", "allow", "--src", "@a")
	d.Must("add-rule", "b", "out", "reject")
	reach := func(from *netnstest.Container, want string) {
		t.Helper()
		if got := dial(from, "tcp", "10.9.0.3:80", want); got != want {
			t.Errorf("%s gets %q, want %q", from.Name, got, want)
		}
	}
	reach(a, "")
	reach(c, "refused")
	d.Must("set-port", "a", "--ip", "10.9.0.2-", "--ip", "10.9.0.77")
	reach(a, "")
	d.Must("set-port", "c", "--ip", "10.9.0.2")
	reach(c, "refused")
	d.Must("del-port", "a")
	d.Must("del-port", "c")
	d.Must("add-port", "net1", "c", "--netns", c.Name, "--ip", "10.9.0.77")
	reach(c, "refused")
	d.Must("del-port", "c", "--", "add-port", "net1", "a", "--netns", c.Name)
	reach(c, "")
	d.Must("add-network", "net2", "--subnet", "10.10.0.0/24")
	d.Must("disconnect", "b", "--", "connect", "b", "net2")
	if got := dial(c, "tcp", "10.10.0.2:80", ""); got != "" {
		t.Errorf("over the gateway a gets %q", got)
	}
	other := lab.Container("other")
	d.Join("net2", "other", other)
	if got := dial(other, "tcp", "10.10.0.2:80", "refused"); got != "refused" {
		t.Errorf("a port that moved to another network without its rules: %q", got)
	}
	if out := d.Must("list-rules", "net2", "--no-headers"); strings.Count(out, "net2") != 2 {
		t.Errorf("list-rules of the new network: %s", out)
	}
	d.Must("add-rule", "other", "in", "deny")
	other.Delete()
	d.Eventually("the rules of a port die with its container", func() bool { return len(netnstest.Get[[]api.RuleEntry](d, "list-rules")) == 2 })
}

// TestRuleOpensICCOfKernels: what a rule allows on a network whose ports are kept apart; and internal ones stay so.
func TestRuleOpensICCOfKernels(t *testing.T) {
	t.Parallel()
	lab, d, a, b, c := ruled(t)
	d.Must("set-network", "net1", "--icc=false")
	if got := dial(a, "tcp", "10.9.0.3:80", "timeout"); got == "" {
		t.Error("ports that are kept apart reach each other")
	}
	if got := pingEnd(a, "10.9.0.1", ""); got != "" {
		t.Errorf("ping to the gateway: %q", got)
	}
	d.Must("add-rule", "a", "in", "allow", "--proto", "tcp", "--dst", "@b", "--dport", "80", "--log")
	for _, addr := range []string{"10.9.0.3:80", "[fd09::3]:80"} {
		d.Eventually("who may reaches "+addr, func() bool { return dial(a, "tcp", addr, "timeout") == "" }) // its kernel has given the neighbor up for a second
		if got := dial(c, "tcp", addr, "timeout"); got == "" {
			t.Errorf("%s: who may not gets an answer", addr)
		}
	}
	if got := pingEnd(b, "10.9.0.2", "timeout"); got != "timeout" {
		t.Errorf("ping back: %q", got)
	}
	d.Eventually("the rule's decision is told", func() bool {
		return strings.Contains(d.Must("events"), "rule.allow") && strings.Contains(d.Log(), "tcp_dst=80")
	})
	d.Must("add-network", "inner", "--subnet", "10.10.0.0/24", "--internal")
	far := lab.Container("far")
	d.Join("inner", "far", far)
	d.Must("add-rule", "inner", "in", "allow")
	if got := dial(far, "tcp", "10.9.0.3:80", "prohibited"); got != "prohibited" {
		t.Errorf("from an internal network with a rule that allows: %q", got)
	}
}
