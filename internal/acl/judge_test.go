package acl_test

import (
	"errors"
	"strings"
	"testing"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

const (
	noRule = "no rule matches"
	noICC  = "no rule matches, and the network is --icc=false"
)

func TestJudge(t *testing.T) {
	arp := &acl.Query{SrcMAC: mac2, DstMAC: [6]byte{255, 255, 255, 255, 255, 255}, EtherType: packet.EtherTypeARP, NoPorts: true}
	lldp := &acl.Query{SrcMAC: mac2, DstMAC: mac3, EtherType: 0x88cc, NoPorts: true}
	solicit := icmp(packet.ProtoICMPv6, "fd00::2", "fd00::3", 135, 0, 0)
	redirect := icmp(packet.ProtoICMPv6, "fd00::2", "fd00::3", 137, 0, 0)
	http, https, ssh := tcp("10.0.0.2", "10.0.0.3", 40000, 80), tcp("10.0.0.2", "10.0.0.3", 40000, 443), tcp("10.0.0.2", "10.0.0.3", 40000, 22)
	http6 := tcp("fd00::2", "fd00::3", 40000, 80)
	fragment := tcp("10.0.0.2", "10.0.0.3", 0, 0)
	fragment.NoPorts = true
	type ask struct {
		q    *acl.Query
		want string // ID of the rule, or policy
	}
	for _, c := range []struct {
		name  string
		rules string // separated by semicolons
		dir   acl.Direction
		port  packet.PortID
		asks  []ask
	}{
		{"no rules", "", acl.In, web, []ask{{http, noRule}, {arp, noRule}}},
		{"whose", "web in deny; db in reject; away in deny", acl.In, web, []ask{{http, "r0"}}},
		{"a port that rests", "away in deny", acl.In, 0, []ask{{http, noRule}}},
		{"of the network", "db in deny; net in reject", acl.In, web, []ask{{http, "r1"}}},
		{"way", "web out deny", acl.In, web, []ask{{http, noRule}}},
		{"way out", "web out deny", acl.Out, web, []ask{{http, "r0"}}},
		{"first of equals", "web in deny --proto udp; web in allow; web in deny", acl.In, web, []ask{{http, "r1"}}},
		{"a port's before its network's", "net in deny; web in allow", acl.In, web, []ask{{http, "r1"}}},
		{"priority", "web in allow; net in deny --priority 32769", acl.In, web, []ask{{http, "r1"}}},
		{"port numbers", "web in allow --proto tcp --dport 80,400-500; web in deny", acl.In, web, []ask{{http, "r0"}, {https, "r0"}, {ssh, "r1"}}},
		{"source ports", "web in allow --proto tcp --sport 40000-40001; web in deny", acl.In, web, []ask{{http, "r0"}, {tcp("10.0.0.2", "10.0.0.3", 39999, 80), "r1"}}},
		{"prefixes", "web in deny --dst 10.0.0.2/31; web in allow --src 10.0.0.0/8; web in deny --src fd00::/64",
			acl.In, web, []ask{{http, "r0"}, {tcp("10.0.0.2", "10.0.0.1", 1, 1), "r1"}, {http6, "r2"}, {tcp("11.0.0.2", "10.0.0.1", 1, 1), noRule}}},
		{"everywhere is a family", "web in deny --dst 0.0.0.0/0", acl.In, web, []ask{{http, "r0"}, {http6, noRule}}},
		{"names", "web in deny --dst @db; web in allow --src @other; web in reject --src @net", acl.In, web,
			[]ask{{http, "r0"}, {http6, "r0"}, {tcp("10.0.0.2", "10.0.0.4", 1, 1), "r2"}, {tcp("10.1.0.2", "10.0.0.4", 1, 1), "r1"}}},
		{"nobody", "web in deny --dst @bare", acl.In, web, []ask{{http, noRule}}},
		{"kinds of a name", "web in deny --src @network:both; web in deny --src @port:both", acl.In, web, []ask{{tcp("10.2.0.2", "10.0.0.3", 1, 1), "r0"}}},
		{"protocol", "web in deny --proto icmp; web in deny --proto 200", acl.In, web,
			[]ask{{http, noRule}, {icmp(1, "10.0.0.2", "10.0.0.3", 8, 0, 7), "r0"}, {query(200, "10.0.0.2", "10.0.0.3", 0, 0), "r1"}}},
		{"ICMP types", "web in deny --proto icmp --icmp-type echo-request; web in reject --proto icmp --icmp-type 3/4", acl.In, web,
			[]ask{{icmp(1, "10.0.0.2", "10.0.0.3", 8, 0, 7), "r0"}, {icmp(1, "10.0.0.2", "10.0.0.3", 0, 0, 7), noRule},
				{icmp(1, "10.0.0.2", "10.0.0.3", 3, 4, 0), "r1"}, {icmp(1, "10.0.0.2", "10.0.0.3", 3, 3, 0), noRule}}},
		{"ARP and ND pass by", "web in deny", acl.In, web, []ask{{arp, noRule}, {solicit, noRule}, {lldp, "r0"}, {redirect, "r0"}}},
		{"ARP and ND pass by what names IP", "web in deny --proto icmp6; web in deny --src fd00::/64", acl.In, web, []ask{{solicit, noRule}, {redirect, "r0"}}},
		{"ARP named", "web in allow --ethertype arp --src-mac 02:00:00:00:00:02; web in deny --ethertype arp", acl.In, web, []ask{{arp, "r0"}, {lldp, noRule}}},
		{"ND named", "web in deny --proto icmp6 --icmp-type neighbor-solicitation", acl.In, web, []ask{{solicit, "r0"}}},
		{"MAC named", "web in deny --dst-mac 02:00:00:00:00:03", acl.In, web, []ask{{solicit, "r0"}, {lldp, "r0"}, {http, "r0"}, {arp, noRule}}},
		{"EtherTypes", "web in deny --ethertype 0x88cc; web in deny --ethertype ipv6", acl.In, web, []ask{{lldp, "r0"}, {http6, "r1"}, {http, noRule}}},
		{"fragments are not allowed", "web in allow --proto tcp --dport 80; web in deny --src 10.0.0.2", acl.In, web, []ask{{fragment, "r1"}}},
		{"fragments are denied", "web in deny --proto tcp --dport 25; web in allow", acl.In, web, []ask{{fragment, "r0"}}},
	} {
		var texts []string
		if c.rules != "" {
			texts = strings.Split(c.rules, ";")
		}
		s := compile(t, acl.Config{}, texts...)
		for i, a := range c.asks {
			r := s.Judge(c.dir, c.port, a.q, acl.New)
			if got := decided(&r); got != a.want {
				t.Errorf("%s: frame %d: %s decided, want %s", c.name, i, got, a.want)
			}
			if rule := r.Rule(); rule != nil && rule.Action != r.Action.String() {
				t.Errorf("%s: frame %d: %s, but the rule says %s", c.name, i, r.Action, rule.Action)
			}
		}
	}
}

func TestPolicies(t *testing.T) {
	q, other, answer := tcp("10.0.0.2", "10.0.0.3", 40000, 80), tcp("10.0.0.2", "10.0.0.3", 40000, 81), tcp("10.0.0.3", "10.0.0.2", 81, 40000)
	routed := *q
	routed.Gateway = true
	solicit := icmp(packet.ProtoICMPv6, "fd00::2", "fd00::3", 135, 0, 0)
	const open = "web in allow --proto tcp --dport 80"
	for _, c := range []struct {
		conf   acl.Config
		rules  []string
		dir    acl.Direction
		q      *acl.Query
		action acl.Action
		want   string
	}{
		{acl.Config{NoICC: true}, nil, acl.In, q, acl.Deny, noICC},
		{acl.Config{NoICC: true}, nil, acl.In, solicit, acl.Deny, noICC},
		{acl.Config{NoICC: true}, nil, acl.In, &routed, acl.Allow, noRule},
		{acl.Config{NoICC: true}, nil, acl.Out, q, acl.Allow, noRule},
		{acl.Config{NoICC: true}, []string{open}, acl.In, q, acl.Allow, "r0"},
		{acl.Config{NoICC: true}, []string{open}, acl.In, other, acl.Deny, noICC},
		{acl.Config{NoICC: true}, []string{open}, acl.In, solicit, acl.Allow, noRule},
		{acl.Config{NoICC: true}, []string{open}, acl.Out, answer, acl.Allow, noRule},
	} {
		s := compile(t, c.conf, c.rules...)
		r := s.Judge(c.dir, web, c.q, acl.New)
		if r.Action != c.action || decided(&r) != c.want {
			t.Errorf("%+v %q, %s %+v: %s by %q, want %s by %q", c.conf, c.rules, c.dir, c.q, r.Action, decided(&r), c.action, c.want)
		}
		if needs := len(c.rules) > 0 && (c.q == other || c.q == answer); r.NeedsState != needs {
			t.Errorf("%+v %q, %s %+v: needs state %v", c.conf, c.rules, c.dir, c.q, r.NeedsState)
		}
		if s.Empty() || !s.Has(c.dir) && c.action != acl.Allow {
			t.Errorf("%+v: Empty is %v, Has(%s) %v", c.conf, s.Empty(), c.dir, s.Has(c.dir))
		}
	}
}

// TestConnections: web may ask db by HTTP and be pinged, and nothing else begins at or reaches either.
func TestConnections(t *testing.T) {
	s := compile(t, acl.Config{}, "web in allow --dst @db --proto tcp --dport 80", "web in deny", "web out allow --proto icmp --icmp-type echo-request", "web out deny")
	ask, answer := tcp("10.0.0.2", "10.0.0.3", 40000, 80), tcp("10.0.0.3", "10.0.0.2", 80, 40000)
	ping, pong := icmp(1, "10.0.0.3", "10.0.0.2", 8, 0, 7), icmp(1, "10.0.0.2", "10.0.0.3", 0, 0, 7)
	igmp := query(2, "10.0.0.2", "10.0.0.3", 0, 0)
	group := *ask
	group.DstMAC = [6]byte{1, 0, 0x5e}
	for _, c := range []struct {
		name       string
		dir        acl.Direction
		q          *acl.Query
		state      acl.State
		action     acl.Action
		by         string
		needsState bool
	}{
		{"asks", acl.In, ask, acl.New, acl.Allow, "r0", true},
		{"goes on", acl.In, ask, acl.Original, acl.Allow, "r0", true},
		{"answer", acl.Out, answer, acl.Reply, acl.Allow, "r0", true},
		{"answer to nothing", acl.Out, answer, acl.New, acl.Deny, "r3", true},
		{"ping", acl.Out, ping, acl.New, acl.Allow, "r2", true},
		{"pong", acl.In, pong, acl.Reply, acl.Allow, "r2", true},
		{"pong to nothing", acl.In, pong, acl.New, acl.Deny, "r1", true},
		{"a reply to what is forbidden", acl.Out, tcp("10.0.0.3", "10.0.0.2", 22, 40000), acl.Reply, acl.Deny, "r1", true},
		{"no connection can be", acl.In, igmp, acl.New, acl.Deny, "r1", false},
		{"nor of a group", acl.In, &group, acl.New, acl.Allow, "r0", false},
	} {
		r := s.Judge(c.dir, web, c.q, c.state)
		if r.Action != c.action || decided(&r) != c.by || r.NeedsState != c.needsState {
			t.Errorf("%s: %s by %s, needs state %v; want %s by %s, %v", c.name, r.Action, decided(&r), r.NeedsState, c.action, c.by, c.needsState)
		}
	}
}

// TestNeedsState: only where it matters.
func TestNeedsState(t *testing.T) {
	http, answer := tcp("10.0.0.2", "10.0.0.3", 40000, 80), tcp("10.0.0.3", "10.0.0.2", 80, 40000)
	for _, c := range []struct {
		conf     acl.Config
		rules    []string
		stateful bool // any
		deep     bool
		in, out  bool // of http coming in from web, and answer going out to web
	}{
		{acl.Config{}, nil, false, false, false, false},
		{acl.Config{}, []string{"web in allow --proto tcp --dport 80"}, false, true, false, false},
		{acl.Config{}, []string{"web in allow --src-mac 02:00:00:00:00:02"}, false, false, false, false},
		{acl.Config{}, []string{"web in deny --ethertype 0x88cc"}, false, false, false, false},
		{acl.Config{}, []string{"web in deny --proto tcp --dport 25"}, true, true, false, false},
		{acl.Config{}, []string{"web in deny"}, true, true, true, true},                           // refused; and who asks by 'answer' gets none
		{acl.Config{}, []string{"web out deny"}, true, true, true, true},                          // the answer would be; it is
		{acl.Config{}, []string{"db in deny", "db out deny"}, true, true, false, false},           // another port's affair
		{acl.Config{}, []string{"web out deny --proto udp"}, true, true, false, false},            // other frames
		{acl.Config{}, []string{"web in deny --ethertype ipv6"}, true, true, false, false},        // other frames
		{acl.Config{}, []string{"web out reject --proto tcp --sport 80"}, true, true, true, true}, // the answer would be
		{acl.Config{NoICC: true}, nil, false, false, false, false},
		{acl.Config{NoICC: true}, []string{"web in allow --proto tcp --dport 80"}, true, true, false, false},
	} {
		s := compile(t, c.conf, c.rules...)
		in, out := s.Judge(acl.In, web, http, acl.New), s.Judge(acl.Out, web, answer, acl.New)
		if s.Stateful() != c.stateful || s.Deep() != c.deep || in.NeedsState != c.in || out.NeedsState != c.out {
			t.Errorf("%+v %q: stateful %v, deep %v, in %v, out %v; want %v, %v, %v, %v", c.conf, c.rules,
				s.Stateful(), s.Deep(), in.NeedsState, out.NeedsState, c.stateful, c.deep, c.in, c.out)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	many := make([]acl.Rule, acl.MaxRules+1)
	for _, c := range []struct {
		name  string
		rules []acl.Rule
		code  string
		id    string
		want  string
	}{
		{"a name", rules(t, "web in allow", "web in deny --src @gone"), api.CodeInvalid, "r1",
			"rule r1 'web in deny --src @gone': --src @gone: there is no such port or network; see 'vsctl list-ports'"},
		{"a name's kind", rules(t, "web in deny --dst @network:web"), api.CodeInvalid, "r0", "@network:web: there is no such"},
		{"two of a name", rules(t, "web in deny --dst @both"), api.CodeInvalid, "r0", "write @port:both or @network:both"},
		{"whose", rules(t, "gone in deny"), api.CodeInvalid, "r0", "gone is neither network net nor a port of it"},
		{"another network's", rules(t, "network:other in deny"), api.CodeInvalid, "r0", "other is neither network net nor a port of it"},
		{"not read", []acl.Rule{{ID: "x", On: "web", Direction: "in", Action: "deny", DstPorts: "80"}}, api.CodeInvalid, "x",
			"rule x 'web in deny --dport 80': --sport and --dport need a protocol with ports"},
		{"no ID", []acl.Rule{{On: "web", Direction: "in", Action: "deny"}}, api.CodeInvalid, "", `its ID "" is empty`},
		{"an ID twice", append(rules(t, "web in deny"), rules(t, "web out deny")...), api.CodeInvalid, "r0", `its ID "r0" is empty or another rule's`},
		{"too many", many, api.CodeExhausted, "", "would have 32769 rules; the limit is 32768"},
	} {
		_, err := acl.Compile(acl.Config{Network: "net", Rules: c.rules}, world{})
		var e *api.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Object != c.id || !strings.Contains(e.Detail, c.want) {
			t.Errorf("%s: %#v\nwant %s of %q: %s", c.name, err, c.code, c.id, c.want)
		}
	}
	_, err := acl.Compile(acl.Config{Network: "both", Rules: rules(t, "both in deny")}, world{})
	if err == nil || !strings.Contains(err.Error(), "write port:both or network:both") {
		t.Errorf("a rule on a port and a network of one name: %v", err)
	}
}

func TestFromFrame(t *testing.T) {
	from := func(ip string) packettest.Option { return packettest.From("02:00:00:00:00:02", ip, 40000) }
	to := func(ip string) packettest.Option { return packettest.To("02:00:00:00:00:03", ip, 80) }
	fragment := tcp("10.0.0.2", "10.0.0.3", 0, 0)
	fragment.NoPorts = true
	esp := query(50, "10.0.0.2", "10.0.0.3", 0, 0)
	esp.NoPorts = true
	for _, c := range []struct {
		name string
		f    *packet.Frame
		want *acl.Query
	}{
		{"TCP", packettest.TCP(from("10.0.0.2"), to("10.0.0.3"), packettest.VLAN(5)), tcp("10.0.0.2", "10.0.0.3", 40000, 80)},
		{"UDP over IPv6", packettest.UDP(from("fd00::2"), to("fd00::3")), query(packet.ProtoUDP, "fd00::2", "fd00::3", 40000, 80)},
		{"ping", packettest.ICMPEcho(from("10.0.0.2"), to("10.0.0.3"), packettest.Echo(7, 1)), icmp(1, "10.0.0.2", "10.0.0.3", 8, 0, 7)},
		{"fragment", packettest.TCP(from("10.0.0.2"), to("10.0.0.3"), packettest.Fragment(0, true)), fragment},
		{"ESP", packettest.IP(50, from("10.0.0.2"), to("10.0.0.3")), esp},
		{"ARP", packettest.ARPReply(from("10.0.0.2"), to("10.0.0.3")), &acl.Query{SrcMAC: mac2, DstMAC: mac3, EtherType: packet.EtherTypeARP}},
	} {
		if r := c.f.Parse(); r != packet.DropNone {
			t.Fatalf("%s: %s", c.name, r)
		}
		if got := acl.FromFrame(c.f); got != *c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, *c.want)
		}
	}
}

func TestReverse(t *testing.T) {
	for _, c := range []struct{ q, want *acl.Query }{
		{tcp("10.0.0.2", "10.0.0.3", 40000, 80), tcp("10.0.0.3", "10.0.0.2", 80, 40000)},
		{icmp(1, "10.0.0.2", "10.0.0.3", 0, 0, 7), icmp(1, "10.0.0.3", "10.0.0.2", 8, 0, 7)},
		{icmp(58, "fd00::2", "fd00::3", 129, 0, 7), icmp(58, "fd00::3", "fd00::2", 128, 0, 7)},
		{icmp(1, "10.0.0.2", "10.0.0.3", 3, 4, 0), icmp(1, "10.0.0.3", "10.0.0.2", 3, 4, 0)},
	} {
		c.want.SrcMAC, c.want.DstMAC = mac3, mac2
		if got := c.q.Reverse(); got != *c.want {
			t.Errorf("%+v reversed is %+v, want %+v", c.q, got, c.want)
		} else if back := got.Reverse(); back != *c.q {
			t.Errorf("%+v reversed twice is %+v", c.q, back)
		}
	}
}
