package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) connections(r *http.Request) (any, error) {
	f, err := connectionFilter(r)
	if err != nil {
		return nil, err
	}
	return listing[api.Connection](s.backend.Connections(r.Context(), f)), nil
}

func (s *Server) flushConnections(r *http.Request) (any, error) {
	f, err := connectionFilter(r)
	if err != nil {
		return nil, err
	}
	n, err := s.backend.FlushConnections(r.Context(), f)
	return api.Flushed{Flushed: n}, err
}

// connectionFilter reads the filter from the query.
func connectionFilter(r *http.Request) (f api.ConnectionFilter, err error) {
	q := r.URL.Query()
	for _, key := range api.ConnectionKeys {
		if !q.Has(key) {
			continue
		}
		if err := f.Set(key, q.Get(key)); err != nil {
			return f, err
		}
	}
	return f, nil
}
