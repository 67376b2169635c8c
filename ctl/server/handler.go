package server

import (
	"net/http"
	"runtime/debug"
	"time"

	"vswitch/internal/api"
)

// Handler returns the API as an http.Handler: what Serve serves. It may be called by many goroutines at once.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve answers one request, whatever happens in it, and writes the log.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	answer := &answer{ResponseWriter: w}
	defer func() {
		if p := recover(); p != nil {
			s.recovered(answer, r, p)
		}
		s.metrics.count(r.Method, answer.status)
		s.record(r, answer, time.Since(start))
	}()
	c := clientOf(r)
	if c != nil && c.refusal != "" {
		http.NewResponseController(w).SetReadDeadline(time.Now()) // its body, if it has one, stays unread
		w.Header().Set("Connection", "close")
		s.problem(answer, r, api.Errorf(api.CodeUnavailable, "%s", c.refusal))
		return
	}
	release, err := s.buffer(answer, r)
	defer release()
	if err != nil {
		s.problem(answer, r, err)
		return
	}
	s.handler.ServeHTTP(answer, r)
}

// recovered turns a panic into an answer. One in the middle of an answer can only cut the connection.
func (s *Server) recovered(w *answer, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // panicked with, not returned
		panic(p)
	}
	s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.problem(w, r, api.Errorf(api.CodeInternal, "the daemon failed on this request: its log says where"))
}

// record logs a request: one that would change something with who asked for what and what came of it, the others for debugging.
func (s *Server) record(r *http.Request, a *answer, took time.Duration) {
	if a.change == "" {
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", a.status, "took", took)
		return
	}
	what := []any{"verb", a.change, "method", r.Method, "path", r.URL.RequestURI(), "body", a.head, "status", a.status, "took", took,
		"peer", PeerOf(r.Context())}
	if a.err != nil {
		what = append(what, "err", a.err)
	}
	s.log.Info("change", what...)
}

// answer is a ResponseWriter that remembers what the log tells of a request.
type answer struct {
	http.ResponseWriter
	status int    // 0 while nothing is written
	change string // what the request would change; "" for a look
	head   string // how its body begins
	err    error  // what it was refused for
}

// WriteHeader sends the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
