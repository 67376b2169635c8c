package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
	"vswitch/internal/flowspec"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Unsetenv("VSWITCH_SOCKET")
	release = "1.0"
	os.Exit(m.Run())
}

// vsctl runs a command line against the daemon at socket.
func vsctl(t *testing.T, socket string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), append([]string{"--socket", socket}, args...), &out, &err)
	return status, out.String(), err.String()
}

func start(t *testing.T, b server.Backend, events *server.Events) string {
	t.Helper()
	socket, _ := servertest.Start(t, b, events, slog.New(slog.DiscardHandler))
	return socket
}

// TestGolden compares what commands print with testdata/NAME.txt.
func TestGolden(t *testing.T) {
	for name, line := range map[string]string{
		"list-networks":            "list-networks",
		"list-networks-json":       "list-networks -o json",
		"list-networks-yaml":       "list-networks -o yaml",
		"list-networks-no-headers": "list-networks --no-headers",
		"add-network":              "add-network net2 --subnet 10.2.0.0/24 --subnet fd00:2::/64",
		"add-network-pure-l2":      "add-network lab2 --no-subnet",
		"list-ports":               "list-ports",
		"list-ports-of":            "list-ports net1",
		"add-port":                 "add-port net1 db --netns db --ip 10.0.0.9",
		"show-trunk":               "show port trunk",
		"add-port-no-ip":           "add-port net1 fw --netns fw --no-ip --trunk 10,20-30 --native 10",
		"add-port-json":            "add-port net1 fw --stage --trunk all --native 10 -o json",
		"transaction":              "del-network net1 --force -- add-network net2 --subnet 10.2.0.0/24 -- add-port net2 db --netns db --ip 10.2.0.9",
		"transaction-json":         "-o json -- add-network net2 --subnet 10.2.0.0/24 -- del-port web --if-exists",
		"export":                   "export",
		"export-json":              "export -o json",
		"apply":                    "apply -f testdata/config.yaml",
		"apply-json":               "apply -f testdata/config.yaml --no-delete --dry-run -o json",
		"help-diff":                "diff --help",
		"help-apply":               "apply --help",
		"dry-run":                  "add-port net1 db --netns db --ip 10.0.0.9 --dry-run",
		"dry-run-json":             "add-network net2 --dry-run -o json",
		"fdb":                      "fdb",
		"fdb-list":                 "fdb list net1",
		"fdb-empty":                "fdb net9",
		"fdb-flush":                "fdb flush net1",
		"list-routes":              "list-routes",
		"add-uplink":               "add-uplink eth1 --name backup --metric 200 --nat-ports 50000-50999",
		"add-uplink-json":          "add-uplink auto --name out -o json",
		"del-uplink":               "del-uplink wan",
		"list-uplinks":             "list-uplinks",
		"list-uplinks-yaml":        "list-uplinks -o yaml",
		"show-uplink":              "show uplink auto",
		"help-add-uplink":          "add-uplink --help",
		"add-route":                "add-route 10.8.0.0/16 via 10.0.0.8,10.0.0.9 --metric 7",
		"add-route-inactive":       "add-route default via fd00:9::1 --router lab",
		"del-route":                "del-route 10.9.0.0/16",
		"neigh":                    "neigh",
		"publish":                  "publish web 443 --from 10.0.0.0/8 --from ::1",
		"publish-json":             "publish web 8080:80/udp -o json",
		"unpublish":                "unpublish web 80/udp --if-exists",
		"list-published":           "list-published",
		"list-published-of":        "list-published trunk -o yaml",
		"help-publish":             "publish --help",
		"conntrack":                "conntrack",
		"conntrack-json":           "conntrack list net1 --port web --proto tcp -o json",
		"conntrack-yaml":           "conntrack net2 -o yaml",
		"conntrack-none":           "conntrack --src 10.0.0.0/24 --dst fd00::1 --sport 1 --dport 2 --state new --router main --translated",
		"conntrack-flush":          "conntrack flush net1 --proto icmp6",
		"help-conntrack":           "conntrack --help",
		"list-rules":               "list-rules",
		"list-rules-json":          "list-rules web -o json",
		"add-rule":                 "add-rule web in deny --proto tcp --dst @db --dport 22 --priority 9 --log",
		"del-rule":                 "del-rule r9 --if-exists -- del-rule r1",
		"help-add-rule":            "add-rule --help",
		"neigh-flush":              "neigh flush net1 -o json",
		"help-add-route":           "add-route --help",
		"flows":                    "flows",
		"flows-flush":              "flows flush",
		"flows-flush-json":         "flows flush -o json",
		"trace":                    "trace in_port=web,tcp,tcp_dst=80",
		"stats":                    "stats",
		"stats-json":               "stats -o json",
		"drops":                    "drops",
		"show":                     "show",
		"show-network":             "show network net1",
		"show-port":                "show port web",
		"show-port-yaml":           "show port web -o yaml",
		"help":                     "--help",
		"help-add-port":            "add-port --help",
		"help-add-network":         "add-network --help",
		"help-set-network":         "set-network --help",
		"help-set-port":            "set-port --help",
		"set-network":              "set-network net1 --mtu 1400 --label a=b",
		"set-port":                 "set-port web --mtu 1400 --ip 10.0.0.9",
		"disconnect":               "disconnect web",
		"disconnect-if-exists":     "disconnect db --if-exists",
		"connect":                  "connect web lab --ip 10.0.0.9 --may-exist",
	} {
		t.Run(name, func(t *testing.T) {
			b := servertest.New()
			addTrunk(t, b)
			socket := start(t, b, new(server.Events))
			status, stdout, stderr := vsctl(t, socket, strings.Fields(line)...)
			if status != exitOK || stderr != "" {
				t.Fatalf("exit %d: %s", status, stderr)
			}
			golden(t, name, strings.ReplaceAll(stdout, socket, "SOCKET"))
		})
	}
}

