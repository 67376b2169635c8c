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
		s.record(r, answer.status, time.Since(start))
	}()
	if err := buffer(answer, r); err != nil {
		s.problem(answer, r, err)
		return
	}
	if c, ok := r.Context().Value(clientKey{}).(*client); ok && c.over {
		w.Header().Set("Connection", "close")
		s.problem(answer, r, api.Errorf(api.CodeUnavailable, "%d clients are connected, which is the limit: try again later", maxClients))
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

// record logs a request: those that change something with who asked for it, the others for debugging.
func (s *Server) record(r *http.Request, status int, took time.Duration) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", status, "took", took)
		return
	}
	p := PeerOf(r.Context())
	s.log.Info("request", "method", r.Method, "path", r.URL.Path, "status", status, "took", took, "uid", p.UID, "pid", p.PID)
}

// answer is a ResponseWriter that remembers its status.
type answer struct {
	http.ResponseWriter
	status int // 0 while nothing is written
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
