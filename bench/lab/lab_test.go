package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestOrphan(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		want bool
	}{
		{fmt.Sprintf("vswbench-%d-bridge-a", dead.Process.Pid), true},
		{fmt.Sprintf("vswbench-%d", dead.Process.Pid), true},
		{fmt.Sprintf("vswbench-%d-bridge-a", os.Getpid()), false},
		{fmt.Sprintf("other-%d-a", dead.Process.Pid), false},
		{"vswbench-x-a", false},
		{"vswbench-", false},
		{"vswbench-0-a", false},
		{"vswbench--1-a", false},
		{"", false},
	}
	for _, test := range tests {
		if got := orphan(test.name); got != test.want {
			t.Errorf("orphan(%q) = %v, want %v", test.name, got, test.want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	for i := range 3000 {
		fmt.Fprintf(&tl, "line %d\n", i)
	}
	got := tl.String()
	if len(got) != tailSize || !strings.HasSuffix(got, "line 2999\n") {
		t.Errorf("%d bytes that end with %q", len(got), got[max(0, len(got)-20):])
	}
}

func TestEnded(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if ended(sleeper.Process.Pid) {
		t.Error("a sleeper has ended")
	}
	sleeper.Process.Kill()
	sleeper.Wait()
	if !ended(sleeper.Process.Pid) {
		t.Error("a killed sleeper has not ended")
	}
}

func TestKindsAreDifferent(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range Kinds {
		if seen[kind.Name] || kind.About == "" || kind.build == nil {
			t.Errorf("peer %q is incomplete or there twice", kind.Name)
		}
		seen[kind.Name] = true
	}
}