// addTrunk adds a network without subnets, and a port with all that a port can have.
func addTrunk(t *testing.T, b *servertest.Backend) {
	t.Helper()
	native := uint16(10)
	_, err := b.AddNetwork(t.Context(), api.NetworkRequest{Name: "lab", MTU: 9000, Labels: map[string]string{"team": "lab", "a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.AddPort(t.Context(), api.PortRequest{Name: "trunk", Network: "lab", Stage: true, Native: &native, Isolated: true, Metric: 50,
		Trunk:  []api.VLANRange{{First: 10, Last: 10}, {First: 20, Last: 30}},
		Routes: []api.Route{{Prefix: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("10.0.0.9")}}, DefaultRoute: "no",
		Aliases: []string{"x", "y"}, Publish: []api.Publish{{HostPort: 53, Port: 53, Last: 53, Proto: "udp"}}, Labels: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDisconnectedPort: it belongs to no network, and is shown nevertheless.
func TestDisconnectedPort(t *testing.T) {
	b := servertest.New()
	if _, err := b.Disconnect(t.Context(), "web", api.DisconnectRequest{}); err != nil {
		t.Fatal(err)
	}
	socket := start(t, b, new(server.Events))
	for name, line := range map[string]string{"show-disconnected": "show", "list-ports-disconnected": "list-ports"} {
		_, stdout, _ := vsctl(t, socket, strings.Fields(line)...)
		golden(t, name, stdout)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("-%s +got:\n%s", path, d)
	}
}

func TestEvents(t *testing.T) {
	events := new(server.Events)
	events.Publish("port.added", "web", "in net1")
	events.Publish("daemon.notice", "", "escape \x1b]0;x\x07")
	socket := start(t, servertest.New(), events)
	_, text, _ := vsctl(t, socket, "events")
	lines := strings.Split(text, "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "Z  port.added        web               in net1") ||
		!strings.HasSuffix(lines[1], `Z  daemon.notice     -                 escape \x1b]0;x\a`) {
		t.Errorf("text is %q", text)
	}
	_, text, _ = vsctl(t, socket, "events", "--since", "1", "-o", "json")
	var e api.Event
	if err := json.Unmarshal([]byte(text), &e); err != nil || e.Seq != 2 || e.Message != "escape \x1b]0;x\x07" || strings.Count(text, "\n") != 1 {
		t.Errorf("JSON is %q: %v", text, err)
	}
	_, text, _ = vsctl(t, socket, "events", "-o", "yaml")
	if strings.Count(text, "---\n") != 2 || strings.Contains(text, "\x1b") {
		t.Errorf("YAML is %q", text)
	}
}

func TestEventsFollowUntilInterrupted(t *testing.T) {
	events := new(server.Events)
	events.Publish("port.added", "web", "")
	socket := start(t, servertest.New(), events)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stderr bytes.Buffer
	out := writer(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte("port.gone")) {
			interrupt()
		} else {
			events.Publish("port.gone", "web", "")
		}
		return len(b), nil
	})
	if status := run(ctx, []string{"--socket", socket, "--timeout", "1ns", "events", "-f"}, out, &stderr); status != exitOK || stderr.Len() > 0 {
		t.Errorf("exit %d: %s", status, &stderr)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestVersion(t *testing.T) {
	_, text, _ := vsctl(t, start(t, servertest.New(), new(server.Events)), "version")
	if !strings.HasPrefix(text, "vsctl 1.0, API v1, go1") || !strings.HasSuffix(text, "\nvswitchd 0.1.0, API v1, go1.26, Linux 6.18.0\n") {
		t.Errorf("got %q", text)
	}
	status, text, _ := vsctl(t, "/nonexistent", "version")
	if status != exitUnreachable || !strings.HasPrefix(text, "vsctl 1.0") {
		t.Errorf("without a daemon: exit %d, %q", status, text)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		status     int
		stderr     string
	}{
		{"deleted", "del-port web", exitOK, ""},
		{"deleted by force", "del-network net1 --force", exitOK, ""},
		{"static MAC", "add-fdb net1 02:42:0a:00:00:63 web --vlan 10", exitOK, ""},
		{"deleted MAC", "del-fdb net1 02:42:0a:00:00:63 --vlan 10", exitOK, ""},
		{"missing, never mind", "del-port db --if-exists", exitOK, ""},
		{"no such network, never mind", "del-network net9 --if-exists", exitOK, ""},
		{"no such MAC, never mind", "del-fdb net1 02:42:0a:00:00:64 --if-exists", exitOK, ""},
		{"no such port", "del-port db", exitRefused, `vsctl: there is no port "db": list-ports shows them`},
		{"connected already", "connect web net1", exitRefused, `there is a port "web" already`},
		{"other network", "disconnect web lab --if-exists", exitRefused, `there is a port "web" already`},
		{"no such port to change", "set-port db --mtu 9", exitRefused, `there is no port "db"`},
		{"no such network to change", "set-network net9 --mtu 9", exitRefused, `there is no network "net9"`},
		{"no such port to connect", "connect db net1", exitRefused, `there is no port "db"`},
		{"nothing to change of a port", "set-port web", exitUsage, "nothing to change is given"},
		{"nothing to change of a network", "set-network net1 -o json", exitUsage, "nothing to change is given"},
		{"bad label change", "set-network net1 --label x", exitUsage, "use KEY=VALUE to set it, KEY- to remove it"},
		{"bad address to remove", "set-port web --ip 10.0.0-", exitUsage, "10.0.0"},
		{"access and native", "set-port web --vlan 0 --native 3", exitUsage, "--vlan and --native exclude each other"},
		{"bad native", "set-port web --native 4095", exitUsage, "use a number from 1 to 4094"},
		{"no such port to show", "show port db", exitRefused, `vsctl: there is no port "db"`},
		{"ports of no network", "list-ports net9", exitRefused, `vsctl: there is no network "net9"`},
		{"in use", "del-network net1 --if-exists", exitRefused, "vsctl: network net1 has ports: delete them first or use --force"},
		{"exists", "add-network net1", exitRefused, `vsctl: there is a network "net1" already: choose another name or use --may-exist`},
		{"bad name", "add-network .x", exitRefused, `vsctl: network name ".x" is not allowed`},
		{"bad name to show", "show port a/b", exitRefused, `vsctl: port name "a/b" is not allowed`},
		{"unknown command", "add-bridge x", exitUsage, "vsctl: there is no command \"add-bridge\"; see `vsctl --help`"},
		{"misspelt command", "list-port", exitUsage, "did you mean list-ports?"},
		{"misspelt flag", "add-network x --subnt 10.0.0.0/24", exitUsage, "unknown flag: --subnt: did you mean --subnet?; see `vsctl add-network --help`"},
		{"unknown flag", "add-port net1 web --netns x --expose 80", exitUsage, "vsctl: unknown flag: --expose; see `vsctl add-port --help`"},
		{"bad published port", "publish web 8080:0", exitUsage, `port \"0\": use a number from 1 to 65535`},
		{"bad client", "publish web 80 --from 10.0.0.1/8", exitUsage, "use 10.0.0.0/8"},
		{"nothing to publish", "publish web", exitUsage, "SPEC is missing"},
		{"not published", "unpublish web 80", exitRefused, "published-port"},
		{"later flag", "add-network x --dns 1.1.1.1", exitUsage, "--dns"},
		{"argument missing", "add-port net1", exitUsage, "vsctl: PORT is missing; see `vsctl add-port --help`"},
		{"argument too many", "stats web", exitUsage, `vsctl: argument "web" is one too many`},
		{"bad subnet", "add-network x --subnet 10.0.0.0", exitUsage, `--subnet \"10.0.0.0\": use ADDRESS/LENGTH, such as`},
		{"bad gateway", "add-network x --gateway 10.0.0.0/24", exitUsage, `--gateway \"10.0.0.0/24\": use an address, such as`},
		{"bad number", "add-network x --mtu big", exitUsage, `--mtu \"big\": use a number`},
		{"object of no kind", "show web", exitUsage, `\"web\" is none of network, port and uplink`},
		{"bad label", "add-network x --label team", exitUsage, "use KEY=VALUE"},
		{"bad masquerade", "add-network x --masquerade yes", exitUsage, `--masquerade is "yes": use auto, on, off`},
		{"bad bool", "add-network x --icc=perhaps", exitUsage, `--icc \"perhaps\": use true or false`},
		{"subnet or none", "add-network x --subnet 10.0.0.0/24 --no-subnet", exitUsage, "--subnet and --no-subnet exclude each other"},
		{"no namespace", "add-port net1 x", exitUsage, "the port's namespace is missing: give --netns, --pid or --stage"},
		{"two namespaces", "add-port net1 x --netns x --pid 3", exitUsage, "--netns and --pid exclude each other"},
		{"bad pid", "add-port net1 x --pid 0", exitUsage, "--pid is 0"},
		{"access and trunk", "add-port net1 x --stage --vlan 3 --trunk all", exitUsage, "--vlan and --trunk exclude each other"},
		{"native without trunk", "add-port net1 x --stage --native 3", exitUsage, "--native needs --trunk"},
		{"VLAN too high", "add-port net1 x --stage --vlan 4095", exitUsage, "use a number from 1 to 4094"},
		{"VLAN range backwards", "add-port net1 x --stage --trunk 30-20", exitUsage, `range \"30-20\" ends before it starts`},
		{"VLAN list with a hole", "add-port net1 x --stage --trunk 10,,20", exitUsage, "VLAN"},
		{"bad route", "add-port net1 x --stage --route 10.0.0.0/8", exitUsage, "use PREFIX=IP"},
		{"bad type", "add-port net1 x --stage --type macvtap", exitUsage, "use tap, veth"},
		{"several commands", "del-port web -- -- del-network net1 --", exitOK, ""},
		{"options before them", "--timeout 9s -- del-port web -- del-network net1", exitOK, ""},
		{"one of several refused", "del-port web -- del-port db -- del-network net1", exitRefused, `operation 2 of 3 (del-port db): there is no port "db"`},
		{"one of several misspelt", "del-port web -- del-prot db", exitUsage, "did you mean del-port?"},
		{"flag of one of several", "del-port web -- del-network net1 --fource", exitUsage, "--fource: did you mean --force?; see `vsctl del-network --help`"},
		{"look among several", "del-port web -- list-ports", exitUsage, "list-ports can't be one of several commands"},
		{"events among several", "del-port web -- events -f", exitUsage, "events can't be one of several commands"},
		{"dry run of a look", "show --dry-run", exitUsage, "--dry-run is of no use"},
		{"no difference", "diff -f testdata/same.yaml --no-delete", exitOK, ""},
		{"difference refused", "diff -f testdata/bad.yaml", exitUsage, `vsctl: line 3, column 5: unknown key "mtuu": use age, `},
		{"refused", "apply -f testdata/bad.yaml", exitRefused, `vsctl: line 3, column 5: unknown key "mtuu": use age, `},
		{"no such file", "apply -f testdata/none.yaml", exitUsage, "no such file"},
		{"no file", "diff", exitUsage, "the file is missing: give -f FILE"},
		{"apply among several", "apply -f testdata/same.yaml -- del-port web", exitUsage, "apply can't be one of several commands"},
		{"dry run of diff", "diff -f testdata/same.yaml --dry-run", exitUsage, "--dry-run is of no use"},
		{"bad format", "list-ports -o xml", exitUsage, `--output is "xml": use text, json, yaml`},
		{"bad shell", "completion tcsh", exitUsage, `no completion for "tcsh"`},
		{"bad protocol", "conntrack --proto tpc", exitUsage, `protocol \"tpc\": use tcp, `},
		{"bad state", "conntrack flush --state open", exitUsage, `state \"open\": use new, `},
		{"empty filter", "conntrack flush --port=", exitUsage, "port is empty"},
		{"value of a switch", "set-network net1 --icc false", exitUsage, `argument "false" is one too many: did you mean --icc=false?`},
		{"unknown letter", "add-network -x", exitUsage, "vsctl: unknown shorthand flag: 'x' in -x; see"},
		{"route without via", "add-route 10.9.0.0/16 10.0.0.9", exitUsage, `\"10.0.0.9\" stands where via is wanted`},
		{"metric as of ip", "add-route 10.9.0.0/16 via 10.0.0.9 metric 5", exitUsage, "the metric is a flag: --metric 5"},
		{"no metric", "add-route 10.9.0.0/16 via 10.0.0.9 --metric 0", exitUsage, `--metric \"0\": use a number from 1 to 2147483647`},
		{"negative metric", "add-uplink eth0 --metric -4", exitUsage, `--metric \"-4\": use a number from 1 to 2147483647`},
		{"route deleted by its next hop", "del-route 10.9.0.0/16 via 10.0.0.9", exitUsage, "leave out via and what is behind it"},
		{"bad direction", "add-rule net1 into allow", exitUsage, `direction is \"into\": use in, out`},
		{"bad action", "add-rule net1 in drop", exitUsage, `action is \"drop\": use allow, deny, reject`},
		{"no priority", "add-rule net1 in deny --priority 0", exitUsage, `--priority \"0\": use a number from 1 to 65535`},
		{"bad mode", "add-uplink eth0 --mode private", exitUsage, `--mode is \"private\": use shared, dedicated`},
		{"value said once", "conntrack --sport 99999", exitUsage, "vsctl: --sport: sport is \"99999\": use a number"},
		{"help of nothing", "help add-prot", exitUsage, `there is no command "add-prot": did you mean add-port?`},
		{"help of too much", "help add-port web", exitUsage, `argument "web" is one too many`},
		{"no file at all", "apply -f .", exitUsage, "vsctl: read .: is a directory; see"},
		{"bad timeout", "show --timeout soon", exitUsage, `--timeout \"soon\": use a time, such as 30s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := start(t, servertest.New(), new(server.Events))
			status, stdout, stderr := vsctl(t, socket, strings.Fields(tt.line)...)
			if status != tt.status || !strings.Contains(stderr, strings.ReplaceAll(tt.stderr, `\"`, `"`)) || stdout != "" {
				t.Errorf("exit %d, want %d; printed %q and %q, want %q", status, tt.status, stdout, stderr, tt.stderr)
			}
			if tt.status != exitOK && strings.Count(stderr, "\n") != 1 || (tt.status == exitUsage && tt.name != "difference refused") != strings.Contains(stderr, "--help`") {
				t.Errorf("the error is %q", stderr)
			}
		})
	}
}

func TestDiffExitsWithOne(t *testing.T) {
	status, stdout, stderr := vsctl(t, start(t, servertest.New(), new(server.Events)), "diff", "-f", "testdata/config.yaml")
	if status != 1 || stderr != "" || !strings.Contains(stdout, "+ network net2") {
		t.Errorf("exit %d, %q, %q", status, stdout, stderr)
	}
}

func TestUnreachable(t *testing.T) {
	status, _, stderr := vsctl(t, "/nonexistent/socket", "show")
	if status != exitUnreachable || !strings.Contains(stderr, "/nonexistent/socket") || !strings.Contains(stderr, "is vswitchd running?") {
		t.Errorf("exit %d: %s", status, stderr)
	}
}

func TestSocketFromEnvironment(t *testing.T) {
	t.Setenv("VSWITCH_SOCKET", start(t, servertest.New(), new(server.Events)))
	var out, err bytes.Buffer
	if status := run(t.Context(), []string{"list-ports"}, &out, &err); status != exitOK {
		t.Errorf("exit %d: %s", status, &err)
	}
}

func TestOutputCannotBeWritten(t *testing.T) {
	socket := start(t, servertest.New(), new(server.Events))
	full := writer(func([]byte) (int, error) { return 0, errors.New("disk full") })
	for _, command := range []string{"show", "list-ports", "stats", "version"} {
		var stderr bytes.Buffer
		if status := run(t.Context(), []string{"--socket", socket, command}, full, &stderr); status != exitRefused || stderr.String() != "vsctl: write the output: disk full\n" {
			t.Errorf("%s: exit %d: %s", command, status, &stderr)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.Example == "" || !strings.Contains(c.Example, "vsctl") || c.Short == "" {
			t.Errorf("%s has no example or no short text", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newApp(&bytes.Buffer{}).root())
}

// TestTraceHelp: every word that a trace understands is in its help.
func TestTraceHelp(t *testing.T) {
	text := strings.Fields(newApp(&bytes.Buffer{}).trace().Long)
	for _, word := range flowspec.Words() {
		if !slices.ContainsFunc(text, func(s string) bool { return strings.TrimRight(s, ";.,") == word }) {
			t.Errorf("the help of trace lacks %s", word)
		}
	}
}

// TestRequests looks at what the flags ask of the daemon.
func TestRequests(t *testing.T) {
	b := &recorder{Backend: servertest.New()}
	socket := start(t, b, new(server.Events))
	for _, line := range []string{
		`add-network n --subnet 10.5.0.0/16 --subnet fd00:5::/64 --gateway 10.5.0.9 --ip-range 10.5.1.0/24 --mtu 1400 --internal --icc=false ` +
			`--router blue --masquerade off --driver bridge --age 60 --mac-limit 9 --label a=b --label c=d=e --may-exist`,
		`add-port n p --pid 77 --ifname lan0 --type veth --mac random --ip 10.5.0.7 --ip fd00:5::7 --alias x --alias y --vlan 12 --isolated ` +
			`--mac-limit 4 --route 0.0.0.0/0=10.5.0.9 --default-route no --metric 50 --no-config --label k=v --mtu 1300 --may-exist ` +
			`--source-guard --storm broadcast=100 --storm unknown=off --storm multicast=7 --publish 80 --publish [::1]:8000-8001:80-81/udp`,
		`set-network n --subnet 10.5.0.0/16 --subnet fd00:5::/64- --gateway 10.5.0.9 --ip-range 10.5.1.0/24 --no-gateway=false --mtu 0 --internal=false ` +
			`--icc --router blue --masquerade off --driver overlay --age 60 --mac-limit 9 --label a=b=c --label d-`,
		`set-port p --ifname lan0 --mac random --ip 10.5.0.7 --ip fd00:5::7- --mtu 1300 --trunk 10,20-30 --native 0 --isolated=false --mac-limit 0 ` +
			`--default-route no --metric 50 --route 0.0.0.0/0=10.5.0.9 --route fd00::/8- --alias x --alias y- --label k- --type veth --netns x ` +
			`--source-guard --storm broadcast=100 --storm unknown=off --publish 8080:80 --publish 81/udp-`,
		`set-port p --vlan 0 --label k=`,
		`set-port p --native none`,
		`connect p n --ip 10.5.0.7 --may-exist`,
		`disconnect p n`,
	} {
		if status, _, stderr := vsctl(t, socket, strings.Fields(line)...); status == exitUsage {
			t.Error(stderr)
		}
	}
	line := `add-network n --mtu 1400 -- add-port n p --netns p --native 5 --trunk 5,7-9 -- del-port p --if-exists -- del-network n --force -- ` +
		`add-fdb n 02:42:0a:00:00:63 p --vlan 9 -- del-fdb n 02:42:0a:00:00:63 --vlan 9 --if-exists --dry-run -- ` +
		`set-network n --age 60 --label a- -- publish p 80 --may-exist -- unpublish p 80 --if-exists -- unpublish p -- set-port p --mtu 1300 -- disconnect p n --if-exists -- connect p n --no-ip`
	if status, _, stderr := vsctl(t, socket, strings.Fields(line)...); status == exitUsage {
		t.Error(stderr)
	}
	got, err := json.MarshalIndent(b.seen, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "requests", string(got)+"\n")
}

// recorder is a switch that keeps the requests.
type recorder struct {
	*servertest.Backend
	seen []any
}

func (r *recorder) AddNetwork(ctx context.Context, n api.NetworkRequest) (api.Network, error) {
	r.seen = append(r.seen, n)
	return r.Backend.AddNetwork(ctx, n)
}

func (r *recorder) AddPort(ctx context.Context, p api.PortRequest) (api.Port, error) {
	r.seen = append(r.seen, p)
	return r.Backend.AddPort(ctx, p)
}

func (r *recorder) Transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error) {
	r.seen = append(r.seen, t)
	return r.Backend.Transact(ctx, t)
}

func (r *recorder) SetNetwork(ctx context.Context, name string, c api.NetworkChange) (api.Network, error) {
	r.seen = append(r.seen, c)
	return r.Backend.SetNetwork(ctx, name, c)
}

func (r *recorder) SetPort(ctx context.Context, name string, c api.PortChange) (api.Port, error) {
	r.seen = append(r.seen, c)
	return r.Backend.SetPort(ctx, name, c)
}

func (r *recorder) Connect(ctx context.Context, name string, c api.ConnectRequest) (api.Port, error) {
	r.seen = append(r.seen, c)
	return r.Backend.Connect(ctx, name, c)
}

func (r *recorder) Disconnect(ctx context.Context, name string, c api.DisconnectRequest) (api.Port, error) {
	r.seen = append(r.seen, c)
	return r.Backend.Disconnect(ctx, name, c)
}

func TestCompletion(t *testing.T) {
	socket := start(t, servertest.New(), new(server.Events))
	for line, want := range map[string]string{
		"del-network|":                    "net1",
		"del-port|":                       "web",
		"add-port|":                       "net1",
		"add-fdb|net1|02:42:0a:00:00:63|": "web",
		"del-fdb|net1|":                   "02:42:0a:00:00:63",
		"fdb|":                            "net1",
		"set-network|":                    "net1",
		"set-port|":                       "web",
		"set-port|web|--mac|":             "random",
		"connect|":                        "web",
		"connect|web|":                    "net1",
		"disconnect|web|":                 "net1",
		"fdb|flush|":                      "net1",
		"flows|":                          "web",
		"conntrack|":                      "net1",
		"conntrack|flush|--port|":         "web",
		"conntrack|list|--state|":         "closing",
		"conntrack|--proto|":              "icmp6",
		"conntrack|--router|":             "main",
		"show|port|":                      "web",
		"show|network|":                   "net1",
		"trace|":                          "in_port=web",
		"add-port|net1|db|--netns|":       "container:web",
		"add-port|net1|db|--type|":        "veth",
		"add-network|x|--masquerade|":     "auto",
		"show|-o|":                        "yaml",
		"completion|":                     "fish",
		"del-port|web|--|del-network|":    "net1",
		"add-network|x|--|show|--|add-p":  "add-port",
		"list-|":                          "",
	} {
		_, out, _ := vsctl(t, socket, append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, "|")...)...)
		if want != "" && !strings.Contains("\n"+out, "\n"+want) {
			t.Errorf("%s completes to %q, want %s", line, out, want)
		}
	}
	for _, shell := range shells {
		if status, out, _ := vsctl(t, socket, "completion", shell); status != exitOK || !strings.Contains(out, "vsctl") {
			t.Errorf("completion %s: exit %d", shell, status)
		}
	}
	if status, _, stderr := vsctl(t, "/nonexistent", cobra.ShellCompRequestCmd, "del-port", ""); status != exitOK || strings.Contains(stderr, "vsctl:") {
		t.Errorf("completion without a daemon: exit %d, %q", status, stderr)
	}
}
