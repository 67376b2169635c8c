package vswitch_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// badNames are what nothing may be called. A name is printed on terminals, written into logs and put into paths.
var badNames = []string{
	"a/b", "..", ".", "../net1", "-a", "a b", "a\nb", "a\r", "\x1b[2Jnet1", "a\x7f", "a\u202eb", "a\u0085b", "\xff\xfe", strings.Repeat("x", 65), "net1\u00e4",
}

// takers are the command lines that take a name, where BAD stands for it. $NS is a container.
var takers = []string{
	"add-network BAD", "add-network n --router BAD", "add-network n --driver BAD",
	"set-network BAD --mtu 1400", "del-network BAD", "del-network BAD --force", "del-network BAD --if-exists",
	"add-port BAD x --netns $NS --ifname x", "add-port net1 BAD --netns $NS --ifname x", "add-port net1 x --netns $NS --ifname BAD",
	"add-port net1 x --netns BAD --ifname x", "add-port net1 x --netns container:BAD --ifname x", "add-port net1 BAD --stage",
	"add-port net1 x --netns $NS --ifname x --alias BAD", "add-port net1 x --netns $NS --ifname x --type BAD",
	"add-port net1 x --netns $NS --ifname x --route BAD=10.9.0.1", "add-port net1 x --netns $NS --ifname x --route 10.8.0.0/16=BAD",
	"set-port BAD --mtu 1400", "set-port web --ifname BAD", "set-port web --alias BAD", "set-port web --alias BAD-",
	"set-port web --route BAD=10.9.0.1", "set-port web --route BAD-", "del-port BAD", "del-port BAD --if-exists",
	"connect BAD net1", "connect web BAD", "disconnect BAD", "disconnect web BAD", "disconnect web BAD --if-exists", "list-ports BAD",
	"show network BAD", "show port BAD", "fdb BAD", "fdb flush BAD", "add-fdb BAD " + stranger + " web", "add-fdb net1 " + stranger + " BAD",
	"add-fdb net1 BAD web", "del-fdb BAD " + stranger, "del-fdb net1 BAD", "trace in_port=BAD,tcp", "trace BAD", "apply -f BAD",
	"add-network BAD -- add-port BAD x --stage", "BAD",
}

// TestBadNames: each verb that takes a name refuses what is none by one plain line, and does nothing.
func TestBadNames(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	_, web := d.Pair("net1", "--subnet", subnet4)
	d.Must("del-port", "b")
	d.Join("net1", "web", web)
	before := d.Must("show", "-o", "json")
	for i, taker := range takers {
		for k := range 4 { // each name meets many verbs, and each verb many names
			bad := badNames[(4*i+k)%len(badNames)]
			var args []string
			for _, arg := range strings.Fields(strings.ReplaceAll(taker, "$NS", web.Name)) {
				args = append(args, strings.ReplaceAll(arg, "BAD", bad))
			}
			r := d.Vsctl(args...)
			if r.Code != 1 && r.Code != 2 || r.Out != "" {
				t.Errorf("vsctl %q: exit code %d, %q", args, r.Code, r.Out)
			}
			if line, whole := strings.CutSuffix(r.Err, "\n"); !whole || !strings.HasPrefix(line, "vsctl: ") || !plain(line) || len(line) > 1000 {
				t.Errorf("vsctl %q: the message is not one plain line: %q", args, r.Err)
			}
		}
	}
	namesInPaths(t, d)
	if after := d.Must("show", "-o", "json"); after != before {
		t.Errorf("something was left behind:\n%s\nbefore:\n%s", after, before)
	}
	for line := range strings.Lines(d.Log()) {
		if !plain(strings.TrimSuffix(line, "\n")) {
			t.Errorf("the log has %q", line)
		}
	}
}

// plain tells whether a terminal shows the text as it is.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// namesInPaths has a client that is not vsctl ask for the names, and for one with a NUL, which no command line can have.
func namesInPaths(t *testing.T, d *netnstest.Daemon) {
	t.Helper()
	client := overSocket(d)
	for _, bad := range append(badNames, "a\x00b", "%", "") {
		for _, request := range []string{
			"GET /v1/networks/BAD", "DELETE /v1/networks/BAD", "GET /v1/ports/BAD", "DELETE /v1/ports/BAD", "PATCH /v1/ports/BAD", "PATCH /v1/networks/BAD",
			"POST /v1/networks NAME", "POST /v1/ports NAME",
		} {
			method, path, _ := strings.Cut(request, " ")
			path, body := strings.ReplaceAll(path, "BAD", strings.ReplaceAll(url.PathEscape(bad), ".", "%2e")), "{}"
			if p, ok := strings.CutSuffix(path, " NAME"); ok {
				name, err := json.Marshal(bad)
				if err != nil {
					t.Fatal(err)
				}
				path, body = p, fmt.Sprintf(`{"name":%s,"network":"net1","stage":true}`, name)
			}
			r, err := http.NewRequestWithContext(t.Context(), method, "http://vswitch"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", request, err)
			}
			text, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || answer.StatusCode < 400 || answer.StatusCode >= 500 || !plain(strings.TrimSuffix(string(text), "\n")) {
				t.Errorf("%s %q: %s %q %v", request, bad, answer.Status, text, err)
			}
		}
	}
}

// TestInterfaceRenamedToNonsense: what a container's owner calls its interface does no harm to others, nor to those who look.
//
//	a eth0 === net1 === eth0, "\x1b[2J", ... b
func TestInterfaceRenamedToNonsense(t *testing.T) {
	for _, typ := range portTypes {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab := netnstest.New(t)
			d := lab.Daemon()
			a, b := pairOf(lab, d, "tap", typ)
			was := "eth0"
			for _, name := range []string{"\x1b[2Jx", "\xff\xfe", "a\u202eb", "..\u00e4", "--help", "'$(id)'"} {
				before := portOf(t, d, "b").IfName
				b.Run("ip", "link", "set", "dev", was, "down")
				b.Run("ip", "link", "set", "dev", was, "name", name)
				b.Run("ip", "link", "set", "dev", name, "up")
				was = name
				lab.Eventually("the new name is known", func() bool {
					p := portOf(t, d, "b")
					return p.IfName != before && p.Status.State == api.StateUp
				})
				ping(lab, a, b4)
				for _, look := range []string{"show", "list-ports", "show port b"} {
					for line := range strings.Lines(d.Must(strings.Fields(look)...)) {
						if !plain(strings.TrimSuffix(line, "\n")) {
							t.Errorf("%q: %s prints %q", name, look, line)
						}
					}
				}
				file := filepath.Join(filepath.Dir(d.State), "export")
				if err := os.WriteFile(file, []byte(d.Must("export")), 0o600); err != nil {
					t.Fatal(err)
				}
				if r := d.Vsctl("apply", "-f", file); r.Code != 0 {
					t.Errorf("%q: what was exported is refused: %s", name, r.Err)
				}
				if r := d.Vsctl("set-port", "b", "--label", "k=v"); r.Code != 0 {
					t.Errorf("%q: a change of something else is refused: %s", name, r.Err)
				}
				d.Kill()
				d.Start()
				ping(lab, a, b4)
			}
			d.Must("set-port", "b", "--ifname", "eth0")
			for line := range strings.Lines(d.Log()) {
				if !plain(strings.TrimSuffix(line, "\n")) {
					t.Errorf("the log has %q", line)
				}
			}
		})
	}
}
