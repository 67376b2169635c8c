package vswitch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// TestRulesApply: exported, compared and applied; those that stay keep ids and counts; ten thousand in a file.
func TestRulesApply(t *testing.T) {
	t.Parallel()
	_, d, a, _, _ := ruled(t)
	file := filepath.Join(t.TempDir(), "vswitch.yaml")
	run := func(verb, text string, code int) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := d.Vsctl(verb, "-f", file)
		if r.Code != code {
			t.Fatalf("%s: exit %d: %s%s", verb, r.Code, r.Out, r.Err)
		}
		return r.Out + r.Err
	}
	plain := d.Must("export")
	with := func(rules string) string {
		return strings.Replace(plain, "      b:\n", "      b:\n        rules: ["+rules+"]\n", 1)
	}
	first := `"out reject --proto tcp --dport 81", "out reject --src @a --proto tcp --dport 80"`
	if out := run("apply", with(first), 0); out != "+ rule b: out reject --proto tcp --dport 81\n+ rule b: out reject --proto tcp --src @port:a --dport 80\n" {
		t.Errorf("apply: %q", out)
	}
	if got := dial(a, "tcp", "10.9.0.3:80", "refused"); got != "refused" {
		t.Errorf("an applied rule: %q", got)
	}
	text := d.Must("export")
	if !strings.Contains(text, "- out reject --proto tcp --src @a --dport 80\n") && !strings.Contains(text, `"out reject --proto tcp --src @a --dport 80"`) {
		t.Errorf("export: %s", text)
	}
	if out := run("diff", text, 0); out != "" {
		t.Errorf("diff of the export: %s", out)
	}
	if out := run("diff", with(`"out reject --src @a --proto tcp --dport 80", "out reject --proto tcp --dport 81"`), 1); out != "~ rule b: in another order\n" {
		t.Errorf("diff of another order: %q", out)
	}
	if out := run("diff", with(`"out reject --proto tcp --dport 81", "in deny"`), 1); out != "- rule b: out reject --proto tcp --src @port:a --dport 80\n+ rule b: in deny\n" {
		t.Errorf("diff: %q", out)
	}
	run("apply", with(`"out reject --src @a --proto tcp --dport 80", "in deny --proto sctp"`), 0)
	list := netnstest.Get[[]api.RuleEntry](d, "list-rules", "b")
	if len(list) != 2 || list[1].ID != "r2" || list[1].Packets == 0 || list[0].ID != "r3" {
		t.Errorf("rules that stayed: %+v", list)
	}
	for text, want := range map[string]string{
		`"out reject --src @nobody"`: `port b: --src: no network or port "nobody"`, `"out rejekt"`: `action "rejekt"`, `"in deny", "in deny"`: "there twice", `7`: "number 7 where text",
	} {
		if out := run("apply", with(text), 1); !strings.Contains(out, want) {
			t.Errorf("%s: %s", text, out)
		}
	}
	var many strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&many, "          - in deny --proto udp --dst 10.7.%d.%d\n", i/256, i%256)
	}
	start := time.Now()
	run("apply", strings.Replace(plain, "      b:\n", "      b:\n        rules:\n"+many.String(), 1), 0)
	t.Logf("10,000 rules were applied in %v", time.Since(start))
	if got := dial(a, "tcp", "10.9.0.3:80", ""); got != "" {
		t.Errorf("beside 10,000 rules: %q", got)
	}
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules", "net1"); len(list) != 10000 {
		t.Errorf("there are %d rules", len(list))
	}
	run("apply", plain, 0)
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules"); len(list) != 0 {
		t.Errorf("%d rules are left", len(list))
	}
}

// TestRulesRefused: each with what is wrong, and without any effect.
func TestRulesRefused(t *testing.T) {
	t.Parallel()
	_, d, _, _, _ := ruled(t)
	d.Must("add-network", "a", "--no-subnet")
	d.Must("add-rule", "b", "in", "deny", "--proto", "tcp")
	for _, c := range []struct{ line, words string }{
		{"nobody in deny", `no network or port "nobody"`},
		{"port:net1 in deny", `no port "net1"`},
		{"a in deny", "write port:a or network:a"},
		{"b in deny --src @a", "write port:a or network:a"},
		{"b in deny --src @x", `--src: no network or port "x"`},
		{"b in deny --proto tcpp", "--proto"},
		{"b in deny --proto 256", "--proto"},
		{"b in deny --src 10.0.0.1/8", "use 10.0.0.0/8"},
		{"b in deny --src 10.0.0.0/33", "--src"},
		{"b in deny --dst fe80::1%eth0", "--dst"},
		{"b in deny --src ::ffff:10.0.0.1", "write the IPv4 address"},
		{"b in deny --src 10.0.0.1 --dst fd00::1", "no frame can match"},
		{"b in deny --dport 80", "add --proto"},
		{"b in deny --proto tcp --dport 70000", "ports from 0 to 65535"},
		{"b in deny --proto tcp --sport 9-8", "ends before it begins"},
		{"b in deny --icmp-type 8", "needs --proto icmp"},
		{"b in deny --proto icmp --icmp-type 999", "--icmp-type"},
		{"b in deny --src-mac 02:00", "not a MAC address"},
		{"b in deny --ethertype vlan", "--ethertype"},
		{"b in deny --ethertype arp --proto tcp", "not IP"},
		{"b in deny --proto tcp", "there is the same rule already: r1"},
		{"b in deny -- add-rule b in deny", "operation 2 of 2"},
	} {
		d.Refused(1, c.words, append([]string{"add-rule"}, strings.Fields(c.line)...)...)
	}
	d.Refused(2, "", "add-rule", "b", "in")
	for _, n := range []string{"x", "0", "-1", "65536"} {
		d.Refused(2, "1 to 65535", "add-rule", "b", "in", "deny", "--priority", n)
	}
	d.Refused(2, "use in, out", "add-rule", "b", "sideways", "deny")
	d.Refused(2, "use allow, deny, reject", "add-rule", "b", "in", "permit")
	d.Refused(1, `no rule "r9"`, "del-rule", "r9")
	d.Refused(1, `no network or port "zz"`, "list-rules", "zz")
	d.Must("del-rule", "r9", "--if-exists")
	d.Must("add-rule", "b", "in", "deny", "--proto", "tcp", "--may-exist")
	d.Must("add-rule", "port:a", "in", "deny", "--src", "@network:a", "--", "del-rule", "r2", "--dry-run")
	if list := netnstest.Get[[]api.RuleEntry](d, "list-rules"); len(list) != 1 {
		t.Errorf("rules: %+v", list)
	}
}
