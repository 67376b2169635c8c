package server_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
)

// pipes is a listener whose connections are pipes without buffers, so that the server's clock can be a false one.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// bubble serves a switch on pipes with a false clock. f gets the switch, the listener, and what ends the server and waits for it.
func bubble(t *testing.T, f func(b *waiting, p *pipes, stop func() error)) {
	synctest.Test(t, func(t *testing.T) {
		b := &waiting{Backend: servertest.New(), entered: make(chan struct{}), leave: make(chan struct{})}
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- server.New(b, new(server.Events), discard).Serve(ctx, p) }()
		stopped := false
		stop := func() error {
			stopped = true
			cancel()
			return <-served
		}
		f(b, p, stop)
		if !stopped {
			stop()
		}
	})
}

// TestSlowClients are those that never finish; each has to be gone, or answered, in its time.
func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name, sends string
		gone        time.Duration
		answer      string
	}{
		{"says nothing", "", 5 * time.Second, ""},
		{"half a header", "GET / HTTP/1.1\r\nHost:", 5 * time.Second, ""},
		{"half a body", "POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", 10 * time.Second, "400 Bad Request"},
		{"half a body to nowhere", "POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", 10 * time.Second, "400 Bad Request"},
		{"half a body too many words", "POST /v1/trace?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", 10 * time.Second, "400 Bad Request"},
		{"stays", "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n", 30 * time.Second, "200 OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(_ *waiting, p *pipes, _ func() error) {
				c := p.dial()
				begin := time.Now()
				io.WriteString(c, tt.sends)
				all, _ := io.ReadAll(c)
				if took := time.Since(begin); took > tt.gone+time.Second {
					t.Errorf("gone after %v, want %v", took, tt.gone)
				}
				if !strings.HasPrefix(string(all), strings.TrimSuffix("HTTP/1.1 "+tt.answer, "HTTP/1.1 ")) {
					t.Errorf("answered %q, want %s", all, tt.answer)
				}
			})
		})
	}
}

func TestClientThatTakesNothing(t *testing.T) {
	for _, path := range []string{"/v1/version", "/v1/events", "/metrics", "/v1/nothing"} {
		bubble(t, func(_ *waiting, p *pipes, _ func() error) {
			c := p.dial()
			io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(11 * time.Second) // of the false clock
			synctest.Wait()
			if _, err := io.ReadAll(c); err != nil {
				t.Error(err)
			}
			if _, err := c.Write([]byte("x")); err == nil {
				t.Errorf("%s: the connection is still open", path)
			}
		})
	}
}

func TestStubbornRequestIsCutOff(t *testing.T) {
	bubble(t, func(b *waiting, p *pipes, stop func() error) {
		c := p.dial()
		io.WriteString(c, addPort)
		<-b.entered
		begin := time.Now()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("serve returned %v", err)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		c.Close()
	})
}

// TestSlowVerb takes longer than any deadline of the connection: the client waits, so it gets its answer.
func TestSlowVerb(t *testing.T) {
	bubble(t, func(b *waiting, p *pipes, _ func() error) {
		c := p.dial()
		io.WriteString(c, addPort)
		<-b.entered
		time.Sleep(time.Hour) // of the false clock
		close(b.leave)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != 201 {
			t.Errorf("got %v, %v", answer, err)
		}
		c.Close()
	})
}
