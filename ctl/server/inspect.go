package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) flows(r *http.Request) (any, error) {
	return list(s.backend.Flows(r.Context(), r.URL.Query().Get("port")))
}

func (s *Server) flushFlows(r *http.Request) (any, error) {
	n, err := s.backend.FlushFlows(r.Context())
	return api.Flushed{Flushed: n}, err
}

func (s *Server) trace(r *http.Request) (any, error) {
	var request api.TraceRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	return s.backend.Trace(r.Context(), request)
}

func (s *Server) stats(r *http.Request) (any, error) { return s.backend.Stats(r.Context()) }

func (s *Server) drops(r *http.Request) (any, error) { return list(s.backend.Drops(r.Context())) }

func (s *Server) show(r *http.Request) (any, error) { return s.backend.Show(r.Context()) }

func (s *Server) daemon(r *http.Request) (any, error) { return s.backend.Daemon(r.Context()) }
