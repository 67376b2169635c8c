package acl_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/acl"
)

func set(t *testing.T, f *acl.Filter, all ...acl.Rule) {
	t.Helper()
	if err := f.Set(acl.Config{Network: "net", Rules: all}, world{}, 0); err != nil {
		t.Fatal(err)
	}
}

// TestFilter: a change is published, then the generation is raised, and rules that stay keep what they have counted.
func TestFilter(t *testing.T) {
	var f *acl.Filter
	var seen []int // rules at each renewal
	f = acl.NewFilter(func() { seen = append(seen, len(f.Snapshot().Stats())) })
	if !f.Snapshot().Empty() {
		t.Error("a new filter is not empty")
	}
	q := tcp("10.0.0.2", "10.0.0.3", 40000, 80)
	if r := f.Snapshot().Judge(acl.In, web, q, acl.New); r.Action != acl.Allow {
		t.Errorf("a new filter says %s", r.Action)
	}
	all := rules(t, "web in deny --proto udp", "web in allow --proto tcp", "net out deny --src @other")
	set(t, f, all...)
	old := f.Snapshot()
	for i := range int64(3) {
		r := old.Judge(acl.In, web, q, acl.New)
		r.Hit(100+i, 1)
	}
	set(t, f, all[1], all[0])
	r := old.Judge(acl.In, web, q, acl.New) // by a worker that is late
	r.Hit(110, 3)
	want := []acl.Stats{{Rule: all[1], Hits: 6, Last: 110}, {Rule: all[0]}}
	if d := cmp.Diff(want, f.Snapshot().Stats()); d != "" {
		t.Error(d)
	}
	if err := f.Set(acl.Config{Network: "net", Rules: rules(t, "gone in deny")}, world{}, 0); err == nil || len(f.Snapshot().Stats()) != 2 {
		t.Errorf("a rule at fault: %v, rules now %v", err, f.Snapshot().Stats())
	}
	if !slices.Equal(seen, []int{3, 2}) {
		t.Errorf("rules at each renewal: %v, want 3 and then 2", seen)
	}
	if !old.UsesNetwork("other") || old.UsesNetwork("net") || !old.UsesPort("web") || old.UsesPort("db") {
		t.Error("what the rules use is other than web and other")
	}
	if s := compile(t, acl.Config{}, "net in deny --dst @db"); !s.UsesPort("db") || s.UsesPort("web") {
		t.Error("what the rules use is other than db")
	}
}

// TestLogLimits: each rule may log 10 lines at once and one a second, all rules of a network 100 a second; what was left out is told.
func TestLogLimits(t *testing.T) {
	var texts []string
	for i := range 21 {
		texts = append(texts, fmt.Sprintf("web in deny --proto udp --dport %d --log", i), fmt.Sprintf("web in deny --proto tcp --dport %d", i))
	}
	f := acl.NewFilter(func() {})
	set(t, f, rules(t, texts...)...)
	s := f.Snapshot()
	hit := func(proto uint8, port uint16, now int64) (bool, uint64) {
		r := s.Judge(acl.In, web, query(proto, "10.0.0.2", "10.0.0.3", 1, port), acl.New)
		return r.Hit(now, 1)
	}
	const second = int64(1e9)
	lines, left := 0, uint64(0)
	for i := range int64(1000) {
		log, missed := hit(17, 0, 5*second+i)
		if log {
			lines, left = lines+1, left+missed
		}
		if log, _ := hit(6, 0, 5*second); log {
			t.Fatal("a rule without --log is logged")
		}
	}
	if lines != acl.LogBurst || left != 0 {
		t.Errorf("%d lines at once and %d missed, want %d and none", lines, left, acl.LogBurst)
	}
	if log, missed := hit(17, 0, 6*second+1000); !log || missed != 990 {
		t.Errorf("a second later: %v, %d missed, want one line and 990", log, missed)
	}
	set(t, f, rules(t, texts...)...) // does not fill the buckets again
	s = f.Snapshot()
	if log, _ := hit(17, 0, 6*second+2000); log {
		t.Error("a line more after a change of the rules")
	}
	lines = 0
	for i := range 20 * 10 {
		if log, _ := hit(17, uint16(i%20), 20*second); log {
			lines++
		}
	}
	if lines != acl.NetworkLogBurst {
		t.Errorf("%d lines of 20 rules at once, want %d", lines, acl.NetworkLogBurst)
	}
	set(t, f, rules(t, texts...)...)
	s = f.Snapshot()
	if log, _ := hit(17, 20, 20*second); log {
		t.Error("a line more of another rule")
	}
	if log, _ := hit(17, 20, 20*second+second/acl.NetworkLogRate); !log {
		t.Error("no line of another rule a hundredth of a second later")
	}
}

