package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// FuzzDecode feeds request bodies to the decoder: it accepts or refuses with api.CodeInvalid, and never panics.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{"name":"net1","subnets":["10.0.0.0/24"],"gateways":["10.0.0.1"],"icc":false,"labels":{"a":"b"}}`,
		`{"name":"web","network":"net1","trunk":[{"first":1,"last":4094}],"native":1,"routes":[{"prefix":"::/0","via":"fe80::1%x"}]}`,
		`{"network":"net1","mac":"02:42:0a:00:00:02","vlan":10}`, `{"flow":"in_port=web"}`,
		`{"operations":[{"op":"add-port","network":"net1","name":"web","netns":"web"},{"op":"del-network","name":"n","force":true}],"dry_run":true}`,
		`{"operations":[{"op":"list-ports"}]}`, `{"operations":[{}]}`, `{"operations":[7]}`, `{"operations":[{"op":"del-port","name":7}]}`,
		`{"add_subnets":["10.0.0.0/24"],"gateways":["10.0.0.9"],"no_gateway":false,"mtu":0,"labels":{"a":"b","c":null}}`,
		`{"mac":"from-ip","add_ips":["fd00::1"],"remove_routes":["::/0"],"trunk":[],"no_native":true,"storm":{"broadcast":0}}`,
		`null`, `[]`, `{`, ``, `{"a":{}}`, "{\"\xff\":1}", `{"name":"a"}x`, `{"vlan":1e9}`, strings.Repeat(`{"labels":`, 40),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range []any{new(api.NetworkRequest), new(api.PortRequest), new(api.FDBRequest), new(api.TraceRequest), new(api.Transaction),
			new(api.NetworkChange), new(api.PortChange), new(api.ConnectRequest), new(api.DisconnectRequest)} {
			err := server.Unmarshal(body, v)
			var refused *api.Error
			if err != nil && (!errors.As(err, &refused) || refused.Code != api.CodeInvalid) {
				t.Errorf("%T: %v is not of code invalid", v, err)
			}
		}
	})
}

// FuzzServe feeds whole HTTP requests to the handler: each is answered with a status, and no refusal is our fault.
func FuzzServe(f *testing.F) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/events?since=1&follow=true HTTP/1.1\r\nHost: x\r\n\r\n",
		"DELETE /v1/networks/net1?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"DELETE /v1/fdb HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"name\":\"a\"}\n",
		"POST /v1/ports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"PATCH /v1/ports/web HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"mtu\":1400}\n",
		"PATCH /v1/networks/net1 HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{\"labels\":{\"a\":null}}",
		"POST /v1/ports/web/disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/flows/flush HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET //v1/../metrics HTTP/1.0\r\n\r\n",
		"GET /v1/networks/%2e%2e%2fx HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return // net/http answers these itself
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that the stream of events ends
		events := new(server.Events)
		events.Publish("port.added", "web", "")
		w := &strict{ResponseRecorder: httptest.NewRecorder()}
		server.New(servertest.New(), events, discard).Handler().ServeHTTP(w, r.WithContext(ctx))
		if w.wrote != 1 || w.Code < 200 || w.Code > 599 || w.Code == 500 {
			t.Errorf("answered %d times, with %d %s", w.wrote, w.Code, w.Body)
		}
	})
}

// strict counts how often a status is written.
type strict struct {
	*httptest.ResponseRecorder
	wrote int
}

func (s *strict) WriteHeader(status int) {
	s.wrote++
	s.ResponseRecorder.WriteHeader(status)
}

func (s *strict) Write(b []byte) (int, error) {
	if s.wrote == 0 {
		s.WriteHeader(200)
	}
	return s.ResponseRecorder.Write(b)
}

// FuzzConnection feeds whatever a client may send to a server on a socket: each answer is one of HTTP, and then the connection ends.
func FuzzConnection(f *testing.F) {
	for _, text := range []string{
		"", "\r\n\r\n", "\x16\x03\x01\x02\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		getVersion + getVersion + "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + delPort + "garbage",
		"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + getVersion,
		"POST /v1/trace HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nTrailer: x\r\n\r\n" + getVersion,
		"POST /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\na: &a [*a]\nb: {c: *a",
		"GET /v1/events?follow=false HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	events := new(server.Events)
	events.Publish("port.added", "web", "")
	path, stop, err := servertest.Serve(servertest.New(), events, discard)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := stop(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		go func() {
			c.Write(text) // the server may have heard enough
			c.CloseWrite()
		}()
		all, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it closed while we were sending
			t.Fatalf("after %q: %v", all, err)
		}
		if len(all) > 0 && !bytes.HasPrefix(all, []byte("HTTP/1.")) {
			t.Errorf("answered %q", all)
		}
	})
}
