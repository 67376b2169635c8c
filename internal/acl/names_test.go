package acl_test

import (
	"slices"
	"strings"
	"testing"

	"vswitch/internal/acl"
)

// TestNames: names get their kind where there is one such thing, and lose it where they are clear without.
func TestNames(t *testing.T) {
	has := func(kind, name string) bool {
		return slices.Contains([]string{"port:web", "port:db", "network:net1", "port:both", "network:both"}, acl.Owner(kind, name))
	}
	for text, want := range map[string]string{
		"web in allow":                           "port:web in allow",
		"net1 out deny --src @db":                "network:net1 out deny --src @port:db",
		"port:both in deny --dst @network:both":  "port:both in deny --dst @network:both",
		"both in deny":                           "error: a port and a network are both named both",
		"web in deny --src @gone":                "error: --src: no network or port",
		"port:net1 in deny":                      "error: no port \"net1\"",
		"web in deny --src @web --dst 10.0.0.1":  "port:web in deny --src @port:web --dst 10.0.0.1",
		"web in deny --dst @network:net1 --log":  "port:web in deny --dst @network:net1 --log",
		"web in deny --proto tcp --icmp-type 30": "error: ",
	} {
		r, err := acl.Parse(text)
		if err == nil {
			r, err = acl.Resolve(r, has)
		}
		got := r.String()
		if err != nil {
			got = "error: " + err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n  %s\nwant %s", text, got, want)
		}
		if brief := r.Brief(has); err == nil && brief.String() != strings.ReplaceAll(text, "network:net1", "net1") {
			t.Errorf("%s: briefly %s", text, brief.String())
		}
	}
}
