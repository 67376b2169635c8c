package api_test

import (
	"strings"
	"testing"

	"vswitch/internal/api"
)

func TestNames(t *testing.T) {
	for name, want := range map[string][2]bool{ // good for an object, for an interface
		"web": {true, true}, "9": {true, true}, "a-b_c": {true, true}, "eth0.100": {false, true}, "tun!~": {false, true}, "-x": {false, true},
		strings.Repeat("x", 15): {true, true}, strings.Repeat("x", 16): {true, false}, strings.Repeat("x", 64): {true, false}, strings.Repeat("x", 65): {},
		"": {}, ".": {}, "..": {}, "a/b": {}, "a:b": {}, "a b": {}, "a\n": {}, "a\x00": {}, "\x1b[m": {}, "a\x7f": {}, "a\u0085": {}, "a\u202eb": {},
		"\xff\xfe": {}, "\ufffd": {}, "\u00e4": {}, strings.Repeat("\u00e4", 15): {},
	} {
		if got := [2]bool{api.CheckName("port", name) == nil, api.CheckIfName(name) == nil}; got != want {
			t.Errorf("%q: allowed for an object and an interface: %v, want %v", name, got, want)
		}
	}
}
