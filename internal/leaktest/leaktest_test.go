package leaktest_test

import (
	"strings"
	"testing"
	"time"

	"vswitch/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestOutlive: who ends is waited for, who does not is found.
func TestOutlive(t *testing.T) {
	before := leaktest.Goroutines()
	time.AfterFunc(50*time.Millisecond, func() {})
	go time.Sleep(50 * time.Millisecond)
	if left := leaktest.Outlive(before); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	end := make(chan struct{})
	go stay(end)
	defer close(end)
	var got []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got = left(before); len(got) == 1 && strings.Contains(got[0], "leaktest_test.stay(") {
			return
		}
	}
	t.Errorf("found %q", got)
}

func stay(end chan struct{}) { <-end }

// left returns who runs now and did not before.
func left(before map[string]string) (stacks []string) {
	for n, stack := range leaktest.Goroutines() {
		if before[n] == "" {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}
