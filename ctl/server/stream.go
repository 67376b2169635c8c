package server

import (
	"context"
	"fmt"
	"net/http"

	"vswitch/internal/api"
)

// stream answers /v1/events with server-sent events: the remembered ones and then, unless follow=false, each new one as it happens.
// It ends when the client leaves, the server stops, or the client does not read.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	since, err := number(r, "since", 64)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	follow, err := boolean(r, "follow", true)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if follow && r.Method != http.MethodHead {
		end, err := clientOf(r).stream()
		if err != nil {
			s.problem(w, r, err)
			return
		}
		defer end()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	setWriteDeadline(w, writeTime)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	conn := http.NewResponseController(w)
	if !follow {
		for _, e := range s.events.Backlog(since) {
			if sendEvent(w, e) != nil {
				return
			}
		}
		return
	}
	conn.Flush()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if serving, ok := ctx.Value(servingKey{}).(context.Context); ok {
		defer context.AfterFunc(serving, cancel)()
	}
	for e := range s.events.Subscribe(ctx, since) {
		if sendEvent(w, e) != nil || conn.Flush() != nil {
			return
		}
	}
}

func sendEvent(w http.ResponseWriter, e api.Event) error {
	body, err := encode(e) // one line: JSON has no raw newlines, and encode ends with one
	if err != nil {
		return err
	}
	setWriteDeadline(w, writeTime)
	_, err = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n", e.Seq, oneLine(e.Type), body)
	return err
}

// oneLine keeps a type that was published with a line break from forging a field of the stream.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	return string(b)
}
