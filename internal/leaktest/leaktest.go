// Package leaktest fails tests that leave goroutines behind.
package leaktest

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines that were told to end may take.
const patience = 30 * time.Second

// Main runs a package's tests and fails when a goroutine outlives them. To be called by TestMain.
func Main(m *testing.M) {
	code := m.Run()
	for _, stack := range Outlive(nil) {
		fmt.Fprintf(os.Stderr, "leaktest: a goroutine is left behind:\n%s\n\n", stack)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Goroutines returns the stacks of all goroutines but the caller's, by number.
func Goroutines() map[string]string {
	buf, n := make([]byte, 1<<16), 1<<16
	for n == len(buf) { // there may be more
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	all := strings.Split(string(buf[:n]), "\n\n")
	found := make(map[string]string)
	for _, stack := range all[1:] { // the first is our own
		if m := number.FindStringSubmatch(stack); m != nil && !always.MatchString(stack) {
			found[m[1]] = stack
		}
	}
	return found
}

var (
	number = regexp.MustCompile(`^goroutine (\d+) `)
	always = regexp.MustCompile(`os/signal\.(loop|signal_recv)`) // Go starts it once and for all
)

// Outlive waits until no goroutine runs that did not run before, and returns the stacks of those that do not end.
func Outlive(before map[string]string) (stacks []string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		stacks = nil
		for n, stack := range Goroutines() {
			if _, ok := before[n]; !ok {
				stacks = append(stacks, stack)
			}
		}
		if len(stacks) == 0 || time.Now().After(deadline) {
			slices.Sort(stacks)
			return stacks
		}
	}
}
