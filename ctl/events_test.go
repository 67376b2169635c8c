package ctl_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"vswitch/ctl"
	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

func TestEventsBacklog(t *testing.T) {
	events := new(server.Events)
	for _, typ := range []string{"network.added", "port.added", "port.gone"} {
		events.Publish(typ, "web", "line\nbreak")
	}
	c, _ := start(t, servertest.New(), events)
	var got []string
	for e, err := range c.Events(t.Context(), 1, false) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Object != "web" || e.Message != "line\nbreak" || e.Time.IsZero() {
			t.Errorf("got %+v", e)
		}
		got = append(got, e.Type)
	}
	if strings.Join(got, " ") != "port.added port.gone" {
		t.Errorf("got %v", got)
	}
}

func TestEventsFollow(t *testing.T) {
	events := new(server.Events)
	c, stop := start(t, servertest.New(), events)
	events.Publish("e", "", "")
	var last error
	n := 0
	for e, err := range c.Events(t.Context(), 0, true) {
		if last = err; err != nil {
			break
		}
		if n++; e.Seq != uint64(n) {
			t.Fatalf("event %d came as number %d", e.Seq, n)
		}
		if n < 5 {
			events.Publish("e", "", "")
			continue
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if n != 5 || !errors.Is(last, ctl.ErrUnreachable) {
		t.Errorf("%d events, then %v; want 5, then that the daemon stopped", n, last)
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	events := new(server.Events)
	c, _ := start(t, servertest.New(), events)
	events.Publish("e", "", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Events(ctx, 0, true) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}

func TestEventsLagged(t *testing.T) {
	path := serveRaw(t, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nid: 1\nevent: events.lagged\ndata: {\"seq\":1,\"type\":\"events.lagged\"}\n\n")
	var types []string
	var last error
	for e, err := range ctl.New(path).Events(t.Context(), 0, true) {
		types, last = append(types, e.Type), err
	}
	var refused *api.Error
	if len(types) != 2 || types[0] != api.EventLagged || !errors.As(last, &refused) || refused.Code != api.CodeUnavailable {
		t.Errorf("got %q, %v", types, last)
	}
}

func TestEventsNotUnderstood(t *testing.T) {
	path := serveRaw(t, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: nonsense\n\n")
	for _, err := range ctl.New(path).Events(t.Context(), 0, true) {
		var bad *api.Error
		if !errors.As(err, &bad) || bad.Code != api.CodeInternal {
			t.Errorf("got %v", err)
		}
	}
}
