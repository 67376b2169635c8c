package ctl_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vswitch/ctl"
	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// The client has every verb of the switch.
var _ server.Backend = (*ctl.Client)(nil)

var discard = slog.New(slog.DiscardHandler)

func start(t *testing.T, b server.Backend, events *server.Events) (*ctl.Client, func() error) {
	t.Helper()
	path, stop := servertest.Start(t, b, events, discard)
	c := ctl.New(path)
	t.Cleanup(c.Close)
	return c, stop
}

// TestVerbs asks the same of the switch itself and through the socket.
func TestVerbs(t *testing.T) {
	ctx := t.Context()
	network := api.NetworkRequest{Name: "net2", Subnets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, Labels: map[string]string{"a": "ü/\x1b"}}
	native := uint16(10)
	port := api.PortRequest{Name: "fw", Network: "net1", Netns: "fw", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.7")},
		Trunk: []api.VLANRange{{First: 10, Last: 20}}, Native: &native,
		Routes: []api.Route{{Prefix: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fd00:1::1")}}}
	entry := api.FDBRequest{Network: "net1", VLAN: 10, MAC: "02:42:0a:00:00:63", Port: "web"}
	config := api.Config{Networks: map[string]api.NetworkConfig{"net2": {
		NetworkRequest: api.NetworkRequest{Subnets: network.Subnets, Labels: network.Labels},
		Ports:          map[string]api.PortConfig{"fw": {PortRequest: api.PortRequest{Netns: "fw", IPs: port.IPs, Trunk: port.Trunk, Routes: port.Routes}}}}}}
	way := api.RouteRequest{Prefix: netip.MustParsePrefix("10.8.0.0/16"), NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.8")}, Metric: 7}
	known := api.RouteRequest{Prefix: netip.MustParsePrefix("10.9.0.0/16")}
	published := api.PublishRequest{Port: "web", Publish: api.Publish{Port: 80, Last: 80, Proto: "tcp", From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	uplink := api.UplinkRequest{Interface: "eth1", Metric: 7, NATPorts: api.PortRange{First: 50000, Last: 50999}}
	rule := api.RuleRequest{Rule: api.Rule{On: "web", Direction: "in", Action: "deny", Priority: 7, Proto: "tcp", Src: "@db", Dst: "10.0.0.0/8", SrcPorts: "1", DstPorts: "2", Log: true}}
	all := []api.Operation{{Op: api.OpAddRule, Request: &rule}, {Op: api.OpDelRule, Request: &api.RuleDeletion{ID: "r1"}}, {Op: api.OpAddUplink, Request: &uplink}, {Op: api.OpDelUplink, Request: &api.DeleteRequest{Name: "wan"}},
		{Op: api.OpPublish, Request: &published}, {Op: api.OpUnpublish, Request: &api.UnpublishRequest{Port: "web", Publish: &published.Publish}},
		{Op: api.OpAddRoute, Request: &way}, {Op: api.OpDelRoute, Request: &known},
		{Op: api.OpAddNetwork, Request: &network}, {Op: api.OpAddPort, Request: &port}, {Op: api.OpAddFDB, Request: &entry},
		{Op: api.OpDelFDB, Request: &entry}, {Op: api.OpDelPort, Request: &api.DeleteRequest{Name: "web"}},
		{Op: api.OpDelNetwork, Request: &api.DeleteRequest{Name: "net1", Force: true}}}
	for name, verb := range map[string]func(server.Backend) (any, error){
		"AddNetwork":     func(b server.Backend) (any, error) { return b.AddNetwork(ctx, network) },
		"Networks":       func(b server.Backend) (any, error) { return b.Networks(ctx) },
		"Network":        func(b server.Backend) (any, error) { return b.Network(ctx, "net1") },
		"no network":     func(b server.Backend) (any, error) { return b.Network(ctx, "net9") },
		"DeleteNetwork":  func(b server.Backend) (any, error) { return nil, b.DeleteNetwork(ctx, "net1", false) },
		"force":          func(b server.Backend) (any, error) { return nil, b.DeleteNetwork(ctx, "net1", true) },
		"AddPort":        func(b server.Backend) (any, error) { return b.AddPort(ctx, port) },
		"Ports":          func(b server.Backend) (any, error) { return b.Ports(ctx) },
		"Port":           func(b server.Backend) (any, error) { return b.Port(ctx, "web") },
		"DeletePort":     func(b server.Backend) (any, error) { return nil, b.DeletePort(ctx, "web") },
		"no port":        func(b server.Backend) (any, error) { return nil, b.DeletePort(ctx, "db") },
		"FDB":            func(b server.Backend) (any, error) { return b.FDB(ctx, "net1") },
		"FDB of all":     func(b server.Backend) (any, error) { return b.FDB(ctx, "") },
		"empty FDB":      func(b server.Backend) (any, error) { return b.FDB(ctx, "net9") },
		"AddFDB":         func(b server.Backend) (any, error) { return nil, b.AddFDB(ctx, entry) },
		"DeleteFDB":      func(b server.Backend) (any, error) { return nil, b.DeleteFDB(ctx, entry) },
		"FlushFDB":       func(b server.Backend) (any, error) { return b.FlushFDB(ctx, "net1") },
		"Routes":         func(b server.Backend) (any, error) { return b.Routes(ctx, "main") },
		"no router":      func(b server.Backend) (any, error) { return b.Routes(ctx, "lab") },
		"AddRoute":       func(b server.Backend) (any, error) { return b.AddRoute(ctx, way) },
		"DeleteRoute":    func(b server.Backend) (any, error) { return nil, b.DeleteRoute(ctx, known) },
		"no route":       func(b server.Backend) (any, error) { return nil, b.DeleteRoute(ctx, way) },
		"Published":      func(b server.Backend) (any, error) { return b.Published(ctx, "") },
		"no port there":  func(b server.Backend) (any, error) { return b.Published(ctx, "x") },
		"Publish":        func(b server.Backend) (any, error) { return b.Publish(ctx, published) },
		"Unpublish":      func(b server.Backend) (any, error) { return nil, b.Unpublish(ctx, api.UnpublishRequest{Port: "web"}) },
		"AddUplink":      func(b server.Backend) (any, error) { return b.AddUplink(ctx, uplink) },
		"Uplinks":        func(b server.Backend) (any, error) { return b.Uplinks(ctx) },
		"Uplink":         func(b server.Backend) (any, error) { return b.Uplink(ctx, "wan") },
		"no uplink":      func(b server.Backend) (any, error) { return b.Uplink(ctx, "net1") },
		"DeleteUplink":   func(b server.Backend) (any, error) { return nil, b.DeleteUplink(ctx, "wan") },
		"Rules":          func(b server.Backend) (any, error) { return b.Rules(ctx, "web") },
		"AddRule":        func(b server.Backend) (any, error) { return b.AddRule(ctx, rule) },
		"DeleteRule":     func(b server.Backend) (any, error) { return nil, b.DeleteRule(ctx, api.RuleDeletion{ID: "r1"}) },
		"no rule":        func(b server.Backend) (any, error) { return nil, b.DeleteRule(ctx, api.RuleDeletion{ID: "r9"}) },
		"Neighbors":      func(b server.Backend) (any, error) { return b.Neighbors(ctx, "net1") },
		"FlushNeighbors": func(b server.Backend) (any, error) { return b.FlushNeighbors(ctx, "") },
		"Connections": func(b server.Backend) (any, error) {
			return collect(b.Connections(ctx, api.ConnectionFilter{Network: "net1", Proto: 6}))
		},
		"other filter": func(b server.Backend) (any, error) {
			return collect(b.Connections(ctx, api.ConnectionFilter{Translated: true}))
		},
		"FlushConnections": func(b server.Backend) (any, error) { return b.FlushConnections(ctx, api.ConnectionFilter{Port: "db"}) },
		"Config":           func(b server.Backend) (any, error) { return b.Config(ctx) },
		"Apply":            func(b server.Backend) (any, error) { return b.Apply(ctx, config, api.ApplyOptions{DryRun: true}) },
		"Transact": func(b server.Backend) (any, error) {
			return b.Transact(ctx, api.Transaction{Operations: all, DryRun: true})
		},
		"Flows":      func(b server.Backend) (any, error) { return b.Flows(ctx, "web") },
		"FlushFlows": func(b server.Backend) (any, error) { return b.FlushFlows(ctx) },
		"Trace":      func(b server.Backend) (any, error) { return b.Trace(ctx, api.TraceRequest{Flow: "in_port=web"}) },
		"bad trace":  func(b server.Backend) (any, error) { return b.Trace(ctx, api.TraceRequest{}) },
		"Stats":      func(b server.Backend) (any, error) { return b.Stats(ctx) },
		"Drops":      func(b server.Backend) (any, error) { return b.Drops(ctx) },
		"Show":       func(b server.Backend) (any, error) { return b.Show(ctx) },
		"Daemon":     func(b server.Backend) (any, error) { return b.Daemon(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			want, wantErr := verb(servertest.New())
			c, _ := start(t, servertest.New(), new(server.Events))
			got, gotErr := verb(c)
			if wantErr != nil {
				want, got = nil, nil
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
				t.Errorf("-direct +through the socket:\n%s", d)
			}
			if d := cmp.Diff(wantErr, gotErr); d != "" {
				t.Errorf("error -direct +through the socket:\n%s", d)
			}
		})
	}
}

// collect makes a list of what is yielded.
func collect[T any](rows iter.Seq2[T, error]) (list []T, err error) {
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, nil
}

// tracking is a backend with many connections, and an error behind some of them, or none.
type tracking struct {
	*servertest.Backend
	rows, fails int
}

func (b tracking) Connections(context.Context, api.ConnectionFilter) iter.Seq2[api.Connection, error] {
	return func(yield func(api.Connection, error) bool) {
		for i := range b.rows {
			if i == b.fails {
				yield(api.Connection{}, api.Errorf(api.CodeRefused, "no more"))
				return
			}
			if !yield(api.Connection{Network: "net1", Port: fmt.Sprintf("port%d", i)}, nil) {
				return
			}
		}
	}
}

// A list too long for memory comes in parts; an error before it has begun is told, one in the middle cuts it, and it may be left early.
func TestConnectionsInParts(t *testing.T) {
	const many = 100000
	c, _ := start(t, tracking{servertest.New(), many, -1}, new(server.Events))
	list, err := collect(c.Connections(t.Context(), api.ConnectionFilter{}))
	if err != nil || len(list) != many || list[many-1].Port != fmt.Sprintf("port%d", many-1) {
		t.Errorf("%d connections, %v", len(list), err)
	}
	for range c.Connections(t.Context(), api.ConnectionFilter{}) {
		break
	}
	if list, err := collect(c.Connections(t.Context(), api.ConnectionFilter{})); err != nil || len(list) != many {
		t.Errorf("after one that was left: %d connections, %v", len(list), err)
	}
	var e *api.Error
	first, _ := start(t, tracking{servertest.New(), 10, 5}, new(server.Events))
	if _, err := collect(first.Connections(t.Context(), api.ConnectionFilter{})); !errors.As(err, &e) || e.Code != api.CodeRefused {
		t.Errorf("an error before anything was sent: %v", err)
	}
	late, _ := start(t, tracking{servertest.New(), many, many - 1}, new(server.Events))
	if _, err := collect(late.Connections(t.Context(), api.ConnectionFilter{})); err == nil {
		t.Error("half a list is taken for all")
	}
	none, _ := start(t, tracking{servertest.New(), 0, -1}, new(server.Events))
	if list, err := collect(none.Connections(t.Context(), api.ConnectionFilter{})); err != nil || len(list) != 0 {
		t.Errorf("an empty list: %v, %v", list, err)
	}
}

func TestConfigFiles(t *testing.T) {
	c, _ := start(t, servertest.New(), new(server.Events))
	text, err := c.ConfigYAML(t.Context())
	if err != nil || !strings.HasPrefix(text, "networks:\n  net1:\n") {
		t.Errorf("%q, %v", text, err)
	}
	if done, err := c.ApplyFile(t.Context(), []byte(text), api.ApplyOptions{}); err != nil || len(done.Changes) != 0 {
		t.Errorf("what there is changes %v, %v", done, err)
	}
	var refused *api.Error
	if _, err := c.ApplyFile(t.Context(), []byte("networks:\n  a/b: {}"), api.ApplyOptions{}); !errors.As(err, &refused) || !strings.HasPrefix(refused.Detail, "line 2, column 3:") {
		t.Errorf("a bad name: %v", err)
	}
}

func TestNamesCannotLeadElsewhere(t *testing.T) {
	c, _ := start(t, servertest.New(), new(server.Events))
	for _, name := range []string{"", ".", "..", "a/b", "net1?force=true", "net1%2fx"} {
		var refused *api.Error
		if err := c.DeleteNetwork(t.Context(), name, false); !errors.As(err, &refused) || refused.Code != api.CodeInvalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	rude := serveRaw(t, "")
	mute := serveRaw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
	for name, path := range map[string]string{"no socket": filepath.Join(dir, "none"), "dead socket": dead, "hangs up": rude, "half an answer": mute} {
		if _, err := ctl.New(path).Daemon(t.Context()); !errors.Is(err, ctl.ErrUnreachable) || strings.Contains(err.Error(), "http://") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStrangeAnswers(t *testing.T) {
	for name, tt := range map[string]struct{ answer, code, detail string }{
		"no JSON":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", api.CodeInternal, "not understood"},
		"wrong type":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", api.CodeInternal, "not understood"},
		"no problem":      {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", api.CodeInternal, "502 Bad Gateway"},
		"refused at once": {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", api.CodeUnavailable, "503"},
	} {
		_, err := ctl.New(serveRaw(t, tt.answer)).Daemon(t.Context())
		var e *api.Error
		if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Detail, tt.detail) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// serveRaw answers each connection's first request with the same bytes and closes it.
func serveRaw(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			io.WriteString(c, answer)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

func TestTimeoutAndCancel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path) // accepts nobody: the kernel's queue does
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	expired, stop := context.WithTimeout(t.Context(), 1)
	defer stop()
	if _, err := ctl.New(path).Daemon(expired); !errors.Is(err, ctl.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timeout: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ctl.New(path).Daemon(cancelled); errors.Is(err, ctl.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancel: %v", err)
	}
}
