package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

const nobody = 65534

// as runs f on a thread that is another user's, and is thrown away. The kernel notes at connect whose a connection is.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		if errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// openAs is open for a user.
func openAs(t *testing.T, uid int, path, text string) (c net.Conn, in *bufio.Reader) {
	t.Helper()
	as(t, uid, func() { c, in = open(t, path, text) })
	return c, in
}

// everybody lets all users reach the control socket.
func everybody(t *testing.T, path string) {
	t.Helper()
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

// settle waits until what has connected may be closed for others.
func settle() { time.Sleep(150 * time.Millisecond) }

// gone tells whether the server has closed the connection.
func gone(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset")
}

// Those who connect and then say nothing, little, or nothing more lock nobody out.
func TestIdleClientsMakeRoom(t *testing.T) {
	before := runtime.NumGoroutine()
	path, stop := servertest.Start(t, servertest.New(), new(server.Events), discard)
	for name, text := range map[string]string{
		"says nothing": "", "half a header": "GET / HTTP/1.1\r\nHo", "half a body": "POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"asked once": getVersion, "takes nothing": strings.Repeat(getVersion, 100),
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 * server.MaxClients {
				open(t, path, text)
			}
			begin := time.Now()
			_, in := open(t, path, getVersion)
			if s := status(t, in); s != 200 {
				t.Errorf("got %d", s)
			}
			t.Logf("served after %v", time.Since(begin).Round(time.Millisecond))
		})
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

func TestOldestIdleClientGoesFirst(t *testing.T) {
	path, _ := servertest.Start(t, servertest.New(), new(server.Events), discard)
	var conns []net.Conn
	var ins []*bufio.Reader
	for range server.MaxClients {
		c, in := open(t, path, getVersion)
		status(t, in)
		conns, ins = append(conns, c), append(ins, in)
	}
	io.WriteString(conns[0], getVersion) // the second is now the one that is idle longest
	status(t, ins[0])
	settle()
	_, in := open(t, path, getVersion)
	if s := status(t, in); s != 200 {
		t.Errorf("got %d", s)
	}
	if !gone(conns[1]) {
		t.Error("the oldest idle client is still connected")
	}
	for _, i := range []int{0, 2, server.MaxClients - 1} {
		io.WriteString(conns[i], getVersion)
		if s := status(t, ins[i]); s != 200 {
			t.Errorf("client %d got %d", i, s)
		}
	}
}

// stuck is a switch whose DeletePort waits.
type stuck struct {
	*servertest.Backend
	in    atomic.Int32
	leave chan struct{}
}

func newStuck() *stuck { return &stuck{Backend: servertest.New(), leave: make(chan struct{})} }

func (s *stuck) DeletePort(context.Context, string) error {
	s.in.Add(1)
	<-s.leave
	return nil
}

const delPort = "DELETE /v1/ports/web HTTP/1.1\r\nHost: x\r\n\r\n"

// problemOf reads one answer, which has to be a problem of that status.
func problemOf(t *testing.T, in *bufio.Reader, status int) string {
	t.Helper()
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		t.Errorf("got %d %s (%v), want %d", answer.StatusCode, b, err, status)
	}
	return string(b)
}

// A verb that runs keeps its connection; the one too many is refused, and those who say nothing then don't gather either.
func TestWorkingClientsStay(t *testing.T) {
	b := newStuck()
	path, _ := servertest.Start(t, b, new(server.Events), discard)
	var ins []*bufio.Reader
	for range server.MaxClients {
		_, in := open(t, path, delPort)
		ins = append(ins, in)
	}
	eventually(t, "all verbs run", func() bool { return b.in.Load() == server.MaxClients })
	settle()
	_, in := open(t, path, getVersion)
	if said := problemOf(t, in, 503); !strings.Contains(said, "64 clients are connected") {
		t.Errorf("it says %s", said)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("its connection is still open: %v", err)
	}
	close(b.leave)
	for _, in := range ins {
		if s := status(t, in); s != 204 {
			t.Errorf("a verb got %d", s)
		}
	}
}

func TestUsersShare(t *testing.T) {
	b := newStuck()
	path, _ := servertest.Start(t, b, new(server.Events), discard)
	everybody(t, path)
	t.Cleanup(func() { close(b.leave) })
	first, in := openAs(t, nobody, path, getVersion)
	status(t, in)
	for range server.MaxPerUser - 1 {
		openAs(t, nobody, path, delPort)
	}
	eventually(t, "all verbs run", func() bool { return b.in.Load() == server.MaxPerUser-1 })
	settle()
	openAs(t, nobody, path, delPort)
	if !gone(first) {
		t.Error("the user's idle connection did not make room for his own")
	}
	eventually(t, "the verb in its place runs", func() bool { return b.in.Load() == server.MaxPerUser })
	_, in = openAs(t, nobody, path, delPort)
	if said := problemOf(t, in, 503); !strings.Contains(said, "32 clients are connected by user 65534") {
		t.Errorf("it says %s", said)
	}
	for range server.MaxClients - server.ForRoot - server.MaxPerUser {
		openAs(t, nobody-1, path, delPort)
	}
	eventually(t, "all verbs run", func() bool { return b.in.Load() == server.MaxClients-server.ForRoot })
	_, in = openAs(t, nobody-2, path, getVersion)
	if said := problemOf(t, in, 503); !strings.Contains(said, "the rest is root's") {
		t.Errorf("it says %s", said)
	}
	_, in = open(t, path, getVersion)
	if s := status(t, in); s != 200 {
		t.Errorf("root got %d", s)
	}
}

const getEvents = "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"

