package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// locked is a buffer for a log that is read while it is written.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until ok holds; it fails the test if that takes half a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// open connects and sends text.
func open(t *testing.T, path, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

const getVersion = "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"

// status reads one answer with its body.
func status(t *testing.T, in *bufio.Reader) int {
	t.Helper()
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

func TestBadHTTP(t *testing.T) {
	path, _ := servertest.Start(t, servertest.New(), new(server.Events), discard)
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"no HTTP":             {"hello\r\n\r\n", 400},
		"TLS":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		"no host":             {"GET / HTTP/1.1\r\n\r\n", 400},
		"two lengths":         {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400},
		"negative length":     {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		"header too large":    {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
		"too many headers":    {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: x\r\n", 10000) + "\r\n", 431},
		"NUL in a header":     {"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400},
		"body too large":      {fmt.Sprintf("POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", 2<<20, strings.Repeat("x", 1<<20+1)), 413},
		"1 GiB, not sent":     {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", 413},
		"1 GiB, if allowed":   {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n", 413},
		"other expectations":  {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 417},
		"endless chunks":      {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 1100), 413},
		"body without an end": {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		"chunk of 2^64":       {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", 400},
		"chunk's extension":   {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", 64<<10) + "\r\n{}\r\n", 400},
		"unknown coding":      {"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		"HEAD":                {"HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			go io.WriteString(c, tt.text) // the server may answer and close before it has read all; ends with c
			answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: strings.Fields(tt.text)[0]})
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != tt.status {
				t.Errorf("got %d, want %d", answer.StatusCode, tt.status)
			}
		})
	}
}

// waiting is a switch whose AddPort waits.
type waiting struct {
	*servertest.Backend
	entered, leave chan struct{}
	peer           server.Peer
}

func (w *waiting) AddPort(ctx context.Context, r api.PortRequest) (api.Port, error) {
	w.peer = server.PeerOf(ctx)
	close(w.entered)
	select {
	case <-w.leave:
		return w.Backend.AddPort(ctx, r)
	case <-ctx.Done():
		return api.Port{}, ctx.Err()
	}
}

const addPort = "POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n" + `{"name":"db","network":"net1"}`

func TestStopDrainsRequestsAndEndsStreams(t *testing.T) {
	before := runtime.NumGoroutine()
	b := &waiting{Backend: servertest.New(), entered: make(chan struct{}), leave: make(chan struct{})}
	path, stop := servertest.Start(t, b, new(server.Events), discard)
	_, stream := open(t, path, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(stream, nil); err != nil {
		t.Fatal(err)
	}
	_, port := open(t, path, addPort)
	<-b.entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if _, err := io.Copy(io.Discard, stream); err != nil { // ends while the other request is still waiting
		t.Errorf("the stream: %v", err)
	}
	close(b.leave)
	if s := status(t, port); s != 201 {
		t.Errorf("the request in flight got %d", s)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	want := server.Peer{PID: int32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Comm: strings.TrimSpace(string(comm)), Known: true}
	if b.peer != want {
		t.Errorf("the peer is %+v, want %+v", b.peer, want)
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

func TestClientThatLeavesCancels(t *testing.T) {
	b := &waiting{Backend: servertest.New(), entered: make(chan struct{}), leave: make(chan struct{})}
	log := new(locked)
	path, _ := servertest.Start(t, b, new(server.Events), slog.New(slog.NewTextHandler(log, nil)))
	c, _ := open(t, path, addPort)
	<-b.entered
	c.Close()
	eventually(t, "the end of the request", func() bool { return strings.Contains(log.String(), "status=503") })
}

func TestSlowReaderOfEventsIsDropped(t *testing.T) {
	events := new(server.Events)
	events.Publish("t", "o", "first")
	path, _ := servertest.Start(t, servertest.New(), events, discard)
	_, in := open(t, path, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(answer.Body, make([]byte, len("id: 1"))); err != nil { // from there on it follows
		t.Fatal(err)
	}
	for range 8000 { // far more than the ring and the socket's buffer hold
		events.Publish("t", "o", strings.Repeat("x", 1000))
	}
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if last := string(all[max(0, len(all)-400):]); !strings.Contains(last, "event: "+api.EventLagged) {
		t.Errorf("the stream ends with %q", last)
	}
}

func TestStreamFormat(t *testing.T) {
	events := new(server.Events)
	events.Publish("port.added", "web", "first\nline")
	events.Publish("forged\ndata: x", "web", "")
	path, _ := servertest.Start(t, servertest.New(), events, discard)
	_, in := open(t, path, "GET /v1/events?follow=false HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	lines := strings.Split(string(body), "\n")
	if len(lines) != 9 || lines[0] != "id: 1" || lines[1] != "event: port.added" || !strings.HasPrefix(lines[2], `data: {"seq":1,`) ||
		lines[3] != "" || lines[5] != "event: forged data: x" || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("the stream is %q", body)
	}
}