// TestChangesUnderWorkers runs judgements beside changes: for the race detector, and each judgement is of one configuration.
func TestChangesUnderWorkers(t *testing.T) {
	f := acl.NewFilter(func() {})
	a, b := rules(t, "web in deny --log"), rules(t, "web in reject --log")
	set(t, f, a...)
	q := tcp("10.0.0.2", "10.0.0.3", 40000, 80)
	done := make(chan struct{})
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for now := int64(0); ; now++ {
				select {
				case <-done:
					return
				default:
				}
				r := f.Snapshot().Judge(acl.In, web, q, acl.New)
				if r.Action == acl.Allow || r.Rule().Action != r.Action.String() {
					t.Errorf("%s by %v", r.Action, r.Rule())
				}
				r.Hit(now, 1)
			}
		})
	}
	for i := range 500 {
		set(t, f, [][]acl.Rule{a, b}[i%2]...)
	}
	close(done)
	workers.Wait()
}

func TestExplain(t *testing.T) {
	texts := []string{"web in allow --proto udp", "db in deny", "web in allow --proto tcp --dport 22", "net in deny --src fd00::/64",
		"web in deny --src-mac 02:00:00:00:00:09", "net in reject --proto tcp --log --priority 5"}
	s := compile(t, acl.Config{NoICC: true}, texts...)
	for _, c := range []struct {
		name  string
		dir   acl.Direction
		state acl.State
		want  string
	}{
		{"a rule", acl.In, acl.New, `
rule r0 'web in allow --proto udp': no, other protocol
rule r2 'web in allow --proto tcp --dport 22': no, other destination port
rule r4 'web in deny --src-mac 02:00:00:00:00:09': no, other source MAC
rule r3 'net in deny --src fd00::/64': no, other source
rule r5 'net in reject --proto tcp --priority 5 --log': reject`},
		{"a policy", acl.Out, acl.New, `
allow: no rule matches`},
		{"a reply", acl.In, acl.Reply, `
a reply: judged as what it answers
allow: no rule matches`},
	} {
		e := s.Explain(c.dir, web, tcp("10.0.0.2", "10.0.0.3", 40000, 80), c.state)
		if d := cmp.Diff(strings.TrimPrefix(c.want, "\n"), strings.Join(e.Lines(), "\n")); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	for _, r := range s.Stats() {
		if r.Hits != 0 {
			t.Errorf("explaining counted for %v", r.Rule)
		}
	}
	texts = nil
	for i := range 100 {
		texts = append(texts, fmt.Sprintf("web in deny --dst 10.9.0.%d", i))
	}
	e := compile(t, acl.Config{NoICC: true}, texts...).Explain(acl.In, web, tcp("10.0.0.2", "10.0.0.3", 1, 1), acl.New)
	if l := e.Lines(); len(l) != 18 || l[0] != "84 rules before these do not match" || l[17] != "deny: no rule matches, and the network is --icc=false" {
		t.Errorf("of 100 rules: %d lines, %q ... %q", len(l), l[0], l[len(l)-1])
	}
}
