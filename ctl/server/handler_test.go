package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

var discard = slog.New(slog.DiscardHandler)

// ask sends one request to a new server on b.
func ask(t *testing.T, b server.Backend, log *slog.Logger, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	server.New(b, new(server.Events), log).Handler().ServeHTTP(w, r)
	return w
}

func TestRequests(t *testing.T) {
	deep := strings.Repeat(`{"labels":`, 40) + `1` + strings.Repeat("}", 40)
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
		want                       string // part of the answer
	}{
		{"resources", "GET", "/", "", 200, `"path":"/v1/networks/{name}"`},
		{"list networks", "GET", "/v1/networks", "", 200, `"name":"net1"`},
		{"one network", "GET", "/v1/networks/net1", "", 200, `"ports":1`},
		{"no such network", "GET", "/v1/networks/net9", "", 404, `"code":"not_found"`},
		{"add a network", "POST", "/v1/networks", `{"name":"net2","subnets":["10.1.0.0/24"]}`, 201, `"gateway":"10.1.0.1"`},
		{"network exists", "POST", "/v1/networks", `{"name":"net1"}`, 409, `"object":"net1"`},
		{"bad name", "POST", "/v1/networks", `{"name":"-x"}`, 400, `"code":"invalid"`},
		{"network in use", "DELETE", "/v1/networks/net1", "", 409, `"object":"web"`},
		{"force", "DELETE", "/v1/networks/net1?force=true", "", 204, ""},
		{"bad force", "DELETE", "/v1/networks/net1?force=maybe", "", 400, "use true or false"},
		{"misspelt query", "DELETE", "/v1/networks/net1?forse=true", "", 400, "forse"},
		{"query given twice", "GET", "/v1/fdb?network=a&network=b", "", 400, "2 times"},
		{"malformed query", "GET", "/v1/fdb?network=%zz", "", 400, "malformed"},
		{"query where none is taken", "GET", "/v1/ports?x=1", "", 400, "takes none"},
		{"add a port", "POST", "/v1/ports", `{"name":"db","network":"net1","netns":"db"}`, 201, `"mac":"02:42`},
		{"port in no network", "POST", "/v1/ports", `{"name":"db","network":"net9"}`, 404, "net9"},
		{"delete a port", "DELETE", "/v1/ports/web", "", 204, ""},
		{"no such port", "DELETE", "/v1/ports/db", "", 404, "db"},
		{"fdb", "GET", "/v1/fdb?network=net1", "", 200, `"origin":"static"`},
		{"empty list", "GET", "/v1/fdb?network=net9", "", 200, "[]"},
		{"add fdb", "POST", "/v1/fdb", `{"network":"net1","mac":"02:42:0a:00:00:63","port":"web"}`, 204, ""},
		{"delete fdb by body", "DELETE", "/v1/fdb", `{"network":"net1","mac":"02:42:0a:00:00:63","vlan":10}`, 204, ""},
		{"delete fdb by query", "DELETE", "/v1/fdb?network=net1&mac=02:42:0a:00:00:63&vlan=10", "", 204, ""},
		{"delete fdb without a word", "DELETE", "/v1/fdb", "", 400, "the body is empty"},
		{"bad vlan", "DELETE", "/v1/fdb?network=net1&vlan=70000", "", 400, "0 to 65535"},
		{"flush fdb", "POST", "/v1/fdb/flush?network=net1", "", 200, `{"flushed":1}`},
		{"flows", "GET", "/v1/flows?port=web", "", 200, `"actions":"output:db"`},
		{"flush flows", "POST", "/v1/flows/flush", "", 200, `{"flushed":1}`},
		{"trace", "POST", "/v1/trace", `{"flow":"in_port=web"}`, 200, `"verdict":"output:db"`},
		{"bad trace", "POST", "/v1/trace", `{"flow":""}`, 400, "the flow is empty"},
		{"stats", "GET", "/v1/stats", "", 200, `"rx_packets":100`},
		{"drops", "GET", "/v1/drops", "", 200, `"reason":"vlan"`},
		{"show", "GET", "/v1/show", "", 200, `"fdstore":"keeper"`},
		{"version", "GET", "/v1/version", "", 200, `"api_version":"v1"`},
		{"events", "GET", "/v1/events?follow=false", "", 200, ""},
		{"bad since", "GET", "/v1/events?since=-1", "", 400, "since"},
		{"unknown path", "GET", "/v2/networks", "", 404, "GET / lists them"},
		{"path too long", "GET", "/v1/networks/a/b", "", 404, "not_found"},
		{"unknown key", "POST", "/v1/networks", `{"name":"x","sub-nets":[]}`, 400, `\"sub-nets\"`},
		{"wrong type", "POST", "/v1/networks", `{"name":7}`, 400, `key \"name\"`},
		{"bad prefix", "POST", "/v1/networks", `{"name":"x","subnets":["10.0.0"]}`, 400, "10.0.0"},
		{"no JSON", "POST", "/v1/networks", `name=x`, 400, "not JSON"},
		{"half JSON", "POST", "/v1/networks", `{"name":`, 400, "ends too early"},
		{"no object", "POST", "/v1/networks", `null`, 400, "not a JSON object"},
		{"a list", "POST", "/v1/networks", `[{"name":"x"}]`, 400, "not a JSON object"},
		{"trailing garbage", "POST", "/v1/networks", `{"name":"x"} {}`, 400, "goes on after"},
		{"too deep", "POST", "/v1/networks", deep, 400, "32 deep"},
		{"too large", "POST", "/v1/networks", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "too_large"},
		{"too large for GET", "GET", "/v1/networks", strings.Repeat("x", 1<<20+1), 413, "too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(t, servertest.New(), discard, tt.method, tt.target, tt.body)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Fatalf("got %d %s, want %d with %s", w.Code, w.Body, tt.status, tt.want)
			}
			if tt.status >= 400 {
				checkProblem(t, w)
			}
		})
	}
}

