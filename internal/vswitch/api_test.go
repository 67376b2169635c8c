package vswitch_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// TestCurl uses the control socket without vsctl.
func TestCurl(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, c := lab.Daemon(), lab.Container("c")
	curl := func(args ...string) (body string, status string) {
		t.Helper()
		args = append([]string{"-sS", "--unix-socket", d.Socket, "-w", "\n%{http_code}"}, args...)
		out, err := exec.Command("curl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		i := strings.LastIndexByte(string(out), '\n')
		return string(out[:i]), string(out[i+1:])
	}
	for _, tt := range []struct{ status, words, args string }{
		{"201", `"10.9.0.0/24"`, `-d {"name":"net1","subnets":["10.9.0.0/24"]} http://x/v1/networks`},
		{"409", `"object":"net1"`, `-d {"name":"net1","subnets":["10.9.0.0/24"]} http://x/v1/networks`},
		{"201", `"10.9.0.2/24"`, `-d {"name":"web","network":"net1","netns":"` + c.Name + `"} http://x/v1/ports`},
		{"200", `"state":"up"`, `http://x/v1/ports/web`},
		{"404", `"code":"not_found"`, `http://x/v1/ports/nobody`},
		{"400", `unknown`, `-d {"name":"x","nets":1} http://x/v1/ports`},
		{"200", `no_receiver`, `-d {"flow":"in_port=web,arp"} http://x/v1/trace`},
		{"204", ``, `-X DELETE http://x/v1/ports/web`},
		{"204", ``, `-X DELETE http://x/v1/networks/net1`},
		{"405", `"code"`, `-X DELETE http://x/v1/networks`},
	} {
		if body, status := curl(strings.Fields(tt.args)...); status != tt.status || !strings.Contains(body, tt.words) {
			t.Errorf("curl %s: %s %s, want %s %s", tt.args, status, body, tt.status, tt.words)
		}
	}
	if len(c.Links()) != 0 {
		t.Error("DELETE left the interface")
	}
	info, err := os.Stat(d.Socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode is %v %v", info.Mode(), err)
	}
}

var (
	sample = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\.)*",?)*\})? [-+0-9.eE]+(Inf|NaN)?$`)
	about  = regexp.MustCompile(`^# (HELP [a-zA-Z_:][a-zA-Z0-9_:]* .*|TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|gauge|histogram|summary|untyped))$`)
)

// TestMetrics is read line by line as Prometheus reads it, and says what stats says.
func TestMetrics(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", subnet4)
	a.Run("ping", "-q", "-c3", "-i0.01", "-W10", b4)
	least := portStats(t, d, "a").RxPackets
	out, err := exec.Command("curl", "-sS", "--unix-socket", d.Socket, "http://x/metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if !sample.MatchString(line) && !about.MatchString(line) {
			t.Errorf("not a line of Prometheus: %q", line)
		}
	}
	most := portStats(t, d, "a").RxPackets // a's kernel may have sent something meanwhile
	_, said, _ := strings.Cut(string(out), "\n"+`vswitch_port_rx_packets_total{network="net1",port="a"} `)
	said, _, _ = strings.Cut(said, "\n")
	if n, err := strconv.ParseFloat(said, 64); err != nil || least < 3 || n < float64(least) || n > float64(most) {
		t.Errorf("a's port has received %s packets, by stats %d to %d: %v", said, least, most, err)
	}
	for _, words := range []string{`vswitch_worker_turns_total{worker="0"}`, "go_goroutines "} {
		if !strings.Contains(string(out), words) {
			t.Errorf("there is no %s", words)
		}
	}
}

// TestEvents tells of what people and kernels do to ports.
func TestEvents(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4)
	v := lab.Container("v")
	d.Join("net1", "v", v, "--type", "veth")
	a.IP("link set eth0 down")
	a.IP("link set eth0 name eth7")
	b.Delete()
	v.IP("link del eth0")
	for _, e := range [][2]string{{"port.renamed", "a"}, {"port.down", "a"}, {"port.gone", "b"}, {"port.gone", "v"}} { // kernels tell each in its time
		waitEvent(t, lab, d, e[0], e[1])
	}
	d.Must("del-port", "a")
	d.Must("del-network", "net1")
	want := []string{"network.added net1", "port.added a", "port.added b", "port.added v", "port.down a", "port.renamed a",
		"port.gone b", "port.gone v", "port.deleted a", "network.deleted net1"}
	ctx, cancel := context.WithTimeout(t.Context(), netnstest.Patience)
	defer cancel()
	var got []string
	for e, err := range d.Client.Events(ctx, 0, true) {
		if err != nil {
			t.Fatalf("%v; heard %q", err, got)
		}
		got = append(got, e.Type+" "+e.Object)
		if e.Type == "network.deleted" {
			break
		}
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("no event %q in %q", w, got)
		}
	}
}

// TestShow looks through each verb that only looks, in each format.
func TestShow(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	d.Pair("net1", "--subnet", subnet4, "--subnet", subnet6)
	for _, verb := range []string{"show", "version", "list-networks", "list-ports", "fdb", "flows", "stats", "drops", "show network net1", "show port a"} {
		text, js := d.Must(strings.Fields(verb)...), d.Must(append(strings.Fields(verb), "-o", "json")...)
		if !json.Valid([]byte(js)) {
			t.Errorf("%s -o json is none: %s", verb, js)
		}
		if text == js || text == "" {
			t.Errorf("%s prints %q", verb, text)
		}
		if y := d.Must(append(strings.Fields(verb), "-o", "yaml")...); y == js || y == "" {
			t.Errorf("%s -o yaml prints %q", verb, y)
		}
	}
}

// TestBusySocket has more clients than are served at a time, and one that says nothing.
func TestBusySocket(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	for range 100 {
		conn, err := net.Dial("unix", d.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	start := time.Now()
	d.Must("show")
	if took := time.Since(start); took > 4*time.Second { // they are given five
		t.Errorf("with silent clients show took %v", took)
	}
}
