package cpu

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/cputime"
)

func TestParseMachine(t *testing.T) {
	text := "cpu  100 0 50 1000 20 0 7 3 0 0\ncpu0 50 0 25 500 10 0 3 1 0 0\ncpu1 50 0 25 500 10 0 4 2 0 0\nintr 12345\nctxt 99\n"
	got, err := parseMachine(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Machine{Cores: 2, Idle: 10200 * time.Millisecond, Steal: 30 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "nothing here\n", "cpu  a b c d e f g h i j\n"} {
		if _, err := parseMachine(bad); err == nil {
			t.Errorf("parseMachine(%q) found no error", bad)
		}
	}
}

func TestBusyCores(t *testing.T) {
	start := time.Unix(1000, 0)
	from := Machine{At: start, Cores: 2, Idle: 10 * time.Second}
	to := Machine{At: start.Add(2 * time.Second), Cores: 2, Idle: 11 * time.Second, Steal: time.Second}
	if got := BusyCores(from, to); got != 1 { // of 4 core-seconds 1 was idle and 1 stolen
		t.Errorf("BusyCores = %v, want 1", got)
	}
	if got := StealShare(from, to); got != 0.25 {
		t.Errorf("StealShare = %v, want 0.25", got)
	}
	if got := BusyCores(from, from); got != 0 {
		t.Errorf("BusyCores over no time = %v, want 0", got)
	}
}

func TestParseProcess(t *testing.T) {
	tests := []struct {
		name, line string
		want       Process
		bad        bool
	}{
		{
			name: "plain",
			line: "42 (sleep) S 7 42 42 0 -1 4194304 100 0 0 0 12 3 4 5 20 0 1 0 100 1000 10\n",
			want: Process{PID: 42, Parent: 7, Own: 150 * time.Millisecond, Reaped: 90 * time.Millisecond},
		},
		{
			name: "a name made to confuse",
			line: "43 (a) S 1 (b) R 9 43 43 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 100 1000 10\n",
			want: Process{PID: 43, Parent: 9, Own: 20 * time.Millisecond},
		},
		{name: "cut", line: "44 (x) S 1 2 3", bad: true},
		{name: "empty", line: "", bad: true},
		{name: "not numbers", line: "x (y) S a b c d e f g h i j k l m n o p", bad: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseProcess(test.line)
			if (err != nil) != test.bad {
				t.Fatalf("error %v, want one: %v", err, test.bad)
			}
			if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	const us = 10
	start := time.Unix(0, 0)
	before := foreign([]Process{
		{PID: 1, Parent: 0, Own: time.Second},
		{PID: 2, Parent: 0},
		{PID: 3, Parent: 2, Own: 5 * time.Second}, // a kernel thread
		{PID: us, Parent: 1, Own: time.Second},
		{PID: 11, Parent: us, Own: time.Second},
		{PID: 20, Parent: 1, Own: time.Second},
	}, us, start)
	if before.Total != 2*time.Second {
		t.Errorf("foreign time %v, want 2s: processes 1 and 20", before.Total)
	}

	// Process 20 ran a child for 300 ms and waited for it; ours and a kernel thread were busy as well.
	after := foreign([]Process{
		{PID: 1, Parent: 0, Own: time.Second},
		{PID: 2, Parent: 0},
		{PID: 3, Parent: 2, Own: 6 * time.Second},
		{PID: us, Parent: 1, Own: 2 * time.Second},
		{PID: 20, Parent: 1, Own: 1100 * time.Millisecond, Reaped: 300 * time.Millisecond},
	}, us, start.Add(time.Second))
	if got := ForeignShare(before, after, 2); got != 0.2 {
		t.Errorf("foreign share %v, want 0.2: 400 ms of 2 core-seconds", got)
	}

	// Process 20 ended unwaited; 21 is new. The sum shrank, but 21's time is sure.
	after = foreign([]Process{
		{PID: 1, Parent: 0, Own: time.Second},
		{PID: 21, Parent: 1, Own: 500 * time.Millisecond},
	}, us, start.Add(time.Second))
	if got := ForeignShare(before, after, 2); got != 0.25 {
		t.Errorf("foreign share %v, want 0.25", got)
	}
}

func TestOfTreeGrows(t *testing.T) {
	before, err := OfTree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := cputime.Used(t); cputime.Used(t)-start < 20*time.Millisecond; {
	}
	after, err := OfTree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := after - before; grown < 15*time.Millisecond {
		t.Errorf("20 ms of spinning show up as %v", grown)
	}
}
