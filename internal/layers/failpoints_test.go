package layers_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vswitch/internal/reconcile"
)

// failpointCall matches where the program may be made to fail; a name that ends in a dot goes on with that of a step.
var failpointCall = regexp.MustCompile(`\.(?:at|passing)\("([a-z]+\.[a-z]*)"`)

// TestFailpoints: each step of attach, detach, set, start and transactions at which the daemon can be made to fail is one at which a
// test does so.
func TestFailpoints(t *testing.T) {
	code, tests := sources(t, "../vswitch")
	var names []string
	for _, m := range failpointCall.FindAllStringSubmatch(code, -1) {
		if m[1] != "start." {
			names = append(names, m[1])
			continue
		}
		for op := reconcile.Finish; op <= reconcile.Remake; op++ {
			names = append(names, m[1]+op.String())
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 30 {
		t.Errorf("only %d failpoints are found: %q", len(names), names)
	}
	for _, name := range names {
		if quoted := `"` + name; !strings.Contains(tests, quoted+`"`) && !strings.Contains(tests, quoted+":") && !strings.Contains(tests, "="+name+":") {
			t.Errorf("no test makes the daemon fail at %s", name)
		}
	}
}

// published matches the types of events that are named where they are published.
var published = regexp.MustCompile(`\.Publish\("([a-z.-]+)",`)

// TestEventsOnPage: docs/api.md names the events.
func TestEventsOnPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	code, _ := sources(t, "../vswitch")
	types := published.FindAllStringSubmatch(code, -1)
	if len(types) < 20 {
		t.Errorf("only %d events are found: %q", len(types), types)
	}
	for _, m := range types {
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("docs/api.md does not name the event %s", m[1])
		}
	}
}

// sources returns the text of a package, and that of its tests.
func sources(t *testing.T, dir string) (code, tests string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			tests += string(b)
		} else {
			code += string(b)
		}
	}
	return code, tests
}
