package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// hostile is what an attacker would like to send to a terminal: escapes in one byte and two, a forged line, a change of direction.
const hostile = "a\x1b[2Jb\u009b31mc\nvsctl: all is well\r\td\u202ee\x7f\x00f\U000e0041\xff"

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"web-1 ü 東京 '\"": "web-1 ü 東京 '\"",
		`back\slash`:     `back\slash`,
		hostile:          `a\x1b[2Jb\u009b31mc\nvsctl: all is well\r\td\u202ee\x7f\x00f\U000e0041\xff`,
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) is %q, want %q", in, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		if got := plain(s); strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("plain(%q) is %q", s, got)
		}
		body, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		json.Unmarshal(body, &before)
		if err := json.Unmarshal([]byte(harmlessJSON(string(body))), &after); err != nil || before != after {
			t.Errorf("%q became %q: %v", before, after, err)
		}
	})
}

// TestHostileText puts control characters wherever the daemon could be made to tell some.
func TestHostileText(t *testing.T) {
	b := servertest.New()
	b.Entries = []api.FDBEntry{{Network: hostile, MAC: hostile, Port: hostile, Origin: hostile}}
	b.Cached = []api.Flow{{InPort: hostile, Match: hostile, Actions: hostile}}
	b.Answer = api.Trace{Flow: hostile, Steps: []string{hostile}, Verdict: hostile}
	b.Dropped = []api.Drop{{Port: hostile, Reason: hostile, Sentence: hostile}}
	b.Self.Version, b.Self.Features = hostile, map[string]string{hostile: hostile}
	events := new(server.Events)
	events.Publish(hostile, hostile, hostile)
	socket := start(t, b, events)
	for _, command := range []string{"fdb net1", "fdb", "flows", "trace x", "drops", "show", "version", "events", "del-port " + "x\x1b[2J"} {
		for _, format := range formats {
			_, stdout, stderr := vsctl(t, socket, append(strings.SplitN(command, " ", 2), "-o", format)...)
			for line := range strings.Lines(stdout + stderr) {
				if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) && r != ' ' }) {
					t.Errorf("%s -o %s prints %q", command, format, line)
				}
				if strings.HasPrefix(line, "vsctl: all is well") {
					t.Errorf("%s -o %s prints a forged line", command, format)
				}
			}
		}
	}
}

// TestYAMLMeansTheSame reads what -o yaml prints and compares it with -o json.
func TestYAMLMeansTheSame(t *testing.T) {
	b := servertest.New()
	b.Self.Features = map[string]string{"a": "yes", "b": "null", "c": "0x10", "d": "1e3", "e": "", "f": " x: y # z", "g": "- a", "h": "2026-01-02",
		"i": "{", "j": "*a", "k": "\\x1b", "l": "'\"", "m": "two\nlines\n", "n": "~", "0123": "0123", "o": "12:34:56:10:20:30", "p": ".inf", "q": "On", "r": hostile[:len(hostile)-1]}
	b.Counted.Ports[0].RxBytes = 1<<64 - 1
	socket := start(t, b, new(server.Events))
	for _, command := range []string{"show", "stats", "list-ports", "drops"} {
		_, asJSON, _ := vsctl(t, socket, command, "-o", "json")
		_, asYAML, _ := vsctl(t, socket, command, "-o", "yaml")
		var v any
		if err := yaml.Unmarshal([]byte(asYAML), &v); err != nil {
			t.Fatalf("%s: %v in\n%s", command, err, asYAML)
		}
		back, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := canonical(t, []byte(asJSON)), canonical(t, back); want != got {
			t.Errorf("%s: as JSON\n%s\nas YAML\n%s", command, want, got)
		}
	}
}

// canonical reads JSON and writes it with sorted keys.
func canonical(t *testing.T, b []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestVLANLists(t *testing.T) {
	for in, want := range map[string][]api.VLANRange{
		"10":       {{First: 10, Last: 10}},
		"10,20-30": {{First: 10, Last: 10}, {First: 20, Last: 30}},
		"all":      {{First: 1, Last: 4094}},
		"1-4094":   {{First: 1, Last: 4094}},
		"":         nil, "0": nil, "4095": nil, "1-": nil, "-1": nil, "a": nil, "1-2-3": nil, "10 ": nil, "+1": nil,
	} {
		var got []api.VLANRange
		if err := vlanList(&got)(in); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q is %v, %v, want %v", in, got, err, want)
		}
	}
}
