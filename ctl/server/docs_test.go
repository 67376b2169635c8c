package server_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// TestDocs looks whether docs/api.md tells of everything that the API has.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(b)
	want := func(kind, text string) {
		if !strings.Contains(docs, text) {
			t.Errorf("docs/api.md lacks the %s %s", kind, text)
		}
	}
	for _, r := range server.New(servertest.New(), new(server.Events), discard).Routes() {
		want("route", "`"+r[0]+" "+strings.TrimSuffix(r[1], "{$}")+"`")
	}
	for _, code := range api.Codes() {
		want("code", "| `"+code+"` |")
	}
	for _, request := range []any{api.NetworkRequest{}, api.PortRequest{}, api.FDBRequest{}, api.RouteRequest{}, api.PublishRequest{}, api.UnpublishRequest{}, api.UplinkRequest{}, api.Rule{}, api.RuleDeletion{}, api.Transaction{}, api.DeleteRequest{}, api.NetworkChange{}, api.PortChange{},
		api.ConnectRequest{}, api.DisconnectRequest{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(request)) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			want("key", "`"+key+"`")
		}
	}
	for _, op := range api.Operations() {
		want("operation", "`"+op+"`")
	}
	metrics := ask(t, servertest.New(), discard, "GET", "/metrics", "").Body.String()
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (vswitch_\S+)`).FindAllStringSubmatch(metrics, -1) {
		want("metric", "`"+m[1]+"`")
	}
	want("event", "`"+api.EventLagged+"`")
}