func checkProblem(t *testing.T, w *httptest.ResponseRecorder) api.Error {
	t.Helper()
	var e api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	if e.Code == "" || e.Title == "" || e.Detail == "" || e.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v is no problem document: %+v", w.Code, w.Header(), e)
	}
	return e
}

func TestWrongMethod(t *testing.T) {
	w := ask(t, servertest.New(), discard, "PUT", "/v1/networks", "")
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("got %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	if e := checkProblem(t, w); e.Code != api.CodeMethod {
		t.Errorf("code is %s", e.Code)
	}
}

func TestCreatedHasLocation(t *testing.T) {
	w := ask(t, servertest.New(), discard, "POST", "/v1/networks", `{"name":"net2"}`)
	if w.Header().Get("Location") != "/v1/networks/net2" {
		t.Errorf("Location is %q", w.Header().Get("Location"))
	}
}

// failing is a switch whose show goes wrong.
type failing struct {
	*servertest.Backend
	err   error
	panic any
}

func (f failing) Show(context.Context) (api.Show, error) {
	if f.panic != nil {
		panic(f.panic)
	}
	return api.Show{}, f.err
}

func TestErrorsOfTheBackend(t *testing.T) {
	inUse := api.Errorf(api.CodeConflict, "in use")
	inUse.Object = "web"
	for _, tt := range []struct {
		name   string
		err    error
		code   string
		detail string
		logged bool
	}{
		{"ours", inUse, "conflict", "in use", false},
		{"wrapped", fmt.Errorf("show: %w", inUse), "conflict", "show: in use", false},
		{"foreign", errors.New("disk on fire"), "internal", "disk on fire (the daemon's log has more)", true},
		{"long", errors.New(strings.Repeat("x", 5000)), "internal", strings.Repeat("x", 200) + " (the daemon's log has more)", true},
		{"unknown code", &api.Error{Code: "odd", Detail: "odd"}, "internal", "odd (the daemon's log has more)", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			w := ask(t, failing{servertest.New(), tt.err, nil}, slog.New(slog.NewTextHandler(&log, nil)), "GET", "/v1/show", "")
			e := checkProblem(t, w)
			if e.Code != tt.code || e.Detail != tt.detail || (tt.code == "conflict" && e.Object != "web") {
				t.Errorf("got %+v", e)
			}
			if logged := strings.Contains(log.String(), "request failed"); logged != tt.logged {
				t.Errorf("logged %v: %s", logged, &log)
			}
		})
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	var log bytes.Buffer
	w := ask(t, failing{servertest.New(), nil, "out of luck"}, slog.New(slog.NewTextHandler(&log, nil)), "GET", "/v1/show", "")
	if e := checkProblem(t, w); w.Code != http.StatusInternalServerError || e.Code != api.CodeInternal {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "out of luck") || !strings.Contains(log.String(), "handler_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", &log)
	}
}

func TestContentTypeOfCurlIsTolerated(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/v1/networks", strings.NewReader(`{"name":"net2"}`))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	server.New(servertest.New(), new(server.Events), discard).Handler().ServeHTTP(w, r)
	if w.Code != 201 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