func TestStreamsLeaveRoom(t *testing.T) {
	path, _ := servertest.Start(t, servertest.New(), new(server.Events), discard)
	var streams []net.Conn
	for i := range server.MaxStreams {
		c, in := open(t, path, getEvents)
		if answer, err := http.ReadResponse(in, nil); err != nil || answer.StatusCode != 200 {
			t.Fatalf("stream %d: %v, %v", i, answer, err)
		}
		streams = append(streams, c)
	}
	_, in := open(t, path, getEvents)
	if said := problemOf(t, in, 503); !strings.Contains(said, "32 streams of events are open") {
		t.Errorf("it says %s", said)
	}
	settle()
	for range 2 * server.MaxClients { // idle ones make room, streams need not
		open(t, path, getVersion)
	}
	_, in = open(t, path, getVersion)
	if s := status(t, in); s != 200 {
		t.Errorf("got %d", s)
	}
	streams[0].Close()
	eventually(t, "room for a stream", func() bool {
		_, in := open(t, path, getEvents)
		answer, err := http.ReadResponse(in, nil)
		return err == nil && answer.StatusCode == 200
	})
}

// Requests that come at once, before the first is answered, are answered in their order.
func TestPipelining(t *testing.T) {
	path, _ := servertest.Start(t, servertest.New(), new(server.Events), discard)
	_, in := open(t, path, getVersion+"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"+
		"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"+getVersion+"garbage\r\n\r\n")
	for i, want := range []int{200, 404, 400, 200, 400} {
		if s := status(t, in); s != want {
			t.Errorf("answer %d is %d, want %d", i, s, want)
		}
	}
}

// A client that asks first is told to go on, unless its body is too large.
func TestExpect(t *testing.T) {
	path, _ := servertest.Start(t, servertest.New(), new(server.Events), discard)
	c, in := open(t, path, "POST /v1/trace HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 22\r\n\r\n")
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("got %q, %v", line, err)
	}
	in.ReadString('\n')
	io.WriteString(c, `{"flow":"in_port=web"}`)
	if s := status(t, in); s != 200 {
		t.Errorf("got %d", s)
	}
	_, in = open(t, path, "POST /v1/trace HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
	if s := status(t, in); s != 413 {
		t.Errorf("got %d", s)
	}
}

func TestReadOnly(t *testing.T) {
	path, _ := servertest.StartReadOnly(t, servertest.New(), new(server.Events), discard)
	send := func(method, target, body string) (*http.Response, string) {
		t.Helper()
		_, in := openAs(t, nobody, path, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body))
		answer, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		return answer, string(b)
	}
	for _, r := range server.New(servertest.New(), new(server.Events), discard).Routes() {
		method, target := r[0], strings.NewReplacer("{$}", "", "{name}", "web", "/networks/{name}", "/networks/net1").Replace(r[1])
		if target == "/v1/events" {
			target += "?follow=false"
		}
		looks := method == "GET" || target == "/v1/trace"
		answer, said := send(method, target, map[bool]string{true: `{"flow":"in_port=web"}`}[target == "/v1/trace"])
		if refused := answer.StatusCode == 403 && strings.Contains(said, `"code":"`+api.CodeReadOnly+`"`); refused == looks {
			t.Errorf("%s %s: got %d %s", method, target, answer.StatusCode, said)
		}
	}
	if answer, _ := send("HEAD", "/v1/ports", ""); answer.StatusCode != 200 {
		t.Errorf("HEAD: got %d", answer.StatusCode)
	}
	if answer, _ := send("POST", "/v1/trace", strings.Repeat("x", 64<<10+1)); answer.StatusCode != 413 {
		t.Errorf("large body: got %d", answer.StatusCode)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
}

// Each change leaves one line that tells who did what; a look leaves none.
func TestChangesAreLogged(t *testing.T) {
	log := new(locked)
	path, stop := servertest.Start(t, servertest.New(), new(server.Events), slog.New(slog.NewTextHandler(log, nil)))
	everybody(t, path)
	body := `{"name":"db","network":"net1"}`
	post := fmt.Sprintf("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_, in := openAs(t, nobody, path, post+"DELETE /v1/ports/nix HTTP/1.1\r\nHost: x\r\n\r\n"+getVersion+
		"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	for range 4 {
		status(t, in)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	who := fmt.Sprintf("peer.pid=%d peer.comm=%s peer.uid=%d peer.gid=%d", os.Getpid(), strings.TrimSpace(string(comm)), nobody, os.Getgid())
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("the log is\n%s", log)
	}
	for i, want := range [][]string{
		{`msg=change`, `verb="add a port" method=POST path=/v1/ports`, `\"name\":\"db\"`, "status=201 took=", who},
		{`msg=change`, `verb="delete a port" method=DELETE path=/v1/ports/nix`, "status=404 took=", who, "err="},
	} {
		for _, part := range want {
			if !strings.Contains(lines[i], part) {
				t.Errorf("line %q lacks %s", lines[i], part)
			}
		}
	}
}

// Clients that say nothing, little or too much don't delay the end.
func TestStopDoesNotWaitForClients(t *testing.T) {
	for name, text := range map[string]string{
		"says nothing": "", "half a header": "GET / HTTP/1.1\r\nHo", "half a body": "POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"asked once": getVersion, "takes nothing": strings.Repeat(getVersion, 1000), "stream": getEvents,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *waiting, p *pipes, stop func() error) {
				for range server.MaxClients / 2 {
					c := p.dial()
					defer c.Close()
					go io.WriteString(c, text)
					if name != "takes nothing" {
						go io.Copy(io.Discard, c)
					}
				}
				settle()
				begin := time.Now()
				if err := stop(); err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took > 200*time.Millisecond { // of the false clock
					t.Errorf("stopping took %v", took)
				}
			})
		})
	}
}
